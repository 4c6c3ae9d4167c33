"""DAWN's key K_w: which inputs are marked (W_V), and their false labels (B_V)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence


class WatermarkKey:
    """K_w: decides which mapped inputs are marked, and gives their false labels."""

    def __init__(self, secret: bytes) -> None:
        """Derives the keys for decision and label."""
        self._decision, self._label = (
            hmac.digest(secret, use, "sha256") for use in (b"dawn decision", b"dawn label")
        )
        self.commitment = hashlib.sha256(b"dawn key\n" + secret).hexdigest()  # 256 random bits cannot be guessed

    def marked(self, rate: float, form: str, points: Sequence[bytes]) -> list[int]:
        """Returns the indices of mapped inputs with W_V = 1; ``form`` is their common form."""
        prefix, threshold = form.encode() + b"\n", int(rate * 2**128).to_bytes(16, "big")
        return [
            i
            for i, point in enumerate(points)
            if hmac.digest(self._decision, prefix + point, "sha256") < threshold
        ]

    def false_label(self, form: str, point: bytes, victim_label: int, classes: int) -> int:
        """Returns B_V of a mapped input: one of ``classes`` labels, never the victim's."""
        mac = hmac.digest(self._label, form.encode() + b"\n" + point, "sha256")
        drawn = int.from_bytes(mac[:16], "big") % (classes - 1)
        return drawn + (drawn >= victim_label)
