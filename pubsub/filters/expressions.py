"""Syntax trees of filters: the fields that an expression reads, and what it must not call. No I/O.

The engine serializes a tree in the encoding of protocol buffers (cel/expr/syntax.proto and checked.proto of the CEL
specification); the few fields that matter are read here without a further package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pubsub.filters.regexes import MAX_SIZE, Unfit, size_of

VARIABLES: Final = ("payload", "id", "topic", "from", "params")
# `matches` costs up to 1 µs for a byte, and `contains` compares both texts at each byte: such calls are few, and the
# fields of the payload that such a filter reads are small.
MAX_COSTLY: Final = 2

Path = tuple[str, ...]
_Fields = dict[int, list[bytes]]

# Numbers of fields: of google.protobuf.Any, CheckedExpr, Expr, and of what an Expr may be.
_ANY_VALUE: Final = 2
_CHECKED_EXPR: Final = 4
_CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT = 3, 4, 5, 6, 7, 8
_CONST_STRING: Final = 6


class Refused(ValueError):
    """The expression uses something that filters must not. The text says what."""


class Expression:
    """The reads and the calls of an expression.

    ``paths``: what it reads of the payload; the empty path is all of it. ``variables``: those that it reads beside it.
    """

    def __init__(self, serialized: bytes) -> None:
        self.paths: set[Path] = set()
        self.variables: set[str] = set()
        self.joins = 0  # calls of +, each of which may make a longer text
        self.costly = 0
        self.patterns: list[str] = []  # those of matches
        checked = _fields(_fields(serialized)[_ANY_VALUE][0])
        self._visit(_fields(checked[_CHECKED_EXPR][0]))
        if self.costly > MAX_COSTLY:
            raise Refused(f"expected at most {MAX_COSTLY} calls of matches, or of contains without a literal")
        if self.costly and self.joins:
            raise Refused("matches, or contains without a literal, cannot be used together with +")

    def _visit(self, node: _Fields) -> None:
        root, path = _path(node)
        if root is not None:
            self._read(root, path)
        elif _SELECT in node:
            self._visit_all(_fields(node[_SELECT][0]).get(1, []))
        elif _CALL in node:
            self._call(_fields(node[_CALL][0]))
        elif _LIST in node:
            self._visit_all(_fields(node[_LIST][0]).get(1, []))
        elif _STRUCT in node:
            self._make(_fields(node[_STRUCT][0]))
        elif _CONST not in node:
            raise Refused("not an expression that filters may use")

    def _visit_all(self, nodes: list[bytes]) -> None:
        for each in nodes:
            self._visit(_fields(each))

    def _read(self, root: str, path: Path) -> None:
        if root == "payload":
            self.paths.add(path)
        elif root in VARIABLES:  # the others are names of types
            self.variables.add(root)

    def _make(self, made: _Fields) -> None:
        if 1 in made:
            raise Refused(f"{made[1][0].decode()}: message types cannot be used")
        for entry in map(_fields, made.get(2, [])):
            self._visit_all(entry.get(3, []) + entry.get(4, []))

    def _call(self, call: _Fields) -> None:
        function = call[2][0].decode()
        target, arguments = call.get(1, []), call.get(3, [])
        self._visit_all(target + arguments)
        if function == "_+_":
            self.joins += 1
        elif function in ("matches", "contains"):
            self._check_search(function, _string(_fields(arguments[-1])))
        elif function.startswith("get") and len(target + arguments) > 1:
            _check_zone(function, _string(_fields(arguments[-1])))

    def _check_search(self, function: str, wanted: str | None) -> None:
        if function == "matches":
            self._add_pattern(wanted)
        self.costly += function == "matches" or wanted is None

    def _add_pattern(self, pattern: str | None) -> None:
        if pattern is None:
            raise Refused("matches: expected a literal")
        self.patterns.append(pattern)
        try:
            size = sum(map(size_of, self.patterns))
        except Unfit as unfit:
            raise Refused(f"matches: {unfit}") from None
        if size > MAX_SIZE:
            raise Refused(f"matches: expected at most {MAX_SIZE} characters and repetitions of them in all, got {size}")


def _path(node: _Fields) -> tuple[str | None, Path]:
    """The variable that a chain of fields begins with, and the fields: ``payload.a["b"].c``. None for other nodes."""
    names: list[str] = []
    while True:
        if _IDENT in node:
            name = _fields(node[_IDENT][0])[1][0].decode()
            return name.removeprefix("."), tuple(reversed(names))
        found = _selected(node)
        if found is None:
            return None, ()
        node, name = found
        names.append(name)


def _selected(node: _Fields) -> tuple[_Fields, str] | None:
    """The operand and the name of a selected field."""
    if _SELECT in node:
        select = _fields(node[_SELECT][0])
        return _fields(select[1][0]), select[2][0].decode()
    if _CALL in node:
        call = _fields(node[_CALL][0])
        if call[2] == [b"_[_]"] and (name := _string(_fields(call[3][1]))) is not None:
            return _fields(call[3][0]), name
    return None


def _string(node: _Fields) -> str | None:
    """The value of a string literal."""
    found = _fields(node[_CONST][0]).get(_CONST_STRING) if _CONST in node else None
    return found[0].decode() if found else None


def _check_zone(function: str, zone: str | None) -> None:
    """Raise Refused for a time zone by name: the engine would read a file, and keep each name for ever."""
    if zone is None or not re.fullmatch(r"UTC|[+-]?\d\d:\d\d", zone):
        raise Refused(f"{function}: expected no time zone, 'UTC', or an offset such as '+02:00'")


def _fields(message: bytes) -> _Fields:
    """The fields of a message by number: those with bytes, for numbers are of no interest."""
    found: _Fields = {}
    for number, content in _split(message):
        found.setdefault(number, []).append(content)
    return found


def _split(message: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 2:
            size, at = _varint(message, at)
            yield key >> 3, message[at : at + size]
            at += size
        elif kind == 0:
            _, at = _varint(message, at)
        else:
            at += {1: 8, 5: 4}[kind]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number in the variable encoding, and the position after it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
