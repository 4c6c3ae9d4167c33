"""Timestamps of a signed head by an authority (RFC 3161), which show when the head existed at the latest.

They need the extra ``timestamps``. The request names the SHA-256 of the head's signature, so that the authority
learns nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509

from owner.log.head import Head
from wire import BadInput, Unreachable
from wire.files import TEXT, read_bytes

MOST = 2**20  # bytes of an authority's response


def stamped(head: Head, url: str) -> Head:
    """Returns a head with the timestamp of an authority at a URL, whose certificate is not checked here.

    Raises:
        BadInput: The extra is not installed.
        Unreachable: The authority did not grant a timestamp.
    """
    tsp = _library()
    request = tsp.TimestampRequestBuilder().data(_message(head)).hash_algorithm(tsp.HashAlgorithm.SHA256).build()
    try:
        reply = httpx.post(
            url,
            content=request.as_bytes(),
            headers={"Content-Type": "application/timestamp-query"},
            timeout=60.0,
        )
        reply.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(f"{url}: {error}") from None
    try:
        response = tsp.decode_timestamp_response(reply.content[:MOST])
        granted = (response.tst_info.nonce, response.tst_info.message_imprint.message)
    except ValueError as error:
        raise Unreachable(f"{url}: no timestamp was granted ({error})") from None
    if granted != (request.nonce, request.message_imprint.message):
        raise Unreachable(f"{url}: the timestamp answers another request")
    return replace(head, timestamp=response.as_bytes())


def time_of(head: Head, authority: Path) -> datetime:
    """Returns the time that an authority certified.

    Args:
        head: The head, with its timestamp.
        authority: File of the authority's root certificates (PEM), and of intermediate ones that the timestamp
            lacks.

    Raises:
        BadInput: There is no timestamp, or the authority did not make it for this head.
    """
    tsp = _library()
    if head.timestamp is None:
        raise BadInput(f"the head of {head.size} entries has no timestamp")
    try:
        certificates = x509.load_pem_x509_certificates(read_bytes(authority, TEXT))
    except (OSError, ValueError):
        raise BadInput(f"{authority}: not a file of certificates (PEM)") from None
    builder = tsp.VerifierBuilder()
    for certificate in certificates:
        own = certificate.issuer == certificate.subject
        builder = (builder.add_root_certificate if own else builder.add_intermediate_certificate)(certificate)
    try:
        response = tsp.decode_timestamp_response(head.timestamp)
        builder.build().verify(response, hashlib.sha256(_message(head)).digest())
    except (ValueError, tsp.VerificationError) as error:
        raise BadInput(f"the timestamp of the head of {head.size} entries is not valid: {error}") from None
    when: datetime = response.tst_info.gen_time
    return when


def _message(head: Head) -> bytes:
    return bytes.fromhex(head.signature)


def _library() -> Any:
    try:
        import rfc3161_client
    except ImportError:
        raise BadInput("timestamps need the extra: pip install 'mlaas-range[timestamps]'") from None
    return rfc3161_client
