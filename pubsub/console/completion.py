"""Completion of commands and topics at the prompt. It must never wait for the server: it offers what it has."""

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
"""The least time between two requests for the list of topics."""


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
    """Completes the names of commands, and those of topics after a command that takes one."""

    def __init__(self, topics: TopicNames) -> None:
        self._topics = topics

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        *before, word = re.split(r"\s+", document.text_before_cursor.lstrip())
        names = (name for name in self._names(before) if name.startswith(word))
        return [Completion(f"{name} ", -len(word), display=name) for name in names]

    def _names(self, before: list[str]) -> Iterable[str]:
        """Return the names that may follow the words ``before``."""
        match before:
            case [] | ["help"]:
                return SYNTAX
            case [name] if name in SYNTAX and "TOPIC" in SYNTAX[name].arguments:
                return self._topics.known
            case _:
                return []
