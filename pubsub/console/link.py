"""The console's WebSocket: opened, kept, and opened again with the same subscriptions. It must never print."""

import asyncio
import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial

import aiohttp
from msgspec.structs import replace
from yarl import URL

from pubsub.client.address import ANSWER_WAIT_SEC, Unreachable, cause_of, connect_error, websocket_url, without_password
from pubsub.client.close_codes import Disconnection, explain_close, explain_refusal
from pubsub.client.frames import MAX_FRAME_BYTES
from pubsub.client.replies import Ack, Error, Info, Reply, Unknown, decode, request_id_of
from pubsub.client.requests import Request, Subscribe, Unsubscribe, encode
from pubsub.console.pauses import LONGEST_PAUSE_SEC, pauses
from pubsub.console.subscriptions import Subscriptions

CLOSE_WAIT_SEC = 2.0
RESUBSCRIBE_PAUSE_SEC = 2.0
"""The longest pause between two attempts to subscribe to a topic that is gone: it may be created again at any time."""
LONGEST_DRAIN_SEC = 60.0
"""A server that asks its clients to stay away for longer is not believed."""
HEARTBEAT_SEC = 20.0
"""Without a pong for half of this the connection counts as lost: a server that vanished sends no FIN."""

_NOT_YET = Disconnection("no connection was made yet", reconnects=True)


