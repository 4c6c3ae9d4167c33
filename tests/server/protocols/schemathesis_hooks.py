"""What schemathesis is told of our server: how a body of TOML is written."""

import schemathesis


@schemathesis.serializer("application/toml")
def toml(context, value):
    return value.encode() if isinstance(value, str) else b"defenses = 3"
