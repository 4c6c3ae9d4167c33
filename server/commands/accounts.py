"""``python -m server accounts ...``: accounts and keys; a server that runs sees the changes at once."""

from __future__ import annotations

from pathlib import Path

from cli.keys import read_key
from cli.money import in_currency
from defenses.admission.admission import unanswered
from defenses.admission.price import TOKENS
from defenses.store import open_store
from server.control.accounts import OPERATOR, Account, Accounts
from server.control.log import ControlLog
from server.settings import Settings
from wire import BadInput


async def administrate(settings: Settings, do: str, arguments: dict[str, object]) -> None:
    """Runs a command.

    Raises:
        BadInput: There is no such account, plan or key, or there is one already.
    """
    name, plan, key = (str(arguments.get(field)) for field in ("name", "plan", "key"))
    if do in ("create", "plan") and plan not in settings.plans:
        raise BadInput(f"no plan {plan!r}; there are {', '.join(settings.plans)}")
    store = open_store(settings.store_url())
    control = ControlLog(store)
    known = control.accounts
    try:
        await control.catch_up()
        match do:
            case "create":
                payment = arguments.get("payment")
                await _create(known, name, plan, arguments["key_file"], None if payment is None else str(payment))
            case "list":
                for account in known.all():
                    print(f"{account.name:24} {account.plan:16} {' '.join(known.keys_of(account.name))}")
            case "plan":
                await known.set_plan(name, plan, OPERATOR)
            case "add-key":
                print(await known.add_key(name, OPERATOR))
            case "rotate":
                print(await known.rotate(name, OPERATOR))
            case "revoke":
                only = None if arguments["key"] is None else key
                print(f"{await known.revoke(name, OPERATOR, only=only)} keys revoked")
            case "reconcile":
                await _reconcile(control, float(str(arguments["idle"])))
    finally:
        await store.close()


async def _create(accounts: Accounts, name: str, plan: str, key_file: object, payment: str | None) -> None:
    if not isinstance(key_file, Path):
        print(await accounts.create(name, plan, OPERATOR, payment))
    elif key_file.exists():
        known = accounts.authenticate(f"Bearer {read_key(None, key_file)}")
        if known != Account(name, plan):
            raise BadInput(f"{key_file} holds a key of {known.name!r} on plan {known.plan!r}")
    else:
        key_file.parent.mkdir(parents=True, exist_ok=True)
        key = await accounts.create(name, plan, OPERATOR, payment)
        key_file.touch(mode=0o600)
        key_file.write_text(key + "\n")


async def _reconcile(control: ControlLog, idle: float) -> None:
    """Refunds the charges for requests that killed workers left unanswered, and notes it for the audit."""
    refunded = await control.store.reconcile(idle)
    for account in sorted({entry.account for entry in refunded}):
        for model, ledger in unanswered(refunded, account).items():
            event = {"do": "refund unanswered requests", "account": account, "model": model, **ledger}
            await control.note(event, OPERATOR)
            told = f"{ledger['rows']} rows"
            if any(entry in ledger for entry in TOKENS):
                told = ", ".join(f"{ledger.get(entry, 0)} {entry.replace('_', ' ')}" for entry in TOKENS)
            money = in_currency(ledger["micro_cents"])
            print(f"{account:24} {model:16} {ledger['requests']} requests, {told}, {money} refunded")
    if not refunded:
        print("Nothing to refund: no worker that is gone has left a request unanswered.")
