"""Headers about limits, ours and OpenAI's."""

from __future__ import annotations

from wire.ratelimit import Limits, answer_headers


def limit_headers(limits: Limits) -> dict[str, str]:
    """Returns the headers of limits, ours and OpenAI's: of the one with the fewest tokens left."""
    told = {name.decode(): value.decode() for name, value in answer_headers(limits)}
    if limits.policies:
        policy, left = min(zip(limits.policies, limits.remaining, strict=True), key=lambda pair: pair[1].rows)
        told["x-ratelimit-limit-tokens"] = str(policy.quota)
        told["x-ratelimit-remaining-tokens"] = str(left.rows)
        if left.reset is not None:
            told["x-ratelimit-reset-tokens"] = f"{left.reset}s"
    return told
