"""A Host without I/O for the rules of the client: its clock moves when a test says so, and what is sent is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from msgspec import UNSET, Raw, UnsetType

from pubsub.client.conversation import Conversation
from pubsub.client.errors import Disconnected, PubsubError
from pubsub.client.events import Event, Gap, Notice, Position
from pubsub.client.inbox import InboxRules
from pubsub.client.interest import Interest, Wish
from pubsub.client.outcomes import Published
from pubsub.client.pacing import Pacing
from pubsub.client.payloads import decoder_of
from pubsub.client.publishes import OwnIds
from pubsub.client.reconnects import Retry
from pubsub.client.requests import Message, Publish

Json = dict[str, Any]
TS = "2025-08-25T10:00:00Z"
HEARTBEAT = 30.0
ANSWER_TIMEOUT = 10.0


class Timer:
    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeHost:
    """See the module. ``dropped`` and ``reports`` have what the rules told it."""

    def __init__(self) -> None:
        self.random = Random(1)
        self.now = 1000.0
        self.sent: list[Json] = []
        self.dropped: list[str] = []
        self.reports: list[PubsubError] = []
        self._timers: list[Timer] = []

    def send(self, text: bytes) -> None:
        self.sent.append(json.loads(text))

    def read(self) -> None:
        pass

    def drop(self, reason: str) -> None:
        self.dropped.append(reason)

    def clock(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self.now + delay, callback)
        self._timers.append(timer)
        return timer

    def report(self, error: PubsubError) -> None:
        self.reports.append(error)

    @property
    def timers(self) -> list[Timer]:
        """Those that are still to come, in order."""
        self._timers = [timer for timer in self._timers if not timer.cancelled]
        return sorted(self._timers, key=lambda timer: timer.due)

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and fire the timers on the way."""
        end = self.now + seconds
        while (timers := self.timers) and timers[0].due <= end:
            timer = timers[0]
            self._timers.remove(timer)
            self.now = max(self.now, timer.due)
            timer.callback()
        self.now = end

    def take_sent(self) -> list[Json]:
        """Return what was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent


class Talk:
    """A Conversation with a FakeHost, and the server's part of it: each ``send_…`` is a message of the server."""

    def __init__(self, *, renewable: bool = False) -> None:
        self.host = FakeHost()
        self.own_ids = OwnIds()
        self.conversation = Conversation(
            self.host,
            answer_timeout=ANSWER_TIMEOUT,
            heartbeat=HEARTBEAT,
            own_ids=self.own_ids,
            pacing=Pacing(),
            renewable=renewable,
        )
        self.begun: dict[str, list[PubsubError | None]] = {}

    def open(self) -> None:
        self.conversation.opened("tester")

    def reopen(self) -> None:
        """Lose the connection, and open the next one."""
        decision = self.conversation.closed(1011, "")
        assert isinstance(decision, Retry)
        self.host.pass_time(decision.pause)
        self.open()

    def subscribe(
        self,
        topic: str,
        *,
        kind: Any = Any,
        limit: int = 100,
        mends: bool = True,
        echo: bool = True,
        last_n: int = 0,
        notices: bool = False,
        filter: str | UnsetType = UNSET,
        resume: dict[str, Position] | None = None,
    ) -> Interest:
        wish = Wish(topic=topic, last_n=last_n, notices=notices, filter=filter, resume=resume or {})
        rules = InboxRules(decode=decoder_of(kind), limit=limit, own=None if echo else self.own_ids, mends=mends)
        return self.conversation.subscribe(wish, rules, self.begun.setdefault(topic, []).append)

    def publish(
        self, topic: str = "t", payload: Any = 1, message_id: str = "i", expect_seq: int | UnsetType = UNSET
    ) -> list[Published | PubsubError]:
        """Publish; the outcome comes into the list."""
        outcomes: list[Published | PubsubError] = []
        message = Message(message_id, Raw(json.dumps(payload).encode()))
        self.conversation.publish(Publish(topic=topic, message=message, expect_seq=expect_seq), outcomes.append)
        return outcomes

    def answer(self, kind: str = "ack", **fields: Any) -> Json:
        """Answer the oldest request that was sent and not answered yet; return the request."""
        request = self.host.sent.pop(0)
        self.send({"type": kind, "request_id": request["request_id"], **fields})
        return request

    def refuse(self, code: str, **fields: Any) -> Json:
        return self.answer("error", error={"code": code, "message": f"told {code}", **fields})

    def send(self, message: Json) -> None:
        self.conversation.received(json.dumps({"ts": TS, **message}))

    def send_event(self, topic: str, seq: int, payload: Any = None, message_id: str = "m") -> None:
        self.send(event(topic, seq, payload, message_id))

    def send_info(self, msg: str, **fields: Any) -> None:
        self.send({"type": "info", "msg": msg, **fields})

    def begin(self, topic: str, *, epoch: str = "e", seq: int = 0, **wish: Any) -> Interest:
        """Subscribe to a topic, and acknowledge it."""
        interest = self.subscribe(topic, **wish)
        self.answer(topic=topic, status="ok", epoch=epoch, seq=seq)
        return interest


def event(topic: str, seq: int, payload: Any = None, message_id: str = "m") -> Json:
    return {"type": "event", "topic": topic, "message": {"id": message_id, "payload": payload}, "seq": seq, "ts": TS}


def take_all(interest: Interest) -> list[Event[Any] | Gap | Notice]:
    """Take all items that can be taken."""
    taken = []
    while (item := interest.inbox.take()) is not None:
        taken.append(item)
    return taken


def seqs(interest: Interest) -> list[int]:
    """Take all items, which have to be events; return their numbers."""
    taken = take_all(interest)
    assert all(isinstance(item, Event) for item in taken), taken
    return [item.seq for item in taken if isinstance(item, Event)]


def is_terminal(decision: Retry | Disconnected) -> bool:
    return isinstance(decision, Disconnected)
