"""The good clients: publishers, subscribers that keep up, wanderers with random requests, and a probe that pings.

Each has a Ledger. Findings collects the broken invariants that the ledgers find, with the name of the client.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from array import array
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random, choice
from typing import Any
from zlib import crc32

import msgspec
from kinds import KINDS
from oracle import Broken, Json, Ledger, Progress, Record, Rights
from yarl import URL

from pubsub.bench.websocket import WebSocket
from pubsub.client import ServerFault, Unreachable
from pubsub.client.credentials import Credentials
from pubsub.client.frames import (
    COMPRESSED_KINDS,
    EXTENSION,
    FIN_DEFLATED,
    FrameBounds,
    client_frame,
    text_in,
)
from pubsub.protocol.deflate import LARGEST_WINDOW, TAIL, Deflater

PATIENCE = 20.0  # seconds until a required result must be there

_decode = msgspec.json.Decoder().decode


@dataclass
class Findings:
    """Broken invariants, and latencies in milliseconds from the time at which an event was due to be published.

    ``latencies`` separates durable topics from plain ones, because theirs include the disk.
    """

    broken: list[str] = field(default_factory=list)
    latencies: dict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    own_lags: array[float] = field(default_factory=lambda: array("d"))
    deliveries: int = 0
    acks: int = 0
    gaps: int = 0
    resumes: int = 0

    def take_latencies(self) -> tuple[dict[str, list[float]], list[float]]:
        """Return and clear the sorted latencies, and the sorted delays of this process, which all latencies include."""
        taken = (
            {kind: sorted(late) for kind, late in sorted(self.latencies.items(), reverse=True)},
            sorted(self.own_lags),
        )
        self.latencies.clear()
        self.own_lags = array("d")
        return taken

    async def watch_own_lag(self) -> None:
        while True:
            due = time.monotonic() + 0.01
            await asyncio.sleep(0.01)
            self.own_lags.append((time.monotonic() - due) * 1000)


@dataclass(frozen=True)
class Place:
    """The address to which members connect, and the objects that they share.

    ``token`` makes a token for a client's id, or returns an empty text; ``rights`` are those of the token.
    """

    url: URL
    token: Callable[[str], str]
    rights: Callable[[str], Rights]
    record: Record
    findings: Findings
    resumes: bool

    def address(self, client_id: str) -> URL:
        query = {"client_id": client_id}
        if token := self.token(client_id):
            query["token"] = token
        return self.url.with_path("/ws").with_query(query)


class Member(WebSocket):
    """One connection of a good client. ``ended`` is set at its end, whichever side ended it."""

    def __init__(self, place: Place, name: str, *, tolerant: bool = False) -> None:
        super().__init__()
        self.place = place
        self.name = name
        self.ledger = Ledger(place.record, tolerant=tolerant, rights=place.rights(name))
        self.ended = asyncio.Event()
        self.told = asyncio.Event()  # is set at each answer
        self.histories: list[Json] = []
        self._asked = 0

    async def join(self) -> None:
        await self.open(self.place.address(self.name), Credentials())

    def request(self, kind: str, **fields: Any) -> None:
        self._asked += 1
        asked = {"type": kind, "client_id": self.name, "request_id": f"{self.name}-{self._asked}", **fields}
        self.ledger.ask(asked)
        self.send(json.dumps(asked).encode())

    def publish(self, topic: str, due: float, padding: str = "") -> None:
        payload = {"due": due, "kind": choice(KINDS), "padding": padding}
        message = {"id": str(uuid.uuid4()), "payload": payload}
        self.request("publish", topic=topic, message=message)

    async def answered(self) -> None:
        """Wait until every request is answered, or the connection has ended."""
        async with asyncio.timeout(PATIENCE):
            while self.ledger.unanswered and not self.ended.is_set():
                self.told.clear()
                await self.told.wait()

    def take(self, received: bytes, frame: FrameBounds) -> None:
        message = _decode(text_in(received, frame))
        try:
            self.ledger.take(message)
        except Broken as broken:
            self.place.findings.broken.append(f"{self.name}: {broken}")
        match message["type"]:
            case "event":
                self._measure(message)
            case "ack" | "pong" | "error" | "history":
                self.place.findings.acks += message["type"] == "ack"
                if message["type"] == "history":
                    self.histories.append(message)
                self.told.set()

    def _measure(self, event: Json) -> None:
        self.place.findings.deliveries += 1
        payload = event["message"]["payload"]
        if isinstance(payload, dict) and (due := payload.get("due")):
            kind = "durable" if event["topic"].startswith("durable.") else "plain"
            self.place.findings.latencies[kind].append((time.monotonic() - due) * 1000)

    def fail(self, reason: str) -> None:
        self.ended.set()
        self.told.set()

    def vanish(self) -> None:
        """End the connection without a close frame."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self.ended.set()
        self.told.set()


class CompressedMember(Member):
    """A member that offers compression, and compresses what it sends."""

    KINDS = COMPRESSED_KINDS
    DEFLATER = Deflater(LARGEST_WINDOW)  # one for all: it keeps nothing from message to message

    def head_fields(self) -> str:
        return f"{super().head_fields()}Sec-WebSocket-Extensions: {EXTENSION}\r\n"

    def check_head(self, head: bytes) -> None:
        super().check_head(head)
        if EXTENSION.encode() not in head:
            raise ServerFault("the server does not agree to compression")

    def send(self, payload: bytes) -> None:
        deflated = self.DEFLATER.deflate(payload).removesuffix(TAIL)
        self.write(client_frame(FIN_DEFLATED, deflated, os.urandom(4)))


