"""Write handlers for tribox in Python: a thin layer over the contract in wit/handler.wit.

A handler is a class named `Handler`, in the module that componentize-py is given, with a description
and one method:

    class Handler(tribox.Handler):
        description = tribox.Description(name="jars", version="1.0.0", subscriptions=[...])

        def decide(self, message: tribox.Message) -> tribox.Effects:
            ...

Payloads and documents are dataclasses, or whatever `json` makes of them. What is raised and is neither
`Reject` nor `Retry` is a mistake of the handler: the message is parked as dead, and mended by another
build.
"""

import json
import sys
import typing
from dataclasses import dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Iterable, Optional, TypeVar

from componentize_py_types import Err
from wit_world.imports import documents as _documents
from wit_world.imports import store as _store
from wit_world.imports import types as _types

T = TypeVar("T")


class Reject(Exception):
    """The message can never be handled: it is parked as dead at once."""


class Retry(Exception):
    """The state is not ready for the message yet: it is handed over again later, with backoff."""


def key_from_subject(token: int) -> Any:
    """The key is the nth token of the subject, from 0: of `accounts.7.debit`, token 1 is `7`."""
    return _types.KeySource_SubjectToken(token)


def key_from_header(name: str) -> Any:
    """The key is the value of a header."""
    return _types.KeySource_Header(name)


def key_from_payload(pointer: str) -> Any:
    """The key stands in the JSON payload at this JSON Pointer, such as `/account`."""
    return _types.KeySource_PayloadField(pointer)


@dataclass
class Subscription:
    """A NATS subject filter. Without a key, messages are handled in any order."""

    subject: str
    key: Any = field(default_factory=_types.KeySource_None_)
    read_ahead: list[str] = field(default_factory=list)


@dataclass
class Description:
    """A handler, described by itself. Its name must never change."""

    name: str
    version: str
    subscriptions: list[Subscription]
    collections: list[str] = field(default_factory=list)
    publishes: list[str] = field(default_factory=list)


class Message:
    """A message: `id`, `subject`, `key`, `payload` (bytes) and `stored_at` (milliseconds)."""

    def __init__(self, message: _types.Message):
        self.id = message.id
        self.subject = message.subject
        self.key = message.key
        self.headers = [(header.name, header.value) for header in message.headers]
        self.payload = message.payload
        self.stored_at = message.stored_at

    def json(self, kind: Optional[type[T]] = None) -> Any:
        """The payload as JSON, or as a dataclass; a reject where it is not that."""
        try:
            return _read(self.payload, kind)
        except ValueError as why:
            raise Reject(f"the payload of {self.subject} is not the expected JSON: {why}") from why

    def token(self, n: int) -> str:
        """The nth token of the subject, from 0."""
        return self.subject.split(".")[n]

    @property
    def last_token(self) -> str:
        """The last token of the subject, which often says what is to be done."""
        return self.subject.rsplit(".", 1)[-1]

    def header(self, name: str) -> Optional[str]:
        """The first value of a header."""
        return next((value for header, value in self.headers if header == name), None)


class documents:
    """The committed state. What is put during the call is not seen."""

    @staticmethod
    def get(collection: str, key: str, kind: Optional[type[T]] = None) -> Any:
        """A document as JSON or as a dataclass, or None where there is none."""
        body = _documents.get(collection, key)
        return None if body is None else _document(collection, key, body, kind)

    @staticmethod
    def page(
        collection: str,
        prefix: str,
        after: Optional[str] = None,
        limit: int = 1000,
        kind: Optional[type[T]] = None,
    ) -> list[tuple[str, Any]]:
        """Keys and documents by prefix, after key `after`: at most `limit`, at most 1,000."""
        found = _documents.list_by_prefix(collection, prefix, after, limit)
        return [(d.key, _document(collection, d.key, d.body, kind)) for d in found]


class settings:
    """Settings of this handler: strings by name."""

    @staticmethod
    def get(name: str) -> Optional[str]:
        return _store.get(name)

    @staticmethod
    def get_or(name: str, default: T) -> T:
        """A setting as what the default is; one that is not is the operator's mistake: a retry."""
        value = _store.get(name)
        if value is None:
            return default
        try:
            return type(default)(value.strip())  # type: ignore[call-arg]
        except ValueError as why:
            raise Retry(f"setting '{name}' is '{value}', which is not valid: {why}") from why


