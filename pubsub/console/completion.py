"""Completion of what is typed at the prompt. It never waits for the server: it offers the topics it last heard of."""

import asyncio
import re
from collections.abc import Iterable
from contextlib import suppress

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from pubsub.client.address import Unreachable
from pubsub.client.requests import is_topic
from pubsub.client.rest import Refused, RestClient
from pubsub.console.commands import SYNTAX

TOPICS_PAUSE_SEC = 0.5
"""So long completion waits after each question to the server for its topics."""


class TopicNames:
    """The server's topics as they were last heard of."""

    def __init__(self, rest: RestClient) -> None:
        self.known: list[str] = []
        self._rest = rest
        self._wanted = asyncio.Event()

    def want(self) -> None:
        """Have newer ones fetched soon. It costs nothing to ask often."""
        self._wanted.set()

    async def keep_fresh(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            with suppress(Unreachable, Refused):
                self.known = sorted(filter(is_topic, await self._rest.list_topics()))
            await asyncio.sleep(TOPICS_PAUSE_SEC)


class CommandCompleter(Completer):
    """Completes the names of commands, and of topics where a command takes one."""

    def __init__(self, topics: TopicNames) -> None:
        self._topics = topics

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        *before, word = re.split(r"\s+", document.text_before_cursor.lstrip())
        names = (name for name in self._names(before) if name.startswith(word))
        return [Completion(f"{name} ", -len(word), display=name) for name in names]

    def _names(self, before: list[str]) -> Iterable[str]:
        """What may stand after the words ``before``."""
        match before:
            case [] | ["help"]:
                return SYNTAX
            case [name] if name in SYNTAX and "TOPIC" in SYNTAX[name].arguments:
                return self._topics.known
            case _:
                return []
