"""Views of an event: what a filter reads of it, of the payload only the fields that the filter names. No I/O.

The engine converts all that it is given: 160 ms for a payload of 2 MiB. Fields that the filter does not name are
skipped by the decoder instead (0.7 ms for a MiB), and what is left is limited.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypedDict

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from pubsub.filters.expressions import Expression, Path

# The most that a filter reads of a payload, in bytes of JSON. A filter with an expensive call reads less.
MAX_BYTES: Final = 32768
MAX_BYTES_COSTLY: Final = 2048
MAX_VALUES: Final = 1000  # counted by the commas in lists and objects
SMALL: Final = 2048  # bytes of an event that is within these limits
MAX_DEPTH: Final = 4  # levels of fields in a large payload: each one is another pass over what is in it

_OBJECT: Final = ord("{")
_CONTAINERS: Final = (b"{", b"[")
_NUL: Final = b"\\u0000"
_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**64 - 1
_LONG: Final = b"0" * len(str(2**63))  # the fewest digits of an integer beyond 64 bits
_DIGITS_AS_ZERO: Final = bytes.maketrans(b"123456789", b"0" * 9)


class Unreadable(ValueError):
    """The event cannot be shown to a filter: it is too large, or the engine would read something else."""


class _Message(Struct, gc=False):
    id: str
    payload: Raw


class Envelope(Struct, gc=False):
    """The variables of an event. ``sender`` is the variable ``from``. ``plain``: small, and without a NUL."""

    topic: str
    message: _Message
    sender: str | UnsetType = msgspec.field(default=UNSET, name="from")
    plain: bool = msgspec.field(default=False, name="")


_decode_envelope: Final = msgspec.json.Decoder(Envelope).decode
_decode: Final = msgspec.json.Decoder().decode


def open_envelope(text: bytes) -> Envelope:
    """Decode an event, and of the payload nothing yet. Raises msgspec's errors."""
    envelope = _decode_envelope(text)
    envelope.plain = len(text) <= SMALL and _NUL not in text and not _has_long_number(text)
    return envelope


def _has_long_number(text: bytes) -> bool:
    """True if a number may be beyond 64 bits. 0.2 µs for 200 bytes; a regular expression takes 1."""
    return _LONG in text.translate(_DIGITS_AS_ZERO)


def check_integers(value: object) -> None:
    """Raise Unreadable for an integer beyond 64 bits. The engine would keep its text, and that of all around it."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case int() as number if not _LOWEST <= number <= _HIGHEST:
                raise Unreadable("an integer beyond 64 bits")
            case dict() as fields:
                waiting += fields.values()
            case list() as items:
                waiting += items


class Limit(Struct, frozen=True):
    """The most that is read of a payload."""

    size: int = MAX_BYTES
    values: int = MAX_VALUES


class View:
    """The reads of an expression. Those of the same reads are one object, so that filters share what was decoded."""

    __slots__ = ("__weakref__", "_fields", "_limit", "_reads_payload", "_takes_plain", "_variables")

    def __init__(self, paths: frozenset[Path], variables: frozenset[str], limit: Limit) -> None:
        self._takes_plain = limit.values == MAX_VALUES
        self._reads_payload = bool(paths)
        self._fields = Fields(paths) if paths and () not in paths else None
        self._variables = variables
        self._limit = limit

    def of(self, envelope: Envelope) -> dict[str, Any]:
        """The variables and their values. Raises Unreadable, and msgspec's errors."""
        seen: dict[str, Any] = {}
        if self._reads_payload:
            seen["payload"] = self._payload(envelope)
        for name in self._variables:
            if name == "topic":
                seen["topic"] = envelope.topic
            elif name == "id":
                seen["id"] = envelope.message.id
            elif envelope.sender is not UNSET:
                seen["from"] = envelope.sender
        return seen

    def _payload(self, envelope: Envelope) -> Any:
        raw = envelope.message.payload
        if envelope.plain and self._takes_plain:
            try:
                return self._fields.decode(raw) if self._fields else _decode(raw)
            except msgspec.ValidationError:
                pass  # something in it is not an object: only the expression knows if that matters
        allowance = Allowance(self._limit)
        return self._fields.read(raw, allowance) if self._fields else allowance.decode(raw)


class Fields:
    """Some fields of a JSON object. A field is read whole, or as Fields in turn."""

    def __init__(self, paths: Iterable[Path], depth: int = 1) -> None:
        below: dict[str, set[Path]] = {}
        for path in paths:
            below.setdefault(path[0], set()).add(path[1:])
        self._inner = {
            name: None if () in rest or depth == MAX_DEPTH else Fields(rest, depth + 1) for name, rest in below.items()
        }
        self.type: Any = _typed_dict({name: inner.type if inner else Any for name, inner in self._inner.items()})
        self.decode = msgspec.json.Decoder(self.type).decode
        self._decode_raw = msgspec.json.Decoder(_typed_dict(dict.fromkeys(below, Raw))).decode

    def read(self, raw: Raw, allowance: Allowance) -> Any:
        """The fields that are there, within limits; for another value than an object None: its fields are errors."""
        if memoryview(raw)[0] != _OBJECT:
            return None
        found: dict[str, Raw] = self._decode_raw(raw)
        return {
            name: inner.read(found[name], allowance) if inner else allowance.decode(found[name])
            for name, inner in self._inner.items()
            if name in found
        }


def _typed_dict(fields: dict[str, Any]) -> Any:
    """A dict with only these fields: the decoder skips all others, and makes nothing of them."""
    # msgspec 0.22 takes a name that is not ASCII for an empty one until something has made its UTF-8.
    msgspec.json.encode(list(fields))
    return TypedDict("Selected", fields, total=False)  # type: ignore[operator]


class Allowance:
    """The part of a payload that may still be read."""

    __slots__ = ("size", "values")

    def __init__(self, limit: Limit) -> None:
        self.size = limit.size
        self.values = limit.values

    def decode(self, raw: Raw) -> Any:
        """Decode a value. Raises Unreadable if it is too large."""
        text = bytes(memoryview(raw)[: self.size + 1])
        self.size -= len(text)
        if self.size < 0:
            raise Unreadable("too large")
        if text[:1] in _CONTAINERS:
            self.values -= text.count(b",")
            if self.values < 0:
                raise Unreadable("too many values")
        if _NUL in text and _NUL in text.replace(b"\\\\", b""):
            # 0.1.3 ends a string there: 'acme\0x' would be equal to 'acme'.
            raise Unreadable("a string with a NUL")
        value = _decode(text)
        if _has_long_number(text):
            check_integers(value)
        return value


def limit_of(expression: Expression) -> Limit:
    """The limit for an expression. Each + may copy once more all that was read."""
    if expression.costly:
        return Limit(size=MAX_BYTES_COSTLY)
    copies = 1 + expression.joins
    return Limit(MAX_BYTES // copies, MAX_VALUES // copies)
