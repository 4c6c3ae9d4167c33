"""Where tests bind defences."""

from defenses import Consequence, Monitored, Site, compose
from defenses.reactions.alarm import Alarmed
from wire import Answer, Card, Query

KEY = b"k" * 16


def site(card=None, *, model="m", fingerprint="00", secret=KEY, store=None, alarms=None, companions=None):
    return Site(model, card or Card(model, (4,), 5), fingerprint, secret, store, alarms, companions)


def watching(detector, kind, store, alarms, card=None, companions=None, **consequence):
    """Binds a detector's monitor."""
    monitored = Monitored(detector, kind, Consequence(**consequence))
    return monitored.bind(site(card, store=store, alarms=alarms, companions=companions))


def bound(*defenses, at=None):
    """Binds defences, outermost first; each has a key of its own, whatever stands outside it."""
    if at is not None:
        return [defense.bind(at) for defense in defenses]
    keys = [KEY + bytes([i]) for i in range(len(defenses))]
    return [defense.bind(site(secret=key)) for defense, key in zip(defenses, reversed(keys), strict=True)]


async def observed(monitor, query, victim):
    """Returns what a monitor answers, whether or not an alarm concerns the query."""
    try:
        return await monitor(query, victim)
    except Alarmed as alarmed:
        return alarmed.answer


async def ask(layers, x, probs, account="a"):
    async def victim(query):
        return Answer(probs.argmax(axis=1), probs)

    return await compose(layers, victim)(Query(account, x, 0.0))
