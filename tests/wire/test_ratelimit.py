"""The headers of limits, written and read by one file."""

import httpx
import pytest

from wire import Refused
from wire.ratelimit import (
    Limits,
    Policy,
    Remaining,
    answer_headers,
    policy_name,
    read_refusal,
    refusal_headers,
)


def test_an_answer_lists_its_limits_in_order():
    limits = Limits((Policy("rows", 20, 2), Policy("total", 100)), (Remaining(5, 1), Remaining(0)))
    assert answer_headers(limits) == [
        (b"ratelimit-policy", b'"rows";q=20;w=2, "total";q=100'),
        (b"ratelimit", b'"rows";r=5;t=1, "total";r=0'),
    ]
    assert answer_headers(Limits()) == []


@pytest.mark.parametrize(
    ("refused", "headers", "read"),
    [
        (
            Refused("", status=429, retry_after=1.2, left=3, policy='"rows";q=20;w=2'),
            {"Retry-After": "2", "RateLimit-Policy": '"rows";q=20;w=2', "RateLimit": '"rows";r=3;t=2'},
            (2.0, 3),
        ),
        (
            Refused("", left=0, policy='"total";q=9'),
            {"RateLimit-Policy": '"total";q=9', "RateLimit": '"total";r=0'},
            (None, 0),
        ),
        (Refused("", status=503, retry_after=0.1), {"Retry-After": "1"}, (1.0, None)),
        (Refused(""), {}, (None, None)),
    ],
)
def test_a_client_reads_what_a_server_writes(refused, headers, read):
    assert refusal_headers(refused) == headers
    assert read_refusal(httpx.Headers({name.lower(): value for name, value in headers.items()})) == read
    assert policy_name(refused) == (
        headers.get("RateLimit-Policy", "").partition('"')[2].partition('"')[0] or None
    )


def test_a_foreign_servers_headers_are_read_as_far_as_they_go():
    foreign = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "RateLimit": '"a"; r=7;t=1, "b";r=4'}
    assert read_refusal(httpx.Headers(foreign)) == (None, 4)
