"""A connection to the server, made again and again, with aiohttp: the shell around a Conversation.

It must never decide what a message means, or if it may connect again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

import aiohttp
from aiohttp import WSMsgType
from yarl import URL

from pubsub.client.address import cause_of, connect_error
from pubsub.client.conversation import Conversation
from pubsub.client.errors import (
    Disconnected,
    PubsubError,
    ServerFault,
    TokenError,
    Unreachable,
    UntrustedCertificate,
)
from pubsub.client.frames import MAX_FRAME_BYTES
from pubsub.client.pacing import Pacing
from pubsub.client.pauses import Pauses
from pubsub.client.publishes import OwnIds
from pubsub.client.reconnects import LONGEST_PAUSE_SEC, Retry
from pubsub.client.socket import Socket
from pubsub.client.states import State, StateChange
from pubsub.client.tokens import Tokens

__all__ = ["Link", "Peer"]

log = logging.getLogger("pubsub.client")

CLOSE_WAIT_SEC: Final = 2.0
"""A server that does not answer a close frame within this time is left."""


@dataclass(slots=True, kw_only=True)
class Peer:
    """The server and this client's name there, for all its links.

    ``client_id``: the user's choice, then what the server says. ``asked_id``: the name to ask for.
    """

    http: aiohttp.ClientSession
    url: URL
    tokens: Tokens
    own_ids: OwnIds
    pacing: Pacing
    asked_id: str
    client_id: str
    answer_timeout: float
    heartbeat: float

    def websocket_url(self) -> URL:
        url = self.url / "ws"
        return url.with_query(client_id=self.asked_id) if self.asked_id else url

    def take_name(self, given: str) -> None:
        """Take the name that the server has given; empty if it was asked for one."""
        self.client_id = given or self.client_id
        if not self.tokens.used:  # with a token, its name may be another one the next time
            self.asked_id = self.client_id


class Link:
    """One connection after the other, the Host of a Conversation. ``told`` gets each change of its state.

    ``persistent``: tries again even if the first attempt fails.
    """

    def __init__(self, peer: Peer, told: Callable[[StateChange], None], *, persistent: bool = True) -> None:
        self.random = Random()
        self.latest = StateChange(State.CONNECTING, "not connected yet")
        self._peer = peer
        self._told = told
        self._persistent = persistent
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[bytes] = deque()
        self._has_unsent = asyncio.Event()
        self._may_read = asyncio.Event()
        self._settled = asyncio.Event()
        self._was_open = False
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._dropped = ""
        self._serving: asyncio.Timeout | None = None
        self.conversation = Conversation(
            self,
            answer_timeout=peer.answer_timeout,
            heartbeat=peer.heartbeat,
            own_ids=peer.own_ids,
            pacing=peer.pacing,
            renewable=peer.tokens.renewable,
        )

    # --- For the conversation (Host)

    def send(self, text: bytes) -> None:
        self._unsent.append(text)
        self._has_unsent.set()
        self._may_read.set()

    def read(self) -> None:
        self._may_read.set()

    def drop(self, reason: str) -> None:
        if not self._dropped:
            self._dropped = reason
            self._stop_reading()

    def clock(self) -> float:
        return self._loop.time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, callback)

    def report(self, error: PubsubError) -> None:
        log.warning("%s", error)
        self._tell(StateChange(self.latest.state, str(error), error))

    # --- For the client

    async def wait_open(self) -> None:
        """Wait for the first connection. Raises Disconnected or Unreachable where there can't be one."""
        await self._settled.wait()
        if self.latest.state is State.CLOSED and self.latest.error is not None:
            raise self.latest.error.copy()

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run())

    def stop(self) -> asyncio.Task[None]:
        """Begin to end; return the task that does."""
        assert self._task is not None, "it was started"
        self._stopped = True  # aiohttp may lose a cancellation
        self._task.cancel()
        return self._task

    async def _run(self) -> None:
        """Connect, and connect again after each end that allows it."""
        try:
            while not self._stopped:
                decision = await self._connect()
                if isinstance(decision, Disconnected):
                    self._end(decision)
                    return
                if not (self._was_open or self._may_try_again(decision.error)):
                    self._end(decision.error)
                    return
                self._change(State.CONNECTING, str(decision.error), decision.error, decision.pause)
                if not self._stopped:
                    await asyncio.sleep(decision.pause)
        finally:
            if self.latest.state is not State.CLOSED:
                self.conversation.leave()
                self._change(State.CLOSED, "the client was closed")

    def _may_try_again(self, error: PubsubError) -> bool:
        """Return True if another attempt may succeed where the first one has failed.

        An untrusted certificate is a fault of the settings then; later it is one of the server's renewal.
        """
        return self._persistent and not isinstance(error, UntrustedCertificate)

    async def _connect(self) -> Retry | Disconnected:
        """Make one connection, and serve it to its end."""
        try:
            return await self._serve(await self._open())
        except aiohttp.WSServerHandshakeError as error:
            return self.conversation.refused(error.status)
        except aiohttp.ClientConnectorCertificateError as error:
            return self.conversation.lost(UntrustedCertificate(connect_error(self._peer.url, error)))
        except (aiohttp.ClientError, OSError) as error:
            return self.conversation.lost(Unreachable(connect_error(self._peer.url, error)))
        except TokenError as error:
            return self.conversation.lost(error)
        except Exception as error:
            log.exception("Unexpected, the client connects again")
            return self.conversation.lost(ServerFault(f"unexpected: {type(error).__name__}"))

    async def _open(self) -> Socket:
        peer = self._peer
        token = await peer.tokens.fetch()
        async with asyncio.timeout(peer.answer_timeout):  # a total timeout of aiohttp's loses cancellations
            socket = await peer.http.ws_connect(
                peer.websocket_url(),
                headers={} if token is None else {"Authorization": f"Bearer {token}"},
                max_msg_size=MAX_FRAME_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WAIT_SEC),
                decode_text=False,
            )
        assert isinstance(socket, Socket), "the session makes no other"
        return socket

    async def _serve(self, socket: Socket) -> Retry | Disconnected:
        self._unsent.clear()
        self._dropped = ""
        self._peer.take_name(socket.client_id)
        self.conversation.opened(self._peer.client_id)
        self._was_open = True
        self._change(State.OPEN, "connected")
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self._write(socket)), group.create_task(self._renew_tokens())]
                decision = await self._read(socket)
                for task in beside:
                    task.cancel()
            return decision
        finally:
            await self._close(socket)

    async def _read(self, socket: Socket) -> Retry | Disconnected:
        """Read until the connection ends."""
        conversation = self.conversation
        try:
            async with asyncio.timeout(None) as self._serving:
                if self._dropped:
                    self._stop_reading()
                while (frame := await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    # No message of the protocol is binary: it is none that can be decoded.
                    conversation.received(frame.data if frame.type is WSMsgType.TEXT else b"")
                    await socket.read_batch(conversation.received, conversation.full)
                    await self._wait_for_room()
                return self._decide(frame)
        except TimeoutError:
            socket.abort()
            return conversation.lost(Unreachable(f"the connection was lost: {self._dropped or 'timeout'}"))
        except (aiohttp.ClientError, OSError) as error:  # aiohttp answers a ping while it reads
            return conversation.lost(Unreachable(f"the connection was lost: {cause_of(error)}"))
        finally:
            self._serving = None

    def _stop_reading(self) -> None:
        if self._serving is not None:
            self._serving.reschedule(self._loop.time())

    def _decide(self, frame: aiohttp.WSMessage) -> Retry | Disconnected:
        """Take the last frame of a connection."""
        if frame.type is WSMsgType.CLOSE:
            return self.conversation.closed(frame.data, frame.extra or "")
        if isinstance(frame.data, aiohttp.WebSocketError):
            return self.conversation.lost(ServerFault(f"the server broke the WebSocket protocol: {frame.data}"))
        # Without a close frame aiohttp's own close code says nothing: it is 1000 for a server that was killed.
        detail = f": {cause_of(frame.data)}" if isinstance(frame.data, Exception) else ""
        return self.conversation.lost(Unreachable(f"the connection was lost{detail}"))

    async def _wait_for_room(self) -> None:
        while self.conversation.paused:
            self._may_read.clear()
            await self._may_read.wait()

    async def _write(self, socket: Socket) -> None:
        """Write what is to be sent. The reader finds out when the connection is lost."""
        with suppress(aiohttp.ClientError, OSError):
            while True:
                while self._unsent:
                    await socket.send_frame(self._unsent.popleft(), WSMsgType.TEXT)
                self._has_unsent.clear()
                await self._has_unsent.wait()

    async def _renew_tokens(self) -> None:
        """Give the server a new token before the latest one expires."""
        pauses = Pauses(self.random, LONGEST_PAUSE_SEC)
        while (wait := self._peer.tokens.renewal_sec()) is not None:
            await asyncio.sleep(wait)
            try:
                token = await self._peer.tokens.fetch()
            except TokenError as error:
                self.report(error)
                await asyncio.sleep(pauses.next())
            else:
                pauses.reset()
                assert token is not None, "a function gives a token"
                self.conversation.renew(token)

    async def _close(self, socket: Socket) -> None:
        try:
            async with asyncio.timeout(CLOSE_WAIT_SEC):
                await socket.close()
        except TimeoutError:
            socket.abort()
        except asyncio.CancelledError:
            socket.abort()
            raise

    def _end(self, error: PubsubError) -> None:
        self.conversation.end(error)
        self._change(State.CLOSED, str(error), error)

    def _change(
        self, state: State, reason: str, error: PubsubError | None = None, retry_sec: float | None = None
    ) -> None:
        if state is not State.CONNECTING:
            self._settled.set()
        log.log(
            logging.INFO if error is None else logging.WARNING,
            "%s",
            f"{state.value}: {reason}" + ("" if retry_sec is None else f"; trying again in {retry_sec:.1f} s"),
        )
        self.latest = StateChange(state, reason, error, retry_sec)
        self._tell(self.latest)

    def _tell(self, change: StateChange) -> None:
        try:
            self._told(change)
        except Exception:
            log.exception("on_state has raised")
