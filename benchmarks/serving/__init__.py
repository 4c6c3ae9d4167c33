"""The server's speed beside raw forward passes and other model servers, in interleaved rounds."""
