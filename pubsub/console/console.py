"""Runs commands one after the other and shows their results. It must never read input by itself."""

import asyncio
from contextlib import suppress

import aiohttp
from msgspec import Raw
from yarl import URL

from pubsub.client import Client, History, Published, PubsubError, State
from pubsub.client.address import without_password
from pubsub.client.credentials import Credentials
from pubsub.client.requests import MAX_HISTORY_LIMIT
from pubsub.client.rest import RestClient
from pubsub.console import lines
from pubsub.console.commands import (
    DEFAULT_LAST,
    Command,
    CreateTopic,
    DeleteTopic,
    Help,
    ListClients,
    ListRules,
    ListTopics,
    Nothing,
    OverRest,
    OverWebSocket,
    Ping,
    Publish,
    PurgeTopic,
    Quit,
    ReadHistory,
    RedriveLetters,
    Subscribe,
    TraceMessage,
    Unsubscribe,
)
from pubsub.console.connection import Connection
from pubsub.console.following import Following, Item, NotSubscribed
from pubsub.console.lines import Kind, Line
from pubsub.console.screen import OutputClosed, Screen
from pubsub.console.syntax import parse
from pubsub.console.words import CommandError


class Console:
    """One session of a person or a script, with the server at ``base``. ``failed`` is true once a command has failed.

    ``client`` is entered and left by the session. ``connect_timeout`` is that of the client.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base: URL,
        client_id: str,
        credentials: Credentials,
        *,
        connect_timeout: float | None,
    ) -> None:
        self.failed = False
        self.rest = RestClient(http, base)
        self.connection = Connection(f"{without_password(base)} as {client_id}", self.remark)
        self.client = Client(
            str(base),
            client_id=client_id,
            token=credentials.token or None,
            tls=credentials.tls,
            connect_timeout=connect_timeout,
            on_state=self.connection.note,
        )
        self.following = Following(self.client, show=self._show_item, fail=self._fail_by)
        self._screen = Screen()
        self._output_closed = asyncio.Event()

    def remark(self, text: str) -> None:
        self._show([Line(Kind.REMARK, text)])

    async def wait_output_closed(self) -> None:
        """Wait until nobody reads the output any more."""
        await self._output_closed.wait()

    def read(self, line: str) -> Command:
        """Parse a typed line; a line that is no command is shown as an error, and gives ``Nothing``."""
        try:
            return parse(line)
        except CommandError as error:
            self._fail(f"error: {error}")
            return Nothing()

    async def run(self, command: Command) -> None:
        """Run a command, and return once its outcome or its failure has been shown."""
        try:
            self._show(await self._run(command))
        except (PubsubError, NotSubscribed) as error:
            self._fail_by(error)

    async def settle(self) -> None:
        """Wait until all that the server has sent so far has been shown: its answer to a ping comes last."""
        try:
            self.connection.require_open()
            await self.client.ping()
        except PubsubError as error:
            self._fail_by(error)

    async def _run(self, command: Command) -> list[Line]:
        match command:
            case Help():
                return lines.describe_help(command)
            case Quit() | Nothing():
                return []
            case (
                ListTopics()
                | ListRules()
                | TraceMessage()
                | CreateTopic()
                | DeleteTopic()
                | PurgeTopic()
                | RedriveLetters()
            ):
                outcome = await self._call(command)
                await self._catch_up()  # its consequences come over the WebSocket
                return outcome
            case _:
                self.connection.require_open()
                return await self._ask(command)

    async def _ask(self, command: OverWebSocket) -> list[Line]:
        """Run a command over the WebSocket, and describe its outcome."""
        match command:
            case Subscribe(topic):
                self._show([lines.describe_subscription(topic, await self.following.subscribe(command))])
                await self._catch_up()
                return []
            case Unsubscribe(topic):
                await self.following.unsubscribe(topic)
                return [Line(Kind.OK, f"ok: unsubscribed from {topic}")]
            case Publish():
                return [lines.describe_published(await self._publish(command))]
            case ReadHistory():
                return lines.describe_history(command.topic, await self._read_history(command))
            case ListClients(topic):
                return [lines.describe_presence(await self.client.presence(topic))]
            case Ping():
                return [lines.describe_ping(await self.client.ping())]

    async def _catch_up(self) -> None:
        """Show what the server has sent so far, as :meth:`settle` does; it is no failure if that is not to be had."""
        if self.connection.state is State.OPEN:
            with suppress(PubsubError):
                await self.client.ping()

    async def _publish(self, wanted: Publish) -> Published:
        payload = Raw(wanted.payload.encode())
        return await self.client.publish(wanted.topic, payload, ttl_sec=wanted.ttl, expect_seq=wanted.expect)

    async def _read_history(self, wanted: ReadHistory) -> History[Raw]:
        last = DEFAULT_LAST if wanted.last is None and wanted.after is None else wanted.last
        return await self.client.history(
            wanted.topic,
            type=Raw,
            last_n=last,
            after=wanted.after,
            limit=MAX_HISTORY_LIMIT if wanted.limit is None else wanted.limit,
            filter=wanted.filter or None,
            params=wanted.params,
        )

    async def _call(self, command: OverRest) -> list[Line]:
        """Run a command over REST, and describe its outcome."""
        match command:
            case ListTopics():
                return lines.describe_topics(await self.rest.list_topics(), self.rest.missing)
            case ListRules():
                return lines.describe_rules(await self.rest.list_rules())
            case TraceMessage(client_id, topic, seq):
                return lines.describe_trace(await self.rest.trace(client_id, topic, seq))
            case CreateTopic(topic, options):
                await self.rest.create(topic, dict(options))
                return [Line(Kind.OK, f"ok: created {topic}")]
            case DeleteTopic(topic):
                await self.rest.delete(topic)
                return [Line(Kind.OK, f"ok: deleted {topic}")]
            case PurgeTopic(topic):
                return [lines.describe_purge(topic, await self.rest.purge(topic))]
            case RedriveLetters(topic, after, limit):
                outcome = await self.rest.redrive(topic, after=after, limit=limit)
                return [lines.describe_redrive(topic, outcome)]

    def _show_item(self, item: Item) -> None:
        self._show([lines.line_of(item)])

    def _fail_by(self, error: Exception) -> None:
        self._fail(lines.describe_error(error))

    def _fail(self, text: str) -> None:
        self.failed = True
        self._show([Line(Kind.ERROR, text)])

    def _show(self, lines: list[Line]) -> None:
        try:
            for line in lines:
                self._screen.show(line)
        except OutputClosed:
            self._output_closed.set()
