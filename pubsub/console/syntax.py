"""The table of commands, and the reading of a typed line. It must never touch a socket or a terminal.

Words are quoted as in a shell. Only the TEXT of a publish is taken as it was typed, so that JSON needs no quotes.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pubsub.console import commands
from pubsub.console.commands import Command, Help, Nothing
from pubsub.console.words import (
    CommandError,
    Option,
    nearest,
    read_object,
    read_payload,
    read_seconds,
    read_text,
    read_topic_option,
    read_whole_number,
    split_words,
    unquote,
)

OPTIONS: Final = {
    "last": Option("N", read_whole_number),
    "after": Option("SEQ", read_whole_number),
    "limit": Option("N", read_whole_number),
    "filter": Option("CEL", read_text),
    "params": Option("JSON", read_object),
    "ttl": Option("SECONDS", read_seconds),
    "expect": Option("SEQ", read_whole_number),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Syntax:
    """The form of a command. ``build`` gets its words in order, and its options by name.

    ``alone`` is the option that a number without a name stands for. ``read`` makes the command of the rest of a line.
    """

    words: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    more: str = ""
    alone: str = ""
    meaning: str
    build: Callable[..., Command]
    read: Callable[["Syntax", str, str], Command]

    def usage(self, name: str) -> str:
        options = (f"[{option}={OPTIONS[option].value}]" for option in self.options)
        return " ".join(filter(None, [name, *self.words[:1], *options, *self.words[1:], self.more]))


def parse(line: str) -> Command:
    """Parse a typed line; raises ``CommandError``."""
    _require_unicode(line)
    if not line.strip():
        return Nothing()
    name, *rest = line.split(maxsplit=1)
    syntax = syntax_of(name)
    return syntax.read(syntax, name, "".join(rest).strip())


def _require_unicode(line: str) -> None:
    try:
        line.encode()
    except UnicodeEncodeError as error:
        raise CommandError(f"expected UTF-8, but character {error.start + 1} of the line is not") from None


def syntax_of(name: str) -> Syntax:
    if name in SYNTAX:
        return SYNTAX[name]
    hint = nearest(name, tuple(SYNTAX)) or "'help' lists the commands"
    raise CommandError(f"unknown command '{name}'; {hint}")


def _read_words(syntax: Syntax, name: str, rest: str) -> Command:
    """Read a command whose words and options are quoted as in a shell."""
    words = split_words(rest)
    options = [word for word in words if _has_name(word)]
    plain = [word for word in words if not _has_name(word)]
    _require_words(syntax, name, plain)
    expected = len(syntax.words)
    for word in plain[expected:]:
        if not syntax.alone or not word.isdecimal():
            hint = _QUOTES if options else f"usage: {syntax.usage(name)}"
            raise CommandError(f"{name}: '{word}' is too much; {hint}")
        options.append(f"{syntax.alone}={word}")
    return syntax.build(*plain[:expected], **_read_options(syntax, name, options))


_has_name: Final = re.compile(r"[A-Za-z_]*=(?!=)").match
_QUOTES: Final = "a value with blanks needs quotes, as in filter='payload.amount > 100'"


def _require_words(syntax: Syntax, name: str, words: list[str]) -> None:
    if len(words) < len(syntax.words):
        missing = syntax.words[len(words)]
        raise CommandError(f"{missing} is missing; usage: {syntax.usage(name)}")


def _read_options(syntax: Syntax, name: str, words: Iterable[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for word in words:
        option, _, value = word.partition("=")
        if option not in syntax.options:
            hint = nearest(option, syntax.options) or f"usage: {syntax.usage(name)}"
            raise CommandError(f"{name} has no option '{option}'; {hint}")
        if option in found:
            raise CommandError(f"{option}: expected once, got '{value}' too")
        found[option] = OPTIONS[option].read(option, value)
    return found


def _read_publish(syntax: Syntax, name: str, rest: str) -> Command:
    """Read a publish: a topic, options, and the rest of the line as it was typed."""
    topic, text = (*rest.split(maxsplit=1), "", "")[:2]
    options: list[str] = []
    while found := re.match(rf"(?:{'|'.join(syntax.options)})=\S*(?:\s+|$)", text):
        options.append(found[0].strip())
        text = text[found.end() :]
    _require_words(syntax, name, [word for word in (topic, text) if word])
    return syntax.build(*split_words(topic), read_payload(unquote(text)), **_read_options(syntax, name, options))


def _read_creation(syntax: Syntax, name: str, rest: str) -> Command:
    """Read the name of a topic and its options, which the server knows."""
    words = split_words(rest)
    _require_words(syntax, name, words[:1])
    return syntax.build(words[0], tuple(map(read_topic_option, words[1:])))


def _trace(client_id: str, topic: str, seq: str) -> Command:
    return commands.TraceMessage(client_id, topic, read_whole_number("SEQ", seq))


def _read_help(syntax: Syntax, name: str, rest: str) -> Command:
    for command in (names := rest.split()):
        syntax_of(command)
    return syntax.build(tuple(names) or tuple(SYNTAX))


SYNTAX: Final = {
    "sub": Syntax(words=("TOPIC",), options=("last", "filter", "params"), alone="last",
                  meaning="subscribe to a topic or a pattern, and replay its last N messages first",
                  build=commands.Subscribe, read=_read_words),
    "unsub": Syntax(words=("TOPIC",), meaning="end the subscription to a topic or a pattern",
                    build=commands.Unsubscribe, read=_read_words),
    "pub": Syntax(words=("TOPIC", "TEXT"), options=("ttl", "expect"),
                  meaning="publish TEXT: as JSON if it is JSON, otherwise as a string",
                  build=commands.Publish, read=_read_publish),
    "history": Syntax(words=("TOPIC",), options=("last", "after", "limit", "filter", "params"), alone="last",
                      meaning=f"show the last N messages of a topic ({commands.DEFAULT_LAST}), or those after SEQ",
                      build=commands.ReadHistory, read=_read_words),
    "topics": Syntax(meaning="list the topics", build=commands.ListTopics, read=_read_words),
    "create": Syntax(words=("TOPIC",), more="[OPTION...]",
                     meaning="create a topic; OPTION as in 'durable history=1000 overflow=latest'",
                     build=commands.CreateTopic, read=_read_creation),
    "delete": Syntax(words=("TOPIC",), meaning="delete a topic and end its subscriptions",
                     build=commands.DeleteTopic, read=_read_words),
    "purge": Syntax(words=("TOPIC",), meaning="forget the messages that a topic keeps",
                    build=commands.PurgeTopic, read=_read_words),
    "redrive": Syntax(words=("TOPIC",), options=("after", "limit"),
                      meaning="publish the messages of the dead letters in a topic again",
                      build=commands.RedriveLetters, read=_read_words),
    "rules": Syntax(meaning="list the server's rules for topics", build=commands.ListRules, read=_read_words),
    "why": Syntax(words=("CLIENT", "TOPIC", "SEQ"), meaning="tell why a client got a message, or did not",
                  build=_trace, read=_read_words),
    "presence": Syntax(words=("TOPIC",), meaning="list the clients in a topic that has the option presence",
                       build=commands.ListClients, read=_read_words),
    "ping": Syntax(meaning="send a ping, and show the time until the pong", build=commands.Ping, read=_read_words),
    "help": Syntax(more="[COMMAND...]", meaning="explain the commands, or some of them", build=Help, read=_read_help),
    "quit": Syntax(meaning="end the session; Ctrl-D does the same", build=commands.Quit, read=_read_words),
    "exit": Syntax(meaning="end the session, like quit", build=commands.Quit, read=_read_words),
}  # fmt: skip
