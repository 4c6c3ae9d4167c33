"""Amounts of money: the wire counts in micro-cents, people read units of the currency."""

MICRO = 10**8  # micro-cents in one unit of the currency


def in_currency(amount: int) -> str:
    """Formats micro-cents in units of the currency, with four decimals."""
    return f"{amount / MICRO:.4f}"
