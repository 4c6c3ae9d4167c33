"""Tests of published claims: ``python -m experiments reproduce B1 B2 C4 --json FILE``.

A claim is a frozen dataclass whose fields are the sizes of its protocol; it names its id, its statement and its
source (:class:`~experiments.claims.claim.Claim`). Its one verb, ``run(lab)``, plays the protocol between parties
that know one another by URL and key. It returns :class:`~experiments.claims.claim.Findings`: each number beside
the published one and a trivial baseline. :mod:`~experiments.lab` provides data, victims, servers and accounts. One
line in ``CLAIMS`` of :mod:`~experiments.claims.command` adds a claim to the command.
"""
