"""Error texts for requests that cannot be decoded, and their ``request_id``. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec
from msgspec import UNSET, Struct, UnsetType

from pubsub.protocol.errors import BadRequest


def explain(error: Exception, text: str, choices: Sequence[str]) -> NoReturn:
    """Raise BadRequest in the words of the contract's users: the field, what was expected, what came.

    ``choices``: the values that a field with a fixed set of values may have.
    """
    if isinstance(error, RecursionError):
        raise BadRequest("not JSON that can be read: nested too deep") from None
    if not isinstance(error, msgspec.ValidationError):
        raise BadRequest(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    wanted, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    if missing := re.fullmatch(r"Object missing required field `(.+)`", wanted):
        raise BadRequest(f"{path + '.' if path else ''}{missing[1]}: required, but missing") from None
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", wanted, re.DOTALL):
        raise BadRequest(f"{shown(unknown[1])}: unknown here") from None
    if wanted.startswith(("Invalid value ", "Invalid enum value ")):
        wanted = f"expected one of {', '.join(choices)}"
    elif wanted.endswith("out of range"):
        wanted = "expected a number in range"
    wanted = re.sub(r", got `.*", "", wanted).replace("Expected", "expected", 1).replace(" | null`", "`")
    for name, words in _WORDS.items():
        wanted = wanted.replace(name, words)
    raise BadRequest(f"{path or 'the message'}: {wanted}, got {_found(text, path)}") from None


_WORDS: Final = {
    "`object | array`": "a JSON object or a list of them",
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "a string",
    "`object`": "a JSON object",
    "`bool`": "a boolean",
}


_LOOKED_THROUGH: Final = 256 * 1024  # characters of a text that are decoded once more for its error: 5 ms


def _found(text: str, path: str) -> str:
    if path.startswith("token"):
        return "something else"  # it may be a token
    if len(text) > _LOOKED_THROUGH:
        return "something else"
    try:
        value: Any = msgspec.json.decode(text)
        for index, name in re.findall(r"\[(\d+)\]|([^.\[]+)", path):
            value = value[int(index) if index else name]
    except (msgspec.MsgspecError, RecursionError, LookupError, TypeError):
        return "something else"
    return shown(value)


def shown(value: object) -> str:
    """A value for an error text: one short line, with unprintable characters escaped."""
    text = msgspec.json.encode(value).decode() if not isinstance(value, str) else repr(value)
    text = text if len(text) <= 64 else f"{text[:60]}…"
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def request_id_of(text: str) -> str | UnsetType:
    """The ``request_id`` of a refused message, if the message is a JSON object that has one."""
    try:
        found = _decode_bare(text).request_id
    except msgspec.MsgspecError:
        return UNSET
    except RecursionError:
        found = _find_request_id(text)
    return found if isinstance(found, str) else UNSET


class _Bare(Struct):
    request_id: Any = None


_decode_bare = msgspec.json.Decoder(_Bare).decode
_MAX_KEYS: Final = 1000  # occurrences of request_id in a text, outermost or not, that are checked: 1 µs each


def _find_request_id(text: str) -> object:
    """The outermost ``request_id`` of an object that is nested too deep to decode; the last one if there are two.

    All steps run in C: a MiB takes at most 35 ms, with escapes 100. A loop over the tokens took 400.
    """
    quotes_only_at_ends = text.replace("\\\\", "\0\0").replace('\\"', "\0\0")  # at the same places as in the text
    parts = quotes_only_at_ends.split('"')
    outside, strings = parts[::2], parts[1::2]
    keys = strings if "\\u" not in quotes_only_at_ends else [_respelled(string) for string in strings]
    depth, start, found = 0, 0, None
    for _ in range(_MAX_KEYS):
        try:
            at = keys.index("request_id", start)
        except ValueError:
            break
        between = "".join(outside[start : at + 1])
        depth += sum(map(between.count, "{[")) - sum(map(between.count, "}]"))
        if depth == 1 and outside[at].rstrip()[-1:] in ("{", ",") and at + 1 < len(strings):
            found = at + 1 if outside[at + 1].strip() == ":" else None
        start = at + 1
    if found is None or not text.lstrip().startswith("{"):
        return None
    begin = sum(map(len, parts[: 2 * found + 1])) + 2 * found
    return _decode_string(text[begin : begin + len(strings[found]) + 2])


def _respelled(string: str) -> object:
    """A string without its escapes, if it may be the key: each escape is five characters longer."""
    could_be = len(string) == len("request_id") + 5 * string.count("\\u")
    return _decode_string(f'"{string}"') if could_be else string


def _decode_string(token: str) -> object:
    try:
        return msgspec.json.decode(token)
    except msgspec.MsgspecError:
        return None
