"""Accounts, keys and the audit, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from server.deployment.service import Service
from server.http.openapi import NAMED
from server.routes.access import Administrator, AdminRoute, ServiceDep
from server.routes.account import Statement, statement
from wire import BadInput, Refused

router = APIRouter(prefix="/admin", tags=["Administration"], route_class=AdminRoute, responses=NAMED)


class NewAccount(BaseModel):
    """An account to create."""

    name: str = Field(examples=["alice"])
    plan: str = Field(examples=["attacker"])
    payment: str | None = Field(
        None, description="A token for who pays; only a hash of it is kept.", examples=["cus_9s6XKzkNRiz8i3"]
    )


class OtherPlan(BaseModel):
    """The plan to put an account on."""

    plan: str = Field(examples=["attacker"])


class Planned(OtherPlan):
    """An account's plan."""

    name: str = Field(examples=["alice"])


class Keyed(BaseModel):
    """A key; it is shown only this once."""

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
    """An administrator's or a detector's act; its further members depend on what was done."""

    model_config = ConfigDict(extra="allow")

    do: str = Field(examples=["create account"])
    by: str = Field(examples=["root"])
    at: float = Field(description="Seconds since the epoch.", examples=[1763733600.0])


async def _named(name: str, by: Administrator, service: ServiceDep) -> str:
    if name not in [account.name for account in service.control.accounts.all()]:
        raise Refused(f"there is no account {name!r}", status=404)
    return name


Named = Annotated[str, Depends(_named)]


@router.get("/accounts")
async def all_accounts(by: Administrator, service: ServiceDep) -> list[Statement]:
    """Lists all accounts with their usage."""
    return [await statement(service, account) for account in service.control.accounts.all()]


@router.post("/accounts", status_code=201)
async def create_account(new: NewAccount, by: Administrator, service: ServiceDep) -> Made:
    """Creates an account, and returns its key, only this once."""
    _known_plan(service, new.plan)
    key = await service.control.accounts.create(new.name, new.plan, by.name, new.payment)
    return Made(name=new.name, plan=new.plan, key=key)


@router.put("/accounts/{name}/plan")
async def set_plan(name: Named, other: OtherPlan, by: Administrator, service: ServiceDep) -> Planned:
    """Puts an account on another plan, from its next request on."""
    _known_plan(service, other.plan)
    await service.control.accounts.set_plan(name, other.plan, by.name)
    return Planned(name=name, plan=other.plan)


@router.get("/accounts/{name}/keys")
async def keys(name: Named, by: Administrator, service: ServiceDep) -> Keys:
    """Lists the ids of an account's keys."""
    return Keys(keys=service.control.accounts.keys_of(name))


@router.post("/accounts/{name}/keys", status_code=201)
async def add_key(name: Named, by: Administrator, service: ServiceDep) -> Keyed:
    """Gives an account a further key, and returns it, only this once."""
    return Keyed(name=name, key=await service.control.accounts.add_key(name, by.name))


@router.post("/accounts/{name}/keys/rotate", status_code=201)
async def rotate(name: Named, by: Administrator, service: ServiceDep) -> Keyed:
    """Gives an account a new key, returns it, only this once, and revokes all its others."""
    return Keyed(name=name, key=await service.control.accounts.rotate(name, by.name))


@router.delete("/accounts/{name}/keys")
async def revoke_all(name: Named, by: Administrator, service: ServiceDep) -> Revoked:
    """Revokes all keys of an account."""
    return Revoked(revoked=await service.control.accounts.revoke(name, by.name))


@router.delete("/accounts/{name}/keys/{key}")
async def revoke(name: Named, key: str, by: Administrator, service: ServiceDep) -> Revoked:
    """Revokes one key of an account, named by its id."""
    return Revoked(revoked=await service.control.accounts.revoke(name, by.name, only=key))


@router.get("/audit")
async def audit(by: Administrator, service: ServiceDep) -> list[Event]:
    """Lists what administrators and detectors did, oldest first."""
    return [Event.model_validate(event) for event in service.control.audit]


def _known_plan(service: Service, plan: str) -> None:
    if plan not in service.settings.plans:
        raise BadInput(f"no plan {plan!r}; there are {', '.join(service.settings.plans)}")
