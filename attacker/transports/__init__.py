"""Transports, which carry the rows of any attack to its victim.

An attack asks one oracle. Between it and the oracles of the accounts may stand two others:
:class:`~attacker.transports.disguised.Disguised` asks about a row several times (averaged) or sends dummies along
(padded), and :class:`~attacker.transports.split.Split` spreads rows over the accounts of several keys. The oracle
of an account waits when the server asks for it (:class:`~wire.patient.Patient`), and may send slowly, with pauses
of irregular length (:class:`~attacker.transports.paced.Paced`). Only these oracles bill, so a row counts as often
as it was sent, whatever the attack has of it.
"""