class State(Enum):
    CONNECTING = "connecting"
    OPEN = "connected"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request without an answer yet. ``answered`` gets the answer before any later frame is read."""

    answered: Callable[[Reply], None]
    outcome: asyncio.Future[Reply | Disconnection]


class Link:
    """One client's connection to the server at ``base``, over all reconnects.

    ``received`` gets each message that answers no request, ``remark`` the news of the connection itself.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base: URL,
        client_id: str,
        *,
        received: Callable[[Reply], None],
        remark: Callable[[str], None],
    ) -> None:
        self.name = f"{without_password(base)} as {client_id}"
        self.client_id = client_id
        self.state = State.CONNECTING
        self._http = http
        self._url = websocket_url(base, client_id)
        self._received = received
        self._remark = remark
        self._request_ids = (f"c{number}" for number in itertools.count(1))
        self._pending: dict[str, _Pending] = {}
        self._subscriptions = Subscriptions()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._opened = asyncio.Event()
        self._was_open = False
        self._disconnection = _NOT_YET
        self._reconnect_at = 0.0

    @property
    def subscribed(self) -> list[str]:
        """The topics and patterns that are subscribed to."""
        return self._subscriptions.names

    async def wait_open(self) -> None:
        await self._opened.wait()

    async def ask(self, request: Request, answered: Callable[[Reply], None]) -> None:
        """Send a request, and return once ``answered`` has had its answer; raises ``Unreachable``."""
        if self._socket is None:
            raise Unreachable(f"not connected: {self._disconnection.reason}")
        request_id = next(self._request_ids)
        pending = _Pending(answered, asyncio.get_running_loop().create_future())
        self._pending[request_id] = pending
        try:
            await self._send(self._socket, replace(request, request_id=request_id))
            await self._outcome_of(pending)
        finally:
            del self._pending[request_id]

    async def subscribe(self, request: Subscribe, answered: Callable[[Reply], None]) -> None:
        """Subscribe, and again after each reconnect."""

        def begin(reply: Reply) -> None:
            answered(reply)
            if isinstance(reply, Ack):
                self._subscriptions.begin(request, reply)

        await self.ask(request, begin)

    async def unsubscribe(self, topic: str, answered: Callable[[Reply], None]) -> None:
        def end(reply: Reply) -> None:
            # Again: the ack of a resubscribe may have come since.
            self._subscriptions.end(topic)
            answered(reply)

        self._subscriptions.end(topic)
        await self.ask(Unsubscribe(topic=topic, client_id=self.client_id), end)

    async def keep_open(self, *, persistent: bool) -> Disconnection:
        """Connect, and reconnect after each disconnection that allows it; return the one that does not.

        ``persistent`` tries again even when the first connection can't be made.
        """
        waits = pauses()
        while True:
            began = time.monotonic()
            disconnection = await self._connect_once()
            last_remarked = self._disconnection
            self._mark_closed(disconnection)
            if not disconnection.reconnects or not (persistent or self._was_open):
                self.state = State.CLOSED
                return disconnection
            if disconnection != last_remarked:
                self._remark(f"{disconnection.reason}; trying again")
            if time.monotonic() - began > LONGEST_PAUSE_SEC:
                waits = pauses()
            await asyncio.sleep(max(0.0, self._reconnect_at - time.monotonic()) or next(waits))

    async def _connect_once(self) -> Disconnection:
        """Open one connection and serve it to its end."""
        try:
            async with self._http.ws_connect(
                self._url,
                heartbeat=HEARTBEAT_SEC,
                max_msg_size=MAX_FRAME_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WAIT_SEC),
            ) as socket:
                self._mark_open(socket)
                return await self._serve(socket)
        except aiohttp.WSServerHandshakeError as error:
            return explain_refusal(error.status)
        except (aiohttp.ClientError, OSError) as error:
            return Disconnection(connect_error(self._url, error), reconnects=True)

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse) -> Disconnection:
        async with asyncio.TaskGroup() as group:
            resubscribing = group.create_task(self._resubscribe())
            disconnection = await self._read(socket)
            resubscribing.cancel()
        return disconnection

    def _mark_open(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        if self._was_open:
            self._remark(f"connected again to {self.name}")
        self._socket = socket
        self._was_open = True
        self._disconnection = _NOT_YET
        self.state = State.OPEN
        self._opened.set()

    def _mark_closed(self, disconnection: Disconnection) -> None:
        self._socket = None
        self._disconnection = disconnection
        self.state = State.CONNECTING
        self._opened.clear()
        self._subscriptions.disconnect()
        for pending in self._pending.values():
            if not pending.outcome.done():
                pending.outcome.set_result(disconnection)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> Disconnection:
        while True:
            frame = await socket.receive()
            match frame.type:
                case aiohttp.WSMsgType.TEXT:
                    self._receive(decode(frame.data))
                case aiohttp.WSMsgType.BINARY:
                    self._receive(Unknown(repr(frame.data)))
                case aiohttp.WSMsgType.CLOSE:
                    return explain_close(frame.data, frame.extra or "")
                case aiohttp.WSMsgType.ERROR:
                    return Disconnection(f"the connection was lost: {frame.data}", reconnects=True)
                case _:
                    # Without a close frame aiohttp's own close code says nothing: it is 1000 for a killed server.
                    return Disconnection("the connection was lost", reconnects=True)

    def _receive(self, reply: Reply) -> None:
        is_new = self._subscriptions.note(reply)
        if isinstance(reply, Info) and reply.msg == "draining":
            self._reconnect_at = time.monotonic() + min(reply.reconnect_after_ms / 1000, LONGEST_DRAIN_SEC)
        pending = self._pending.get(request_id_of(reply))
        if pending is None or pending.outcome.done():
            if is_new:
                self._received(reply)
        else:
            pending.answered(reply)
            pending.outcome.set_result(reply)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, request: Request) -> None:
        try:
            await socket.send_str(encode(request).decode())
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"not sent: {cause_of(error)}") from None

    async def _outcome_of(self, pending: _Pending) -> None:
        try:
            async with asyncio.timeout(ANSWER_WAIT_SEC):
                outcome = await pending.outcome
        except TimeoutError:
            raise Unreachable(f"no answer came within {ANSWER_WAIT_SEC:.0f} s") from None
        if isinstance(outcome, Disconnection):
            raise Unreachable(f"no answer came: {outcome.reason}")

    async def _resubscribe(self) -> None:
        """Subscribe as in the last connection; to a topic that is gone as soon as it is there again."""
        absent: set[str] = set()
        for pause in pauses(RESUBSCRIBE_PAUSE_SEC):
            for topic in self._subscriptions.to_resume():
                with suppress(Unreachable):
                    await self._resume(topic, absent)
            if not self._subscriptions.missing:
                return
            await asyncio.sleep(pause)

    async def _resume(self, topic: str, absent: set[str]) -> None:
        request = self._subscriptions.resume(topic)
        if request is not None:  # unless it was unsubscribed from while another topic was resumed
            await self.subscribe(request, partial(self._resubscribed, topic, absent))

    def _resubscribed(self, topic: str, absent: set[str], reply: Reply) -> None:
        match reply:
            case Ack():
                self._remark(f"subscribed again to {topic}; {self._subscriptions.describe_resume(topic, reply)}")
            case Error(error=problem) if problem.code == "TOPIC_NOT_FOUND":
                if topic not in absent:
                    self._remark(f"{problem.message} any more; subscribing again as soon as it does")
                absent.add(topic)
            case Error(error=problem) if problem.code == "RATE_LIMITED":
                pass  # the next attempt comes after a pause
            case Error(error=problem):
                self._subscriptions.end(topic)
                self._remark(f"could not subscribe again to {topic}: {problem.code}: {problem.message}")
            case _:
                self._subscriptions.end(topic)
