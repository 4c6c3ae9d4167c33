"""The owner's public log: an append-only Merkle tree of commitments with signed heads."""
