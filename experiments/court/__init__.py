"""All schemes of ownership before one court: the same suspects, the same judge, the same cheating accuser."""
