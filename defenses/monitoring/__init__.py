"""The machinery that runs detectors at a served model."""
