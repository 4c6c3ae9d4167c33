"""The ledger of marks: the rows for which each account got a false label, and commitments to them."""

from defenses.watermarks.ledger.chain import Broken
from defenses.watermarks.ledger.commitment import Commitment, Opening
from defenses.watermarks.ledger.ledger import MarkLedger
from defenses.watermarks.ledger.marks import Mark, WatermarkParameters, encode_rows

__all__ = ["Broken", "Commitment", "Mark", "MarkLedger", "Opening", "WatermarkParameters", "encode_rows"]
