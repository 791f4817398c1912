"""Filters of events, and joins of them. No I/O.

A Filter is a text in CEL with its params. All that have the same text and params are one object, and so are all joins
of the same filters: lanes are compared by identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

import msgspec
from msgspec import Raw

from pubsub.filters.cel import ENGINE_ERRORS, Engine, Program
from pubsub.filters.views import Envelope, Unreadable, View, check_integers, open_envelope
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import shown

MAX_PARAMS: Final = 4096  # bytes
# Compiled texts that are kept beside those in use, so that a reconnect costs no compilation: 6 to 70 KiB each.
KEPT_PROGRAMS: Final = 128

_NO_PARAMS: Final = b"{}"
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Subject:
    """One event of one topic as filters see it, made of its JSON text. It is decoded at the first need, and once."""

    __slots__ = ("_activations", "_envelope", "_results", "_seen", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._envelope: Envelope | None = None
        self._seen: dict[View, dict[str, Any] | None] = {}
        self._activations: dict[View, Any] = {}
        self._results: dict[Filter, bool] = {}

    def evaluate(self, program: Program, params: dict[str, Any]) -> object:
        """The value of a program: a boolean, or something else for an error."""
        view = program.view
        first = view not in self._seen
        seen = self._look(view) if first else self._seen[view]
        if seen is None:
            return None
        if program.private:
            return program.evaluate(None, {**seen, "params": params}).value()
        if first:  # variables for one evaluation cost 1.1 µs, an Activation for several 1.3
            return program.evaluate(None, seen).value()
        activation = self._activations.get(view)
        if activation is None:
            activation = self._activations[view] = program.activate(seen)
        return program.evaluate(activation).value()

    def _look(self, view: View) -> dict[str, Any] | None:
        """The variables of a view; None if they cannot be read."""
        seen = None
        try:
            if self._envelope is None:
                self._envelope = open_envelope(self.text)
            seen = view.of(self._envelope)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            pass
        self._seen[view] = seen
        return seen

    def result_of(self, wanted: Filter) -> bool:
        """The result of a filter that several joins share: one evaluation."""
        found = self._results.get(wanted)
        if found is None:
            found = self._results[wanted] = wanted.matches(self)
        return found


class Matcher(Protocol):
    """A condition on events. ``weight``: the cost of one evaluation, in units of about 4 µs."""

    @property
    def weight(self) -> int: ...

    def matches(self, subject: Subject) -> bool: ...


class Filter:
    """A compiled text with its params, ``params`` as canonical JSON. Made by :class:`Filters` only."""

    __slots__ = ("__weakref__", "_filters", "_params", "_program", "params", "text")

    def __init__(self, filters: Filters, text: str, params: bytes, program: Program) -> None:
        self.text: Final = text
        self.params: Final = params
        self._filters: Final = filters
        self._program: Final = program
        self._params: Final[dict[str, Any]] = msgspec.json.decode(params)

    @property
    def weight(self) -> int:
        return self._program.weight

    def matches(self, subject: Subject) -> bool:
        """True if the event matches. Never raises: an error, such as a missing field, is no match."""
        try:
            result = subject.evaluate(self._program, self._params)
        except ENGINE_ERRORS:
            result = None
        if result is not True and result is not False:  # most errors are values, and true-ish ones
            self._filters.failures += 1
        return result is True


class Join:
    """Filters that all must match, and filters of which one must match."""

    __slots__ = ("__weakref__", "_required", "_wanted")

    def __init__(self, required: Sequence[Filter], wanted: Sequence[Filter]) -> None:
        self._required = required
        self._wanted = wanted

    @property
    def weight(self) -> int:
        return sum(each.weight for each in (*self._required, *self._wanted))

    def matches(self, subject: Subject) -> bool:
        """True if all required filters match and, where there are any, one of the wanted."""
        result_of = subject.result_of
        return all(map(result_of, self._required)) and (not self._wanted or any(map(result_of, self._wanted)))


class Filters:
    """All filters of a server. ``failures``: the evaluations that ended in an error."""

    def __init__(self) -> None:
        self.failures = 0
        self._engine: Engine | None = None
        self._made: WeakValueDictionary[tuple[str, bytes], Filter] = WeakValueDictionary()
        self._joined: WeakValueDictionary[tuple[frozenset[Filter], frozenset[Filter]], Join] = WeakValueDictionary()
        self._programs: WeakValueDictionary[str, Program] = WeakValueDictionary()
        self._program = lru_cache(maxsize=KEPT_PROGRAMS)(self._compile)

    @property
    def in_use(self) -> int:
        """The number of filters that differ."""
        return len(self._made)

    def compile(self, text: str, params: Raw | None = None) -> Filter:
        """The filter with this text and these params. Raises BadRequest that names the field and says where."""
        program = self._program(text)
        canonical = self._read_params(params)
        made = self._made.get((text, canonical))
        if made is None:
            made = self._made[text, canonical] = Filter(self, text, canonical, program)
        return made

    def _compile(self, text: str) -> Program:
        found = self._programs.get(text)
        if found is None:
            if self._engine is None:
                self._engine = Engine()
            found = self._programs[text] = self._engine.compile(text)
        return found

    def _read_params(self, params: Raw | None) -> bytes:
        """The canonical text of ``params``."""
        if params is None:
            return _NO_PARAMS
        text = bytes(params)
        expected = f"params: expected an object of at most {MAX_PARAMS} bytes"
        if len(text) > MAX_PARAMS:
            raise BadRequest(f"{expected}, got {len(text)} bytes")
        try:
            value = msgspec.json.decode(text)
        except (msgspec.MsgspecError, RecursionError):
            raise BadRequest(f"{expected}, got something that cannot be read") from None
        if not isinstance(value, dict):
            raise BadRequest(f"{expected}, got {shown(value)}")
        canonical = _encode(value)
        if b"\\u0000" in canonical:
            raise BadRequest("params: expected strings without NUL")
        try:
            check_integers(value)
        except Unreadable:
            raise BadRequest("params: expected integers of at most 64 bits") from None
        return canonical

    def join(self, required: Sequence[Filter], wanted: Sequence[Filter] | None) -> Matcher | None:
        """The condition that all ``required`` and any of ``wanted`` match; ``wanted`` is None if all is wanted.

        None if there is nothing to check. The same sets give the same object as long as it is in use.
        """
        must = frozenset(required)
        # A filter that must match and is wanted makes the other wanted ones idle.
        may = frozenset(wanted) if wanted is not None and must.isdisjoint(wanted) else frozenset[Filter]()
        if len(must) + len(may) <= 1:
            return next(iter(must | may), None)
        found = self._joined.get((must, may))
        if found is None:
            found = self._joined[must, may] = Join(tuple(must), tuple(may))
        return found
