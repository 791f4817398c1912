"""Commands, parsed from typed lines. It reads text alone, and must never touch a socket or a terminal."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn


@dataclass(frozen=True, slots=True)
class Subscribe:
    topic: str
    last_n: int


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    topic: str


@dataclass(frozen=True, slots=True)
class Publish:
    """A publish; ``payload`` is JSON text, unchanged if it was typed as JSON."""

    topic: str
    payload: str


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class ListTopics:
    pass


@dataclass(frozen=True, slots=True)
class CreateTopic:
    """A topic to create; ``options`` are names and values for REST, which the server checks."""

    topic: str
    options: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteTopic:
    topic: str


@dataclass(frozen=True, slots=True)
class ReadHistory:
    topic: str
    last_n: int


@dataclass(frozen=True, slots=True)
class Help:
    """A request for help; ``commands`` are the names of those to explain."""

    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quit:
    pass


@dataclass(frozen=True, slots=True)
class Nothing:
    """A blank line."""


Command = (
    Subscribe
    | Unsubscribe
    | Publish
    | Ping
    | ListTopics
    | CreateTopic
    | DeleteTopic
    | ReadHistory
    | Help
    | Quit
    | Nothing
)


class CommandError(ValueError):
    """A line is no command; the text says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """The form of a command. ``build`` takes its arguments; the last one is the whole rest of the line."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    meaning: str
    build: Callable[..., Command]

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.required + self.optional

    def usage(self, name: str) -> str:
        return " ".join([name, *self.required, *(f"[{argument}]" for argument in self.optional)])


def parse(line: str) -> Command:
    """Parse a typed line; raises ``CommandError``."""
    _require_unicode(line)
    if not line.strip():
        return Nothing()
    name, *rest = line.split(maxsplit=1)
    syntax = _syntax_of(name)
    arguments = "".join(rest).split(maxsplit=max(0, len(syntax.arguments) - 1))
    _require_arguments(name, syntax, arguments)
    return syntax.build(*arguments)


def _require_unicode(line: str) -> None:
    try:
        line.encode()
    except UnicodeEncodeError as error:
        raise CommandError(f"expected UTF-8, but character {error.start + 1} of the line is not") from None


def _syntax_of(name: str) -> Syntax:
    if name in SYNTAX:
        return SYNTAX[name]
    nearest = get_close_matches(name.lower(), SYNTAX, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else "'help' lists the commands"
    raise CommandError(f"unknown command '{name}'; {hint}")


def _require_arguments(name: str, syntax: Syntax, arguments: list[str]) -> None:
    if len(arguments) < len(syntax.required):
        missing = syntax.required[len(arguments)]
        raise CommandError(f"{missing} is missing; usage: {syntax.usage(name)}")
    if len(arguments) > len(syntax.arguments):
        raise CommandError(f"{name} takes no arguments, but got '{' '.join(arguments)}'")


def _topic(text: str) -> str:
    words = text.split()
    if len(words) > 1:
        raise CommandError(f"one TOPIC expected, but {len(words)} words came: '{text}'")
    return text.strip()


def _number(argument: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        raise CommandError(f"{argument} must be a whole number from 0 to 999999999, not '{text}'")
    return int(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


# Numbers stay text: they are sent as they were typed, and int() refuses more than 4,300 digits.
_JSON = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)
_JSON_VALUE = json.JSONDecoder()


def _payload(text: str) -> str:
    """Return a typed TEXT as JSON: unchanged if it is JSON, otherwise as a JSON string."""
    try:
        _JSON.decode(text)
    except (ValueError, RecursionError) as error:
        if text.startswith(("{", "[")):
            raise CommandError(_fault_of_json(text, error)) from None
        return json.dumps(text)
    return text


def _fault_of_json(text: str, error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            fault = f"{error.msg} at character {error.pos + 1} ('{text[error.pos : error.pos + 12]}')"
        case RecursionError():
            fault = "nested too deeply"
        case _:
            fault = str(error)
    return f"TEXT begins like JSON but is none: {fault}; to send it as text, put it in quotes"


def _subscribe(topic: str, last_n: str = "0") -> Command:
    return Subscribe(_topic(topic), _number("LAST_N", last_n))


def _unsubscribe(topic: str) -> Command:
    return Unsubscribe(_topic(topic))


def _publish(topic: str, text: str) -> Command:
    return Publish(topic, _payload(text.strip()))


def _create(topic: str, options: str = "") -> Command:
    return CreateTopic(topic, tuple(map(_option, options.split())))


def _option(text: str) -> tuple[str, object]:
    """Parse ``name=value``: ``durable`` means ``durable=true``, and ``overflow=latest`` needs no quotes."""
    name, _, value = text.partition("=")
    try:
        return name, _JSON_VALUE.decode(value or "true")
    except ValueError:
        return name, value


def _delete(topic: str) -> Command:
    return DeleteTopic(_topic(topic))


def _history(topic: str, last_n: str = "10") -> Command:
    return ReadHistory(_topic(topic), _number("N", last_n))


def _help(name: str = "") -> Command:
    if not name:
        return Help(tuple(SYNTAX))
    _syntax_of(name.strip())
    return Help((name.strip(),))


SYNTAX = {
    "sub": Syntax(
        ("TOPIC",), ("LAST_N",), "subscribe to a topic, and replay its last LAST_N messages first", _subscribe
    ),
    "unsub": Syntax(("TOPIC",), (), "end the subscription to a topic", _unsubscribe),
    "pub": Syntax(("TOPIC", "TEXT"), (), "publish TEXT: as JSON if it is JSON, otherwise as a string", _publish),
    "ping": Syntax((), (), "send a ping, and show the time until the pong", Ping),
    "topics": Syntax((), (), "list the topics", ListTopics),
    "create": Syntax(
        ("TOPIC",),
        ("OPTIONS",),
        "create a topic; OPTIONS as in 'durable history=1000 ttl_sec=60 overflow=latest'",
        _create,
    ),
    "delete": Syntax(("TOPIC",), (), "delete a topic and end its subscriptions", _delete),
    "history": Syntax(("TOPIC",), ("N",), "show the last N messages of a topic (10)", _history),
    "help": Syntax((), ("COMMAND",), "explain the commands, or one of them", _help),
    "quit": Syntax((), (), "end the session; Ctrl-D does the same", Quit),
    "exit": Syntax((), (), "end the session, like quit", Quit),
}
