"""The wire protocols."""

from server.protocols import open_inference, v1
from server.protocols.protocol import WireProtocol

PROTOCOLS: tuple[WireProtocol, ...] = (open_inference, v1)
