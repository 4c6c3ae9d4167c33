"""How fast the server is, beside raw forward and beside other model servers, in interleaved rounds."""
