"""What an account may know of itself, and what an operator may do with accounts, keys and defence stacks."""

from __future__ import annotations

import tomllib
from typing import Annotated, Any

import tomli_w
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from defenses.admission.admission import ledgers
from defenses.admission.price import ENTRIES
from server.control.log import Account
from server.deployment import service as served
from server.deployment.service import Service
from server.deployment.stack import price_of
from server.http.openapi import KEYED, NAMED
from server.settings import defense_of, faults
from wire import BadInput, Malformed, Refused
from wire.tensors import read_json

router = APIRouter(responses=KEYED)
admin = APIRouter(prefix="/admin", tags=["Administration"], responses=NAMED)

MOST_STACK = 16384  # bytes of a stack: what is nested deeply takes long to read


class NewAccount(BaseModel):
    """An account to be made."""

    name: str = Field(examples=["alice"])
    plan: str = Field(examples=["attacker"])


class OtherPlan(BaseModel):
    """The plan that an account is put on."""

    plan: str = Field(examples=["attacker"])


class Planned(OtherPlan):
    """An account's plan."""

    name: str = Field(examples=["alice"])


class Keyed(BaseModel):
    """A key, which cannot be had again."""

    name: str = Field(examples=["alice"])
    key: str = Field(examples=["mlr_..."])


class Made(Planned, Keyed):
    """A new account."""


class Keys(BaseModel):
    """The ids of an account's keys."""

    keys: list[str] = Field(examples=[["0f3a9c2b71de"]])


class Revoked(BaseModel):
    """How many keys were revoked."""

    revoked: int = Field(examples=[1])


class Event(BaseModel):
    """What an administrator did; what it was done with depends on what was done."""

    model_config = ConfigDict(extra="allow")

    do: str = Field(examples=["create account"])
    by: str = Field(examples=["root"])
    at: float = Field(description="Seconds since the epoch.", examples=[1763733600.0])


class Stack(BaseModel):
    """A victim's defence stack, outermost first: the tables of the server's TOML."""

    defenses: list[dict[str, Any]] = Field(
        examples=[[{"type": "rate_limit", "rows_per_second": 100, "burst": 2000}]]
    )


class Prices(BaseModel):
    """What rows and requests cost, in micro-cents (10^-8 of the currency's unit)."""

    per_row: int = Field(examples=[10000])
    per_request: int = Field(examples=[0])


class Ledger(BaseModel):
    """What was answered, and what it cost in micro-cents."""

    rows: int = Field(examples=[640])
    requests: int = Field(examples=[10])
    micro_cents: int = Field(examples=[6400000])


class Statement(Ledger):
    """What an account used, over all models together and by model."""

    account: str = Field(examples=["alice"])
    plan: str = Field(examples=["attacker"])
    prices: Prices | None
    models: dict[str, Ledger]
    rows_left: dict[str, int] = Field(
        description="Rows that each limit still lets pass.",
        examples=[{"victim/rate_limit": 4000, "victim/quota": 99360}],
    )


async def _administrator(request: Request) -> Account:
    here = served.of(request)
    account = await here.enter(request.headers.get("Authorization"))
    plan = here.settings.plans.get(account.plan)
    if plan is None or not plan.admin:
        raise Refused("this needs the key of an account whose plan is an administrator's", status=403)
    return account


async def _named(name: str, request: Request, by: Annotated[Account, Depends(_administrator)]) -> str:
    known = [account.name for account in served.of(request).registry.accounts()]
    if name not in known:
        raise Refused(f"there is no account {name!r}", status=404)
    return name


Administrator = Annotated[Account, Depends(_administrator)]
Named = Annotated[str, Depends(_named)]
Here = Annotated[Service, Depends(served.of)]


@router.get("/v1/account", tags=["Account"])
async def account(request: Request) -> Statement:
    """Tells rows used, money spent (in micro-cents, 10^-8 of the currency's unit) and limits left."""
    here = served.of(request)
    return await _statement(here, await here.enter(request.headers.get("Authorization")))


@admin.get("/accounts")
async def all_accounts(by: Administrator, here: Here) -> list[Statement]:
    """Lists all accounts with what they used."""
    return [await _statement(here, known) for known in here.registry.accounts()]


@admin.post("/accounts", status_code=201)
async def create_account(new: NewAccount, by: Administrator, here: Here) -> Made:
    """Makes an account, and tells its key, once."""
    _known_plan(here, new.plan)
    return Made(name=new.name, plan=new.plan, key=await here.registry.create(new.name, new.plan, by.name))


@admin.put("/accounts/{name}/plan")
async def set_plan(name: Named, other: OtherPlan, by: Administrator, here: Here) -> Planned:
    """Puts an account on another plan, from its next request on."""
    _known_plan(here, other.plan)
    await here.registry.set_plan(name, other.plan, by.name)
    return Planned(name=name, plan=other.plan)