def new_member(place: Place, name: str) -> Member:
    """Make a member; about half of all names compress, always the same ones."""
    return (CompressedMember if crc32(name.encode()) % 2 else Member)(place, name)


class Subscriber:
    """A client that subscribes again after each end of its connection, and misses no event that it can recover."""

    def __init__(self, topic: str, name: str, *, durable: bool) -> None:
        self.topic = topic
        self.name = name
        self.durable = durable
        self.member: Member | None = None

    async def join(self, place: Place) -> None:
        """Connect and subscribe; recover the events that were missed, if the topic has the same epoch."""
        before = self.member.ledger.topics.get(self.topic) if self.member is not None else None
        member = new_member(place, self.name)
        await member.join()
        if before is None:
            member.request("subscribe", topic=self.topic)
            await member.answered()
        else:
            await self._resume(member, before, before.next_seq - 1)
        self.member = member

    async def _resume(self, member: Member, before: Progress, seen: int) -> None:
        findings = member.place.findings
        findings.resumes += 1
        if member.place.resumes:
            resume = {self.topic: {"epoch": before.epoch, "seq": seen}}
            member.request("subscribe", topic=self.topic, resume=resume)
            await member.answered()
        else:
            await self._catch_up(member, before.epoch, seen)
        now = member.ledger.topics.get(self.topic)
        must_recover = self.durable or (member.place.resumes and now is not None and now.epoch == before.epoch)
        if must_recover and now is not None and (now.epoch != before.epoch or not now.recovered):
            findings.broken.append(f"{self.name}: {self.topic} of {before.epoch} {seen} is now {now}")

    async def _catch_up(self, member: Member, epoch: str, seen: int) -> None:
        member.request("subscribe", topic=self.topic)
        await member.answered()
        subscription = member.ledger.topics.get(self.topic)
        if subscription is None or subscription.epoch != epoch:
            return
        joined_at = subscription.next_seq
        member.request("history", topic=self.topic, after=seen)
        await member.answered()
        if not member.histories:
            return  # the connection has ended
        history = member.histories.pop()
        fetched = [event["seq"] for event in history["messages"]]
        reaches = not history["complete"] or seen + len(fetched) >= joined_at - 1
        if fetched != list(range(seen + 1, seen + 1 + len(fetched))) or not reaches:
            member.place.findings.broken.append(f"{self.name}: history after {seen} gave {fetched[:3]}…{fetched[-3:]}")

    @property
    def is_complete(self) -> bool:
        """True if it has every event that any client has seen of the topic's present epoch."""
        assert self.member is not None
        ledger = self.member.ledger
        return self.topic in ledger.topics and ledger.is_complete(self.topic)


class Publisher(Subscriber):
    """A subscriber that also publishes, at fixed times that do not depend on the server's speed."""

    def __init__(self, topic: str, name: str, rate: float, *, durable: bool) -> None:
        super().__init__(topic, name, durable=durable)
        self._pause = 1 / rate

    async def publish(self, running: asyncio.Event) -> None:
        """Publish until cancelled, while ``running`` is set and the connection is open."""
        due = time.monotonic()
        while True:
            due += self._pause
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not running.is_set() or self.member is None or self.member.closed:
                due = time.monotonic()
                await asyncio.sleep(0.01)
            else:
                self.member.publish(self.topic, due, "x" * 200)


class Wanderer:
    """A client that connects, subscribes, publishes and disconnects at random, until cancelled."""

    def __init__(self, place: Place, name: str, topics: list[str], random: Random, calm: float) -> None:
        self._place = place
        self._name = name
        self._topics = topics
        self._random = random
        self._calm = calm  # mean pause between two requests, in seconds
        self.visits = 0

    async def wander(self) -> None:
        while True:
            member = new_member(self._place, self._name)
            try:
                await asyncio.sleep(self._random.expovariate(1 / self._calm))
                await member.join()
                self.visits += 1
                await self._visit(member)
            except (Unreachable, TimeoutError) as failure:
                self._place.findings.broken.append(f"{self._name}: {failure!r}")
                await asyncio.sleep(1)
            finally:
                leave = self._random.choice([member.vanish, member.close])
                leave()

    async def _visit(self, member: Member) -> None:
        for _ in range(self._random.randint(1, 8)):
            topic = self._random.choice(self._topics)
            match self._random.randrange(4):
                case 0 | 1:
                    member.request("subscribe", topic=topic, last_n=self._random.choice([0, 0, 5]))
                case 2:
                    member.request("unsubscribe", topic=topic)
                case 3:
                    member.publish(topic, due=0)  # without a due time: a replay of it would count as late
            await asyncio.sleep(self._random.expovariate(1 / self._calm))
        if self._random.random() < 0.5:
            await member.answered()


async def probe(place: Place, name: str) -> float:
    """Measure the seconds until a new client has its answer, at most PATIENCE."""
    began = time.monotonic()
    member = new_member(place, name)
    try:
        async with asyncio.timeout(PATIENCE):
            await member.join()
            member.request("ping")
            await member.answered()
    except (Unreachable, TimeoutError):
        return PATIENCE
    finally:
        member.close()
    return time.monotonic() - began
