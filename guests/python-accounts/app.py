"""Debits and credits, with a warning, a deadline and its cancellation: what the Rust example does."""

from dataclasses import dataclass
from typing import Optional

import tribox
from tribox import Effects, Message, Reject, Subscription, documents, settings

GRACE = 10 * 24 * 60 * 60 * 1000
# A balance is what a 64-bit integer can hold, as it is for readers in other languages.
LEAST, MOST = -(2**63), 2**63 - 1


@dataclass
class Command:
    """`accounts.<id>.debit` and `accounts.<id>.credit`."""

    amount: int  # cents, above zero
    reference: Optional[str] = None  # what the bank statement shows


@dataclass
class Deadline:
    """`accounts.<id>.enforce-overdrawn`, which this handler sends to itself."""

    since: int  # when the account became overdrawn


@dataclass
class Account:
    """Document `accounts/<id>`."""

    balance: int = 0  # cents
    changes: int = 0  # how many debits and credits there were
    reference: Optional[str] = None  # of the last change
    overdrawn_since: Optional[int] = None
    blocked: Optional[bool] = None


@dataclass
class BalanceChanged:
    account: str
    amount: int
    balance: int
    sequence: int  # counts the changes of the account from 1, without gaps
    reference: Optional[str] = None


def keyed(subject: str) -> Subscription:
    return Subscription(subject, key=tribox.key_from_subject(1), read_ahead=["accounts"])


class Handler(tribox.Handler):
    description = tribox.Description(
        name="accounts",
        version="0.1.0",
        subscriptions=[
            keyed("accounts.*.debit"),
            keyed("accounts.*.credit"),
            keyed("accounts.*.enforce-overdrawn"),
        ],
        collections=["accounts"],
        publishes=["accounts.events.*.*", "accounts.*.enforce-overdrawn"],
    )

    def decide(self, message: Message) -> Effects:
        account = documents.get("accounts", message.key, Account) or Account()
        match message.last_token:
            case "debit":
                return change(message, account, -1)
            case "credit":
                return change(message, account, 1)
            case _:
                return enforce(message, account)


def change(message: Message, account: Account, sign: int) -> Effects:
    command: Command = message.json(Command)
    if command.amount <= 0:
        raise Reject(f"amount {command.amount} must be above zero")
    id, amount, before = message.key, sign * command.amount, account.balance
    threshold = settings.get_or("threshold", 100)
    balance = before + amount
    if not LEAST <= balance <= MOST:
        raise Reject(f"{before} and {amount} are too much to add")
    account.balance = balance
    account.changes += 1
    account.reference = command.reference

    effects = Effects()
    changed = BalanceChanged(id, amount, balance, account.changes, command.reference)
    effects.send(f"accounts.events.{id}.balance-changed", changed)
    if before >= threshold > balance:
        low = {"account": id, "balance": balance, "threshold": threshold}
        effects.send(f"accounts.events.{id}.low-balance", low)
    if before >= 0 > balance:
        since = message.stored_at
        account.overdrawn_since = since
        effects.send(f"accounts.events.{id}.overdrawn", {"account": id, "balance": balance})
        effects.send(
            f"accounts.{id}.enforce-overdrawn",
            Deadline(since),
            at=since + GRACE,
            name=deadline(id),
        )
    if before < 0 <= balance:
        account.overdrawn_since = None
        account.blocked = None
        effects.cancel(deadline(id))
    return effects.put("accounts", id, account)


def enforce(message: Message, account: Account) -> Effects:
    """A credit takes the deadline back only as long as it is not yet due, so look again."""
    id = message.key
    effects = Effects()
    if account.overdrawn_since == message.json(Deadline).since:
        account.blocked = True
        effects.put("accounts", id, account)
        blocked = {"account": id, "balance": account.balance}
        effects.send(f"accounts.events.{id}.blocked", blocked)
    return effects


def deadline(id: str) -> str:
    return f"overdrawn-{id}"