class Effects:
    """All that handling one message does. Nothing happens before the host commits it."""

    def __init__(self) -> None:
        self._effects = _types.Effects([], [], [])

    def put(self, collection: str, key: str, body: Any) -> "Effects":
        """Creates a document or replaces it whole. Fields of a dataclass that are None are left out."""
        document = _types.Document(collection, key, _write(body))
        self._effects.mutations.append(_types.Mutation_Put(document))
        return self

    def delete(self, collection: str, key: str) -> "Effects":
        """Removes a document; not an error where there is none."""
        self._effects.mutations.append(_types.Mutation_Delete(_types.DocumentId(collection, key)))
        return self

    def send(
        self,
        subject: str,
        payload: Any,
        *,
        headers: Iterable[tuple[str, str]] = (),
        after: Optional[int] = None,
        at: Optional[int] = None,
        expires_after: Optional[int] = None,
        name: Optional[str] = None,
        transient: bool = False,
    ) -> "Effects":
        """Sends a message: bytes as they are, anything else as JSON. Times are milliseconds."""
        due: Any = None
        if after is not None:
            due = _types.Due_After(after)
        if at is not None:
            due = _types.Due_At(at)
        self._effects.messages.append(
            _types.Outgoing(
                subject,
                [_types.Header(header, value) for header, value in headers],
                payload if isinstance(payload, bytes) else _write(payload).encode(),
                _types.Delivery.TRANSIENT if transient else _types.Delivery.DURABLE,
                due,
                expires_after,
                name,
            )
        )
        return self

    def cancel(self, name: str) -> "Effects":
        """Takes back the named message that is not yet due."""
        self._effects.cancellations.append(name)
        return self


class Handler:
    """The export of a component. A handler gives `description` and `decide`."""

    description: Description

    def decide(self, message: Message) -> Effects:
        raise NotImplementedError

    def describe(self) -> _types.Description:
        said = self.description
        subscriptions = [_types.Subscription(s.subject, s.key, s.read_ahead) for s in said.subscriptions]
        return _types.Description(
            said.name, said.version, subscriptions, said.collections, said.publishes
        )

    def handle(self, message: _types.Message) -> _types.Effects:
        try:
            return self.decide(Message(message))._effects
        except Reject as why:
            raise Err(_types.Failure_Reject(str(why))) from None
        except Retry as why:
            raise Err(_types.Failure_Retry(str(why))) from None
        finally:
            # What stays in a buffer is not seen: nothing flushes it after the call.
            sys.stdout.flush()


def _document(collection: str, key: str, body: str, kind: Optional[type[T]]) -> Any:
    try:
        return _read(body, kind)
    except ValueError as why:
        raise Reject(f"document {collection}/{key} is not as expected: {why}") from why


def _read(text: str | bytes, kind: Optional[type[T]]) -> Any:
    value = json.loads(text)
    return value if kind is None else _build(value, kind)


def _build(value: Any, kind: type[T]) -> T:
    """A dataclass from an object: fields that it does not have are passed over."""
    if not isinstance(value, dict):
        raise ValueError(f"{kind.__name__} is an object")
    hints = typing.get_type_hints(kind)
    given = {}
    for each in fields(kind):  # type: ignore[arg-type]
        if each.name in value:
            given[each.name] = _fit(value[each.name], hints[each.name], each.name)
    try:
        return kind(**given)
    except TypeError as why:
        raise ValueError(str(why)) from why


def _fit(value: Any, hint: Any, name: str) -> Any:
    """The value of a field, where it is what the field is declared as."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    for option in options:
        kind = typing.get_origin(option) or option
        if is_dataclass(kind) and isinstance(value, dict):
            return _build(value, kind)
        if kind is float and type(value) is int:
            return float(value)
        # In Python a bool is an int, in JSON it is not.
        if kind is Any or (isinstance(value, kind) and not (kind is int and type(value) is bool)):
            return value
    expected = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise ValueError(f"field {name} is {type(value).__name__}, expected {expected}")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, UnionType) or hint is NoneType


def _write(value: Any) -> str:
    """JSON, without white space, as the SDKs of other languages write it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        pairs = ((each.name, getattr(value, each.name)) for each in fields(value))
        return {name: value for name, value in pairs if value is not None}
    raise TypeError(f"{type(value).__name__} is not JSON")
