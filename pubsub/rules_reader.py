"""Reads the rules for topics from TOPIC_RULES_FILE, and finds each mistake in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from pubsub.core.creation import check_options
from pubsub.protocol.answers import TopicRule
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import explain, shown
from pubsub.protocol.patterns import check_pattern
from pubsub.protocol.requests import OVERFLOWS, Seconds, TopicOptions

MAX_BYTES: Final = 1024 * 1024
MAX_RULES: Final = 1000
MAX_MISTAKES: Final = 100  # that are told: a file of another kind has one on each line

FIELDS: Final = TopicRule.__struct_fields__
OPTIONS: Final = TopicOptions.__struct_fields__


class RulesError(ValueError):
    """The rules are not valid. ``mistakes``: a line for each, with the place, what was expected and what came."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class _Fields(Struct, forbid_unknown_fields=True, kw_only=True):
    """The types of a rule's fields, none of them required: each is checked by itself."""

    pattern: str | UnsetType = UNSET
    create: bool | UnsetType = UNSET
    delete_idle_sec: Seconds | UnsetType = UNSET
    options: dict[str, Any] | UnsetType = UNSET


class _Object(dict[str, Any]):
    """A JSON object that knows which of its keys it has twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        self.repeated = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]


def read_rules(path: str) -> list[TopicRule]:
    """Read the rules in ``path``. Raises RulesError, OSError."""
    with open(path, "rb") as file:
        return parse_rules(file.read(MAX_BYTES + 1))


def parse_rules(text: bytes) -> list[TopicRule]:
    """Make rules of JSON. Raises RulesError."""
    rules = _decode(text)
    mistakes = [mistake for index, rule in enumerate(rules) for mistake in _mistakes_of(f"rules[{index}]", rule)]
    mistakes += _repeated_patterns(rules)
    if len(mistakes) > MAX_MISTAKES:
        mistakes[MAX_MISTAKES:] = [f"{len(mistakes) - MAX_MISTAKES} more mistakes"]
    if mistakes:
        raise RulesError(mistakes)
    return [TopicRule(**rule | {"options": dict(rule.get("options", {}))}) for rule in rules]  # numbers as in the file


def _decode(text: bytes) -> list[Any]:
    if len(text) > MAX_BYTES:
        raise RulesError([f"expected at most {MAX_BYTES} bytes"])
    try:
        # An invalid number such as NaN or 1e999 becomes a text, so that the error names its place.
        rules = json.loads(text.decode(), object_pairs_hook=_Object, parse_constant=str, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise RulesError([f"expected UTF-8, got another byte at {error.start}"]) from None
    except RecursionError:
        raise RulesError(["expected a JSON list of rules, got one that is nested too deep"]) from None
    except ValueError as error:
        raise RulesError([f"expected a JSON list of rules, got no JSON: {error}"]) from None
    if not isinstance(rules, list):
        raise RulesError([f"expected a JSON list of rules, got {_shown(rules)}"])
    if len(rules) > MAX_RULES:
        raise RulesError([f"expected at most {MAX_RULES} rules, got {len(rules)}"])
    return rules


def _finite(text: str) -> float | str:
    number = float(text)
    return text if number in (float("inf"), float("-inf")) else number


def _mistakes_of(place: str, rule: object) -> Iterator[str]:
    if not isinstance(rule, _Object):
        yield f"{place}: expected a JSON object, got {_shown(rule)}"
        return
    yield from _repeated_keys(place, rule)
    if "pattern" not in rule:
        yield f"{place}.pattern: required, but missing"
    for name, value in rule.items():
        if name not in FIELDS:
            yield f"{place}.{_key(name)}: unknown here, expected one of {', '.join(FIELDS)}"
        elif mistake := _mistake_of(_Fields, name, value) or _mistake_of_pattern(name, value):
            yield f"{place}.{mistake}"
        elif name == "options":
            yield from _mistakes_of_options(f"{place}.options", value)


def _mistakes_of_options(place: str, options: _Object) -> Iterator[str]:
    yield from _repeated_keys(place, options)
    valid = True
    for name, value in options.items():
        if name not in OPTIONS:
            yield f"{place}.{_key(name)}: unknown here, expected one of {', '.join(OPTIONS)}"
        elif mistake := _mistake_of(TopicOptions, name, value):
            yield f"{place}.{mistake}"
        else:
            continue
        valid = False
    if valid:
        try:
            check_options(msgspec.convert(options, TopicOptions))
        except BadRequest as mistake:
            yield f"{place}.{mistake}"


def _mistake_of(kind: type[Struct], name: str, value: object) -> str:
    """The mistake in one field of ``kind``, in the words of REST; empty if there is none."""
    field = {name: value}
    try:
        msgspec.convert(field, kind)
    except msgspec.ValidationError as error:
        try:
            explain(error, json.dumps(field), OVERFLOWS)
        except BadRequest as mistake:
            return str(mistake)
    except UnicodeEncodeError:
        return f"{name}: expected text that can be UTF-8, got {_shown(value)}"
    return ""


def _mistake_of_pattern(name: str, value: Any) -> str:
    """The mistake in the text of the field ``pattern``; empty if there is none, and for the other fields."""
    if name == "pattern":
        try:
            check_pattern(value)
        except BadRequest as mistake:
            return "pattern" + str(mistake).removeprefix("topic")
    return ""


def _repeated_keys(place: str, found: _Object) -> Iterator[str]:
    for name in found.repeated:
        yield f"{place}.{_key(name)}: expected once, got twice"


def _repeated_patterns(rules: list[Any]) -> Iterator[str]:
    """The second of two rules with the same pattern would never count."""
    seen: dict[str, int] = {}
    for index, rule in enumerate(rules):
        pattern = rule.get("pattern") if isinstance(rule, dict) else None
        if isinstance(pattern, str) and (first := seen.setdefault(pattern, index)) != index:
            yield f"rules[{index}].pattern: expected another one than in rules[{first}], got {shown(pattern)}"


def _key(name: str) -> str:
    return name if name.isidentifier() and name.isascii() and len(name) <= 64 else shown(name)


def _shown(value: object) -> str:
    """A value in few words: a list or an object can be long."""
    match value:
        case dict():
            return "a JSON object"
        case list():
            return "a list"
        case _:
            return shown(value)
