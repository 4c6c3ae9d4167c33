"""Where the parties meet: experiments, metrics and reports."""
