"""The console's WebSocket: opened, kept, and opened again with the same subscriptions. It shows nothing by itself."""

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial

import aiohttp
import msgspec
from yarl import URL

from pubsub.console.address import Unreachable, cause_of, without_password
from pubsub.console.endings import LONGEST_PAUSE_SEC, Ending, ending_of, pauses, refusal_of
from pubsub.console.replies import Ack, Error, Info, Reply, Unknown, decode
from pubsub.console.subscriptions import Subscriptions

ANSWER_WAIT_SEC = 10.0
CLOSE_WAIT_SEC = 2.0
RENEWAL_PAUSE_SEC = 2.0
"""So often at least a topic that is gone is asked for; whoever makes it again may publish at once."""
LONGEST_DRAIN_SEC = 60.0
"""A server that tells its clients to stay away for longer is not believed."""
HEARTBEAT_SEC = 20.0
"""Without a pong for half of this the connection counts as lost: a server that vanished sends no FIN."""
MAX_FRAME_BYTES = 64 * 2**20
"""A history of 1,000 messages comes in one frame; beyond this the connection ends rather than the memory."""


_NOT_YET = Ending("no connection was made yet", returns=True)


class State(Enum):
    CONNECTING = "connecting"
    OPEN = "connected"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request without its answer yet. ``answered`` gets the answer before any later frame is read."""

    answered: Callable[[Reply], None]
    outcome: asyncio.Future[Reply | Ending]


class Link:
    """One client's connection to the server at ``base``.

    ``hear`` gets what comes unasked, ``remark`` what a person should know about the connection.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base: URL,
        client_id: str,
        *,
        hear: Callable[[Reply], None],
        remark: Callable[[str], None],
    ) -> None:
        self.name = f"{without_password(base)} as {client_id}"
        self.state = State.CONNECTING
        self._http = http
        self._url = (base / "ws").with_query(client_id=client_id)
        self._client_id = client_id
        self._hear = hear
        self._remark = remark
        self._request_ids = (f"c{number}" for number in itertools.count(1))
        self._pending: dict[str, _Pending] = {}
        self._subscriptions = Subscriptions()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._opened = asyncio.Event()
        self._was_open = False
        self._ending = _NOT_YET
        self._return_at = 0.0

    async def wait_open(self) -> None:
        await self._opened.wait()

    async def ask(self, request: Mapping[str, object], answered: Callable[[Reply], None]) -> None:
        """Send a request, and return once its answer was given to ``answered``; raises ``Unreachable``."""
        if self._socket is None:
            raise Unreachable(f"not connected: {self._ending.reason}")
        request_id = next(self._request_ids)
        pending = _Pending(answered, asyncio.get_running_loop().create_future())
        self._pending[request_id] = pending
        try:
            await self._send(self._socket, {**request, "client_id": self._client_id, "request_id": request_id})
            await self._outcome_of(pending)
        finally:
            del self._pending[request_id]

    async def subscribe(self, topic: str, last_n: int, answered: Callable[[Reply], None]) -> None:
        await self._subscribe({"type": "subscribe", "topic": topic, "last_n": last_n}, topic, answered)

    async def _resume(self, topic: str, answered: Callable[[Reply], None]) -> None:
        position = self._subscriptions.position(topic)
        await self._subscribe({"type": "subscribe", "topic": topic, "resume": {topic: position}}, topic, answered)

    async def _subscribe(self, request: Mapping[str, object], topic: str, answered: Callable[[Reply], None]) -> None:
        def begin(reply: Reply) -> None:
            answered(reply)
            if isinstance(reply, Ack):
                self._subscriptions.begin(topic, reply)

        await self.ask(request, begin)

    async def unsubscribe(self, topic: str, answered: Callable[[Reply], None]) -> None:
        def end(reply: Reply) -> None:
            # Again: the ack of a renewal may have come since.
            self._subscriptions.end(topic)
            answered(reply)

        self._subscriptions.end(topic)
        await self.ask({"type": "unsubscribe", "topic": topic}, end)

    async def keep_open(self, *, persistent: bool) -> Ending:
        """Connect, and again after each ending that allows it; the result is the one that does not.

        ``persistent`` goes on trying even when the first connection can't be made.
        """
        waits = pauses()
        while True:
            began = time.monotonic()
            ending = await self._live()
            said = self._ending
            self._lose(ending)
            if not ending.returns or not (persistent or self._was_open):
                self.state = State.CLOSED
                return ending
            if ending != said:
                self._remark(f"{ending.reason}; trying again")
            if time.monotonic() - began > LONGEST_PAUSE_SEC:
                waits = pauses()
            await asyncio.sleep(max(0.0, self._return_at - time.monotonic()) or next(waits))

    async def _live(self) -> Ending:
        """One connection from its first byte to its last."""
        try:
            async with self._http.ws_connect(
                self._url,
                heartbeat=HEARTBEAT_SEC,
                max_msg_size=MAX_FRAME_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WAIT_SEC),
            ) as socket:
                return await self._converse(socket)
        except aiohttp.WSServerHandshakeError as error:
            return refusal_of(error)
        except (aiohttp.ClientError, OSError) as error:
            return Ending(f"cannot reach {without_password(self._url.origin())}: {cause_of(error)}", returns=True)

    async def _converse(self, socket: aiohttp.ClientWebSocketResponse) -> Ending:
        self._open(socket)
        async with asyncio.TaskGroup() as group:
            renewal = group.create_task(self._subscribe_again())
            ending = await self._read(socket)
            renewal.cancel()
        return ending

    def _open(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        if self._was_open:
            self._remark(f"connected again to {self.name}")
        self._socket = socket
        self._was_open = True
        self._ending = _NOT_YET
        self.state = State.OPEN
        self._opened.set()

    def _lose(self, ending: Ending) -> None:
        self._socket = None
        self._ending = ending
        self.state = State.CONNECTING
        self._opened.clear()
        self._subscriptions.lose()
        for pending in self._pending.values():
            if not pending.outcome.done():
                pending.outcome.set_result(ending)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> Ending:
        while True:
            frame = await socket.receive()
            match frame.type:
                case aiohttp.WSMsgType.TEXT:
                    self._receive(decode(frame.data))
                case aiohttp.WSMsgType.BINARY:
                    self._receive(Unknown(repr(frame.data)))
                case aiohttp.WSMsgType.CLOSE:
                    return ending_of(frame.data, frame.extra or "")
                case aiohttp.WSMsgType.ERROR:
                    return Ending(f"the connection was lost: {frame.data}", returns=True)
                case _:
                    # Without a close frame aiohttp's own close code says nothing: it is 1000 for a killed server.
                    return Ending("the connection was lost", returns=True)

    def _receive(self, reply: Reply) -> None:
        self._subscriptions.note(reply)
        if isinstance(reply, Info) and reply.msg == "draining":
            self._return_at = time.monotonic() + min(reply.reconnect_after_ms / 1000, LONGEST_DRAIN_SEC)
        pending = self._pending.get(reply.request_id)
        if pending is None or pending.outcome.done():
            self._hear(reply)
        else:
            pending.answered(reply)
            pending.outcome.set_result(reply)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, request: Mapping[str, object]) -> None:
        try:
            await socket.send_str(msgspec.json.encode(request).decode())
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"not sent: {cause_of(error)}") from None

    async def _outcome_of(self, pending: _Pending) -> None:
        try:
            async with asyncio.timeout(ANSWER_WAIT_SEC):
                outcome = await pending.outcome
        except TimeoutError:
            raise Unreachable(f"no answer came within {ANSWER_WAIT_SEC:.0f} s") from None
        if isinstance(outcome, Ending):
            raise Unreachable(f"no answer came: {outcome.reason}")

    async def _subscribe_again(self) -> None:
        """Renew what the last connection had; a topic that is gone is asked for until it is there again."""
        absent: set[str] = set()
        for pause in pauses(RENEWAL_PAUSE_SEC):
            for topic in sorted(self._subscriptions.missing):
                with suppress(Unreachable):
                    await self._resume(topic, partial(self._renewed, topic, absent))
            if not self._subscriptions.missing:
                return
            await asyncio.sleep(pause)

    def _renewed(self, topic: str, absent: set[str], reply: Reply) -> None:
        match reply:
            case Ack():
                self._remark(f"subscribed again to {topic}; {self._subscriptions.account_for(topic, reply)}")
            case Error(error=problem) if problem.code == "TOPIC_NOT_FOUND":
                if topic not in absent:
                    self._remark(f"{problem.message} any more; subscribing again as soon as it does")
                absent.add(topic)
            case Error(error=problem):
                self._subscriptions.end(topic)
                self._remark(f"could not subscribe again to {topic}: {problem.code}: {problem.message}")
            case _:
                self._subscriptions.end(topic)
