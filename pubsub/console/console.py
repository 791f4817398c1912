"""Runs commands one after the other and shows their results. It must never read input by itself."""

import time
from functools import partial

import aiohttp
from yarl import URL

from pubsub.client import requests
from pubsub.client.address import Unreachable
from pubsub.client.replies import Error, Reply
from pubsub.client.rest import Refused, RestClient
from pubsub.console import lines
from pubsub.console.asking import request_of, subscription_of
from pubsub.console.commands import (
    Command,
    CreateTopic,
    DeleteTopic,
    Help,
    ListRules,
    ListTopics,
    Nothing,
    PurgeTopic,
    Subscribe,
    Unsubscribe,
)
from pubsub.console.lines import Kind, Line, describe, describe_answer, describe_help
from pubsub.console.link import Link
from pubsub.console.screen import Screen
from pubsub.console.syntax import parse
from pubsub.console.words import CommandError


class Console:
    """One session of a person or a script. ``failed`` is true once a command has failed."""

    def __init__(self, http: aiohttp.ClientSession, base: URL, client_id: str) -> None:
        self.failed = False
        self.rest = RestClient(http, base)
        self.link = Link(http, base, client_id, received=self._show_received, remark=self.remark)
        self._screen = Screen()

    def remark(self, text: str) -> None:
        self._screen.show(Line(Kind.REMARK, text))

    def read(self, line: str) -> Command:
        """Parse a typed line; a line that is no command is shown as an error, and gives ``Nothing``."""
        try:
            return parse(line)
        except CommandError as error:
            self._fail(f"error: {error}")
            return Nothing()

    async def run(self, command: Command) -> None:
        """Run a command, and return once its answer or its failure has been shown."""
        try:
            await self._run(command)
        except Refused as refused:
            self._fail(f"error {refused.status}: {refused}")
        except Unreachable as error:
            self._fail(f"error: {error}")

    async def _run(self, command: Command) -> None:
        answered = partial(self._answer, command, time.monotonic())
        match command:
            case Subscribe():
                await self.link.subscribe(subscription_of(command, self.link.client_id), answered)
            case Unsubscribe(topic):
                await self.link.unsubscribe(topic, answered)
            case Help():
                self._show(describe_help(command))
            case _ if (request := request_of(command)) is not None:
                await self.link.ask(request, answered)
            case _:
                self._show(await self._call(command))

    async def _call(self, command: Command) -> list[Line]:
        """Run a command over REST, and describe its outcome."""
        match command:
            case ListTopics():
                return [lines.describe_topics(await self.rest.list_topics())]
            case ListRules():
                return lines.describe_rules(await self.rest.list_rules())
            case CreateTopic(topic, options):
                await self.rest.create(topic, dict(options))
                return [Line(Kind.OK, f"ok: created {topic}")]
            case DeleteTopic(topic):
                await self.rest.delete(topic)
                return [Line(Kind.OK, f"ok: deleted {topic}")]
            case PurgeTopic(topic):
                return [lines.describe_purge(topic, await self.rest.purge(topic))]
            case _:
                return []

    async def settle(self) -> None:
        """Wait until all that the server has sent so far has been shown: its pong comes last."""
        try:
            await self.link.ask(requests.Ping(), lambda pong: None)
        except Unreachable as error:
            self._fail(f"error: {error}")

    def _show_received(self, reply: Reply) -> None:
        self._show(describe(reply))

    def _answer(self, command: Command, asked_at: float, reply: Reply) -> None:
        self.failed = self.failed or isinstance(reply, Error)
        self._show(describe_answer(command, reply, seconds=time.monotonic() - asked_at))

    def _show(self, lines: list[Line]) -> None:
        for line in lines:
            self._screen.show(line)

    def _fail(self, text: str) -> None:
        self.failed = True
        self._screen.show(Line(Kind.ERROR, text))