@admin.get("/accounts/{name}/keys")
async def keys(name: Named, by: Administrator, here: Here) -> Keys:
    """Lists the ids of an account's keys."""
    return Keys(keys=here.registry.keys_of(name))


@admin.post("/accounts/{name}/keys", status_code=201)
async def add_key(name: Named, by: Administrator, here: Here) -> Keyed:
    """Gives an account a further key, and tells it, once."""
    return Keyed(name=name, key=await here.registry.add_key(name, by.name))


@admin.post("/accounts/{name}/keys/rotate", status_code=201)
async def rotate(name: Named, by: Administrator, here: Here) -> Keyed:
    """Gives an account a new key, tells it, once, and revokes all its others."""
    return Keyed(name=name, key=await here.registry.rotate(name, by.name))


@admin.delete("/accounts/{name}/keys")
async def revoke_all(name: Named, by: Administrator, here: Here) -> Revoked:
    """Revokes all keys of an account."""
    return Revoked(revoked=await here.registry.revoke(name, by.name))


@admin.delete("/accounts/{name}/keys/{key}")
async def revoke(name: Named, key: str, by: Administrator, here: Here) -> Revoked:
    """Revokes one key of an account, named by its id."""
    return Revoked(revoked=await here.registry.revoke(name, by.name, only=key))


_TOML = {
    "schema": {"type": "string"},
    "example": '[[defenses]]\ntype = "rate_limit"\nrows_per_second = 100\nburst = 2000\n',
}


@admin.get("/audit")
async def audit(by: Administrator, here: Here) -> list[Event]:
    """Tells what administrators did, the last event last."""
    return [Event.model_validate(event) for event in here.registry.state.audit]


@admin.get(
    "/models/{model}/defenses", response_model=Stack, responses={200: {"content": {"application/toml": _TOML}}}
)
async def defenses(model: str, request: Request, by: Administrator, here: Here) -> Any:
    """Tells the defence stack of a victim that is in force: JSON, or what the server's TOML would say."""
    stack = {"defenses": list(here.stack(model))}
    if "toml" in request.headers.get("Accept", ""):
        return Response(tomli_w.dumps(stack), media_type="application/toml")
    return stack


_STACK_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Stack"}},
            "application/toml": _TOML,
        },
    }
}


@admin.put("/models/{model}/defenses", response_model=Stack, openapi_extra=_STACK_BODY)
async def replace_defenses(model: str, request: Request, by: Administrator, here: Here) -> Any:
    """Replaces a victim's whole defence stack while it serves, for all workers at once."""
    here.stack(model)  # whether there is such a model
    stack = await _read_stack(request)
    for layer in stack:
        defense_of(layer)
    await here.try_out(model, here.deployment(model, stack))  # whether it contradicts itself, or the past
    await here.registry.replace_stack(model, stack, by.name)
    return {"defenses": stack}


@admin.delete("/models/{model}/defenses", response_model=Stack)
async def restore_defenses(model: str, by: Administrator, here: Here) -> Any:
    """Puts the configured defence stack of a victim back in force."""
    here.stack(model)
    await here.registry.replace_stack(model, None, by.name)
    return {"defenses": list(here.stack(model))}


async def _read_stack(request: Request) -> list[dict[str, Any]]:
    body = await request.body()
    if len(body) > MOST_STACK:
        raise Refused(f"a stack of {len(body)} bytes; at most {MOST_STACK} are read", status=413)
    try:
        if "toml" in request.headers.get("Content-Type", ""):
            given = tomllib.loads(body.decode())
        else:
            given = read_json(body)
        return Stack.model_validate(given).defenses
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Malformed(f"the TOML is broken: {error}") from None
    except ValidationError as error:
        raise Malformed(f"not a stack: {faults(error)}") from None


def _known_plan(here: Service, plan: str) -> None:
    if plan not in here.settings.plans:
        raise BadInput(f"no plan {plan!r}; there are {', '.join(here.settings.plans)}")


async def _statement(here: Service, known: Account) -> Statement:
    levels = await here.store.levels(known.name)
    ledger = ledgers(levels)
    now = here.clock()
    left: dict[str, int] = {}
    for deployed in here.of_plan(known.plan).values():
        left |= deployed.admission.left(levels, now)
    price = price_of(here.settings.plans[known.plan]) if known.plan in here.settings.plans else None
    return Statement(
        account=known.name,
        plan=known.plan,
        prices=None if price is None else Prices(per_row=price.per_row, per_request=price.per_request),
        **{entry: sum(entries[entry] for entries in ledger.values()) for entry in ENTRIES},
        models={model: Ledger(**entries) for model, entries in ledger.items()},
        rows_left=left,
    )


router.include_router(admin)
