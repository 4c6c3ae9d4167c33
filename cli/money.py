"""Amounts of money: micro-cents on the wire, units of the currency for people."""

MICRO = 10**8  # micro-cents in one unit of the currency


def in_currency(amount: int) -> str:
    """Formats micro-cents as units of the currency, with four decimals."""
    return f"{amount / MICRO:.4f}"
