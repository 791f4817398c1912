"""Completion at the prompt: commands, topics, options. It must never wait for the server: it offers what it has."""

import asyncio
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from pubsub.client import Refused, Unreachable
from pubsub.client.requests import OVERFLOWS, TOPIC_OPTIONS, is_topic
from pubsub.client.rest import RestClient
from pubsub.console.syntax import SYNTAX, Syntax

TOPICS_PAUSE_SEC = 0.5
"""The least time between two requests for the list of topics."""

_TOPIC_OPTIONS: Final = [
    *(f"{name}=" for name in TOPIC_OPTIONS),
    *(f"overflow={policy}" for policy in OVERFLOWS),
]


class TopicNames:
    """The names of the server's topics, as of the last request for them."""

    def __init__(self, rest: RestClient) -> None:
        self.known: list[str] = []
        self._rest = rest
        self._requested = asyncio.Event()

    def refresh(self) -> None:
        """Ask for newer names, to be fetched soon; frequent calls are cheap."""
        self._requested.set()

    async def keep_refreshed(self) -> None:
        while True:
            await self._requested.wait()
            self._requested.clear()
            with suppress(Unreachable, Refused):
                self.known = sorted(filter(is_topic, await self._rest.list_topics()))
            await asyncio.sleep(TOPICS_PAUSE_SEC)


class CommandCompleter(Completer):
    """Completes commands, then topics and patterns, then options. ``subscribed`` returns the present subscriptions."""

    def __init__(self, topics: TopicNames, subscribed: Callable[[], list[str]]) -> None:
        self._topics = topics
        self._subscribed = subscribed

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor.lstrip()
        if _is_in_quotes(text):
            return []
        *before, word = re.split(r"\s+", text)
        names = (name for name in self._names(before, word) if name.startswith(word))
        return [Completion(name if name.endswith("=") else f"{name} ", -len(word), display=name) for name in names]

    def _names(self, before: list[str], word: str) -> Iterable[str]:
        """Return the names that may follow the words ``before``; ``word`` is the begun one."""
        match before:
            case [] | ["help", *_]:
                return SYNTAX
            case ["why"]:
                return []
            case ["why", _]:
                return self._topics.known
            case [name] if name in SYNTAX and "TOPIC" in SYNTAX[name].words:
                return self._names_after(name, word)
            case ["create", _, *_]:
                return _TOPIC_OPTIONS
            case [name, _, *given] if name in SYNTAX:
                return _options_of(SYNTAX[name], given)
            case _:
                return []

    def _names_after(self, command: str, word: str) -> Iterable[str]:
        match command:
            case "sub":
                return [*self._topics.known, *patterns_at(word, self._topics.known)]
            case "unsub":
                return dict.fromkeys([*self._subscribed(), *self._topics.known])
            case _:
                return self._topics.known


def _is_in_quotes(text: str) -> bool:
    try:
        shlex.split(text)
    except ValueError:
        return True
    return False


def _options_of(syntax: Syntax, given: list[str]) -> Iterator[str]:
    """Return the options that are not given yet; none once the TEXT of a publish has begun."""
    names = [word.partition("=")[0] for word in given]
    if all(name in syntax.options for name in names) or "TEXT" not in syntax.words:
        yield from (f"{name}=" for name in syntax.options if name not in names)


def patterns_at(word: str, topics: list[str]) -> list[str]:
    """Return the patterns that continue a word up to its last dot, if they cover a topic."""
    prefix = word[: word.rfind(".") + 1]
    if not prefix or not any(topic.startswith(prefix) for topic in topics):
        return []
    return [f"{prefix}*", f"{prefix}>"]
