"""The prediction API: victims behind defences, over HTTP."""
