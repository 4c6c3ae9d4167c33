"""An account's own statement: rows, money and limits."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from defenses.admission.admission import ledgers, token_ledgers, unanswered
from defenses.admission.price import ENTRIES
from server.control.accounts import Account
from server.deployment.service import Service
from server.deployment.stack import price_of
from server.http.openapi import KEYED
from server.routes.access import ServiceDep

router = APIRouter(tags=["Account"], responses=KEYED)


class Prices(BaseModel):
    """The prices of rows, requests and tokens, in micro-cents (10^-8 of the currency's unit)."""

    per_row: int = Field(examples=[10000])
    per_request: int = Field(examples=[0])
    per_prompt_token: int = Field(examples=[100])
    per_completion_token: int = Field(examples=[400])


class TokenLedger(BaseModel):
    """The tokens that a language model read and generated."""

    prompt_tokens: int = Field(0, examples=[120])
    completion_tokens: int = Field(0, examples=[640])


class Ledger(BaseModel):
    """The answered rows and requests, and their price in micro-cents."""

    rows: int = Field(examples=[640])
    requests: int = Field(examples=[10])
    micro_cents: int = Field(examples=[6400000])


class Statement(Ledger):
    """The usage of an account, over all models together and by model."""

    account: str = Field(examples=["alice"])
    plan: str = Field(examples=["attacker"])
    prices: Prices | None
    models: dict[str, Ledger]
    tokens: dict[str, TokenLedger] = Field(description="Of language models, the tokens.")
    unanswered: Ledger = Field(
        description="The part that is charged and not recorded as answered: requests without an id that are in "
        "progress, or that a killed server left behind. An administrator can refund the latter."
    )
    rows_left: dict[str, int] = Field(
        description="Rows, or tokens, that each limit still lets pass.",
        examples=[{"victim/rate_limit": 4000, "victim/quota": 99360}],
    )


@router.get("/v1/account")
async def account(request: Request, service: ServiceDep) -> Statement:
    """Returns rows used, money spent (in micro-cents, 10^-8 of the currency's unit) and limits left."""
    caller = await service.enter(request.headers.get("Authorization"))
    return await statement(service, caller.account)


async def statement(service: Service, account: Account) -> Statement:
    """Returns an account's statement."""
    levels = await service.store.levels(account.name)
    ledger = ledgers(levels)
    unfinished = unanswered(await service.store.open_charges(), account.name)
    now = service.clock()
    left: dict[str, int] = {}
    admissions = [deployed.admission for deployed in service.of_plan(account.plan).values()]
    admissions += [spoken.admission for spoken in service.languages.of_plan(account.plan)]
    for admission in admissions:
        left |= admission.left(levels, now)
    price = price_of(service.settings.plans[account.plan]) if account.plan in service.settings.plans else None
    return Statement(
        account=account.name,
        plan=account.plan,
        prices=None if price is None else Prices(**asdict(price)),
        **_total(ledger),
        unanswered=Ledger(**_total(unfinished)),
        models={model: Ledger(**entries) for model, entries in ledger.items()},
        tokens={model: TokenLedger(**entries) for model, entries in token_ledgers(levels).items()},
        rows_left=left,
    )


def _total(models: dict[str, dict[str, int]]) -> dict[str, int]:
    return {entry: sum(entries[entry] for entries in models.values()) for entry in ENTRIES}
