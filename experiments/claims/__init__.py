"""Published claims put to the test: ``python -m experiments reproduce B1 B2 C4 --json FILE``.

A claim is one module: a frozen dataclass whose fields are the sizes of its protocol, with the id of the claim,
what it says and who says so (:class:`~experiments.claims.claim.Claim`). Its one verb, ``run(lab)``, plays the
protocol between parties that know one another by URL and key, and returns
:class:`~experiments.claims.claim.Findings`: each number beside the published one and a trivial baseline.
:mod:`~experiments.lab` has what protocols share: data, victims, servers, accounts. One line in ``CLAIMS``
of :mod:`~experiments.claims.command` adds a claim to the command.
"""
