"""What an account may know of itself, and what an operator may do with accounts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from defenses.store import Document
from server import range as served
from server.accounts import Account
from server.pipeline import price_of
from server.range import Range
from server.routes.inference import REFUSALS
from wire import BadInput, Refused

router = APIRouter(responses=REFUSALS)

_ENTRIES = ("rows", "requests", "micro_cents")


class NewAccount(BaseModel):
    """An account to be made."""

    name: str
    plan: str


async def _administrator(request: Request) -> Range:
    here = served.of(request)
    plan = here.settings.plans.get((await here.enter(request)).plan)
    if plan is None or not plan.admin:
        raise Refused("this needs the key of an account whose plan is an administrator's", status=403)
    return here


@router.get("/v1/account", tags=["Account"])
async def account(request: Request) -> dict[str, Any]:
    """Tells rows used, money spent (in micro-cents, 10^-8 of the currency's unit) and limits left."""
    here = served.of(request)
    return await _statement(here, await here.enter(request))


@router.get("/admin/accounts", tags=["Administration"])
async def all_accounts(here: Annotated[Range, Depends(_administrator)]) -> list[dict[str, Any]]:
    """Lists all accounts with what they used."""
    return [await _statement(here, known) for known in await here.accounts.all()]


@router.post("/admin/accounts", tags=["Administration"], status_code=201)
async def create_account(new: NewAccount, here: Annotated[Range, Depends(_administrator)]) -> dict[str, str]:
    """Makes an account, and tells its key, once."""
    if new.plan not in here.settings.plans:
        raise BadInput(f"no plan {new.plan!r}; there are {', '.join(here.settings.plans)}")
    return {"name": new.name, "plan": new.plan, "key": await here.accounts.create(new.name, new.plan)}


@router.get("/admin/models/{model}/defenses", tags=["Administration"])
async def defenses(here: Annotated[Range, Depends(_administrator)], model: str) -> list[dict[str, Any]]:
    """Tells a victim's defence stack, outermost first, as it is configured."""
    for victim in here.settings.victims:
        if victim.name == model:
            return list(victim.defenses)
    raise Refused(f"no model {model!r} here; there are {', '.join(here.deployed)}", status=404)


async def _statement(here: Range, known: Account) -> dict[str, Any]:
    usage: Document = await here.accounts.usage(known.name)
    states: dict[str, Any] = usage.get("models", {})
    ledgers = {model: {**dict.fromkeys(_ENTRIES, 0), **state.get("ledger", {})} for model, state in states.items()}
    now = here.clock()
    rows_left = {
        model: {limit.name: limit.left(states.get(model, {}).get(limit.name, {}), now) for limit in limits}
        for model, plans in here.deployed.items()
        if known.plan in plans and (limits := plans[known.plan].admission.limits)
    }
    price = price_of(here.settings.plans[known.plan]) if known.plan in here.settings.plans else None
    return {
        "account": known.name,
        "plan": known.plan,
        "prices": None if price is None else {"per_row": price.per_row, "per_request": price.per_request},
        **{entry: sum(ledger[entry] for ledger in ledgers.values()) for entry in _ENTRIES},
        "models": ledgers,
        "rows_left": rows_left,
    }
