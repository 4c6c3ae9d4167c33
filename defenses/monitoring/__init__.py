"""What lets detectors watch a served model."""
