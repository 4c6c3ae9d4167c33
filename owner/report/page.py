"""Renders evidence, and a judgement of it, as one self-contained page (HTML)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from scipy.stats import norm

from cli.money import in_currency
from owner.evidence import Evidence
from owner.judgement import Judgement
from owner.twins.ranks import Ranks
from zoo.exact_interval import exact_interval

MEASURED = (
    "400 independent models, each against 45 victims (small models, Fashion-MNIST), with the line of eight models "
    "of a judge: 0.23 % of pairs accused at 1 %, and 2.8 % by the worst victim; without the line 2.2 % and 27 % "
    "(docs/ownership.md)."
)
TICKS = (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 300)
WIDTH, LEFT, ROW = 720, 170, 30  # of the figure, in pixels


def page(evidence: Evidence[Any], judgement: Judgement | None = None) -> str:
    """Returns the page.

    Args:
        evidence: The evidence of a twin test or of selected inference.
        judgement: The judgement of this evidence; None before there is one.

    Raises:
        BadInput: The judgement is of other evidence.
    """
    environment = Environment(
        loader=PackageLoader("owner.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"p": _p, "money": in_currency, "count": "{:,}".format}
    if judgement is not None:
        judgement.check_of(evidence)
    details, found = evidence.details, judgement.found if judgement else None
    twin = isinstance(details, Ranks)
    innocent = len(details.independent)
    return environment.get_template("page.html").render(
        evidence=evidence,
        details=details,
        twin=twin,
        tries=int(evidence.settings["tries"]),
        receipt=evidence.receipt,
        judgement=judgement,
        found=found,
        measured=MEASURED,
        innocent=innocent,
        interval=exact_interval(details.independent_accused, innocent) if innocent else None,
        figure=z_figure(*_points(evidence.plain(), found)),
    )


def _points(
    owner: dict[str, Any], judge: dict[str, Any] | None
) -> tuple[list[tuple[str, list[float]]], float | None]:
    """Returns rows of z by name, and the line that the suspect must exceed: the judge's, if there is one."""
    rows, limit = list[tuple[str, list[float]]](), None
    for who, found in (("owner", owner), ("judge", judge)):
        if found is None:
            continue
        details, independent = found["details"], list(found["details"]["independent"].values())
        rows.append((f"suspect ({who})", [details["z"]]))
        if "limit" in details:
            limit = details["limit"]
        else:  # selected inference has p-values of independent models
            independent = norm.isf(np.clip(independent, 1e-12, 1 - 1e-12)).tolist()
            tries = found["settings"]["tries"] * details["commitments"]
            limit = float(norm.isf(found["alpha"] / tries))
        if independent:
            rows.append((f"controls ({who})", independent))
    return rows, limit


def z_figure(rows: Sequence[tuple[str, Sequence[float]]], limit: float | None) -> Markup:
    """Draws z of suspect and controls, with the line that z must exceed; the axis is logarithmic beyond 1.

    Args:
        rows: Names, each with its values.
        limit: The line; None without one.
    """
    values = [z for _, of in rows for z in of] + [0.0, 5.0 if limit is None else limit]
    low, high = np.arcsinh(min(values)) - 0.4, np.arcsinh(max(values)) + 0.4
    bottom = ROW * len(rows) + 12

    def place(z: float) -> float:
        return float(LEFT + (WIDTH - LEFT - 10) * (np.arcsinh(z) - low) / (high - low))

    parts = [f'<svg viewBox="0 0 {WIDTH} {bottom + 44}" role="img" aria-label="z of the suspect and of controls">']
    for z in TICKS:
        if low <= np.arcsinh(z) <= high:
            x, text = place(z), f"{z}".replace("-", "−")
            parts.append(f'<path class="grid" d="M{x:.1f} 0V{bottom}"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>')
    for row, (name, of) in enumerate(rows):
        y, kind = ROW * row + 20, "suspect" if name.startswith("suspect") else "control"
        parts.append(f'<text x="0" y="{y + 4}">{escape(name)}</text>')
        parts += [
            f'<circle class="{kind}" cx="{place(z):.1f}" cy="{y}" r="5"><title>{z:.2f}</title></circle>'
            for z in of
        ]
    if limit is not None:
        parts.append(f'<path class="limit" d="M{place(limit):.1f} 0V{bottom}"><title>{limit:.2f}</title></path>')
    parts.append(f'<text x="{LEFT}" y="{bottom + 38}">z: standard deviations above what chance gives</text></svg>')
    return Markup("".join(parts))


def _p(p: float) -> str:
    """Writes a p-value as one in so many, without a precision that no approximation has."""
    if p < 1e-6:
        return "less than 1 in a million"
    return f"1 in {1 / p:,.0f}" if p < 0.1 else f"{p:.2f}"
