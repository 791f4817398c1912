"""The words of a typed line, quoted as in a shell, and the values in them. It reads text alone.

A value that cannot be read raises ``CommandError``.
"""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, NoReturn


class CommandError(ValueError):
    """A line is no command; the text says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option ``name=value``: the word that stands for its value in the help, and the function that reads it."""

    value: str
    read: Callable[[str, str], object]


_FAULTS_OF_QUOTES: Final = {
    "No closing quotation": "a quotation mark is not closed",
    "No escaped character": "nothing follows the backslash at the end; \\\\ stands for the backslash itself",
}


def split_words(text: str) -> list[str]:
    """Split text as a shell does: blanks part words, except in quotation marks or after a backslash."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise CommandError(_FAULTS_OF_QUOTES.get(str(error), str(error))) from None


def unquote(text: str) -> str:
    """Return the text in a pair of single quotes, as a shell reads it; any other text as it is."""
    if text.startswith("'"):
        try:
            words = shlex.split(text)
        except ValueError:
            return text
        if len(words) == 1 and text.endswith("'"):
            return words[0]
    return text


def nearest(name: str, known: tuple[str, ...]) -> str:
    """Return the name that was probably meant, as the end of an error; empty if there is none."""
    found = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"did you mean '{found[0]}'?" if found else ""


def read_text(name: str, text: str) -> str:
    if not text:
        raise CommandError(f"{name}: expected a value after '{name}='")
    return text


def read_whole_number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,16}", text):
        raise CommandError(f"{name}: expected a whole number from 0 to 9999999999999999, got '{text}'")
    return int(text)


def read_seconds(name: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise CommandError(f"{name}: expected seconds as in 5 or 0.5, got '{text}'")
    return float(text)


def read_object(name: str, text: str) -> dict[str, Any]:
    fault = fault_of_json(text) if text.startswith("{") else "it begins with no {"
    if fault:
        raise CommandError(f"""{name}: expected a JSON object in quotes as in {name}='{{"least":100}}': {fault}""")
    try:
        read: dict[str, Any] = json.loads(text)
    except ValueError as error:  # a number with too many digits
        raise CommandError(f"{name}: {error}") from None
    return read


def read_topic_option(text: str) -> tuple[str, object]:
    """Read ``name=value``: ``durable`` means ``durable=true``, and ``overflow=latest`` needs no quotes."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value or "true")
    except ValueError:
        return name, value


def read_payload(text: str) -> str:
    """Return a typed TEXT as JSON: unchanged if it is JSON, otherwise as a JSON string."""
    fault = fault_of_json(text)
    if not fault:
        return text
    if text.startswith(("{", "[")):
        raise CommandError(f"TEXT begins like JSON but is none: {fault}; to send it as text, put it in quotes")
    return json.dumps(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


# Numbers stay text: they are sent as they were typed, and int() refuses more than 4,300 digits.
_JSON: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)


def fault_of_json(text: str) -> str:
    """Return the reason why a text is no JSON; empty if it is."""
    try:
        _JSON.decode(text)
    except json.JSONDecodeError as error:
        return f"{error.msg} at character {error.pos + 1} ('{text[error.pos : error.pos + 12]}')"
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        return str(error)
    return ""
