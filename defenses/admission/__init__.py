"""Before the victim: who may ask how much, and what it costs."""
