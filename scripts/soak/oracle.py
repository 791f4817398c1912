"""The invariants of every answer and every event, which hold for any misbehaving client. No I/O, no clock, no aiohttp.

A Ledger belongs to one connection and checks each message that it gets. All ledgers share the Record, which stores the
message at each ``seq`` of each epoch of a topic, as publishers and subscribers have seen it.
"""

from __future__ import annotations

import uuid
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from kinds import KINDS, NO_KIND, REQUIRED, Predicate, kind_of, predicate_of

from pubsub.protocol.patterns import covers, has_wildcard

Json = dict[str, Any]

MISSING = 0  # the value in a Record for a message that no client has seen yet
EVER = 1 << 62  # a `seq` that no topic reaches


class Broken(Exception):
    """An invariant does not hold. The text names the invariant and the message."""


class Record:
    """All messages by topic, epoch and ``seq``, as 62 bits of the id and 2 of the kind: so hours fit in memory."""

    def __init__(self) -> None:
        self._marks: dict[tuple[str, str], array[int]] = {}

    def note(self, topic: str, epoch: str, seq: int, message: Json) -> None:
        """Store that a client has seen this message; raise Broken if another one was seen at the same ``seq``."""
        marks = self._marks.setdefault((topic, epoch), array("Q"))
        if len(marks) < seq:
            marks.extend([MISSING] * (seq - len(marks)))
        mark = (uuid.UUID(message["id"]).int >> 64 | 4) & ~3 | kind_of(message)
        if marks[seq - 1] not in (MISSING, mark):
            raise Broken(f"{topic} {epoch}: two messages at seq {seq}, one of them {message['id']}")
        marks[seq - 1] = mark

    def last(self, topic: str, epoch: str) -> int:
        """Return the highest ``seq`` that any client has seen."""
        return len(self._marks.get((topic, epoch), ()))

    def kind(self, topic: str, epoch: str, seq: int) -> int | None:
        """Return the kind of a message; None if no client has seen it yet."""
        marks = self._marks.get((topic, epoch), ())
        return marks[seq - 1] & 3 if seq <= len(marks) and marks[seq - 1] != MISSING else None


@dataclass(frozen=True)
class Rights:
    """The rights of a token: patterns, and filters of topics by pattern."""

    patterns: tuple[str, ...] = (">",)
    filters: tuple[tuple[str, str], ...] = ()

    def allow(self, topic: str, kind: int) -> bool:
        return self.cover(topic) and all(
            REQUIRED[text](kind) for pattern, text in self.filters if covers(pattern, topic)
        )

    def cover(self, topic: str) -> bool:
        return any(covers(each, topic) for each in self.patterns)


@dataclass
class Claim:
    """The events of a topic that one subscription wants: those from ``first`` to ``last`` must come.

    Those from ``may_begin`` on may come: the start of a replay is not always known, nor the end of a subscription.
    """

    wants: Predicate
    first: int
    last: int = EVER
    may_begin: int = 0


@dataclass
class Progress:
    """The position of a subscriber in one epoch of a topic: no event below ``next_seq`` may come.

    ``recovered``: the server said that no event is missing since the resumed position. ``claims``: what the client's
    subscriptions want, by their names.
    """

    epoch: str
    next_seq: int
    recovered: bool = False
    events: int = 0
    gaps: list[range] = field(default_factory=list)
    claims: dict[str, Claim] = field(default_factory=dict)


class Ledger:
    """The requests and answers of one connection. ``tolerant``: gaps are allowed if the server reports them.

    ``ring``: number of messages that each topic keeps, if a test knows it; then a replay must begin exactly there.
    ``rights``: those of the client's token.
    """

    def __init__(
        self, record: Record, *, tolerant: bool = False, ring: int | None = None, rights: Rights | None = None
    ) -> None:
        self._record = record
        self._tolerant = tolerant
        self._ring = ring
        self._rights = [rights or Rights()]  # all that may still be in force
        self._renewed = False
        self._asked: deque[Json] = deque()
        self.topics: dict[str, Progress] = {}
        self.subscriptions: dict[str, Predicate] = {}  # by name or pattern
        self._acked: dict[str, int] = {}
        self._renewals: dict[str, int] = {}
        self.acks = 0
        self.errors: list[str] = []

    @property
    def unanswered(self) -> int:
        return len(self._asked)

    def ask(self, request: Json) -> None:
        """Store a request that is sent now."""
        self._asked.append(request)
        if request["type"] in ("subscribe", "unsubscribe"):
            self._cap(request["topic"])

    def renew_rights(self, rights: Rights) -> None:
        """Note that the client asks for other rights now."""
        self._rights.append(rights)
        self._renewed = True

    def settle_rights(self) -> None:
        """Note that all has come that is wanted so far, and only the newest rights are in force."""
        for topic, progress in self.topics.items():
            if self.is_complete(topic):
                progress.next_seq = max(progress.next_seq, self._record.last(topic, progress.epoch) + 1)
        del self._rights[:-1]

    def take(self, message: Json) -> None:
        """Check a message that came; raise Broken if it must not come, or not now."""
        match message["type"]:
            case "event":
                self._take_event(message)
            case "info":
                self._take_info(message)
            case _:
                self._take_answer(message)

    def is_complete(self, topic: str) -> bool:
        """Return True if every wanted event of the topic that any client has seen has come here too."""
        progress = self.topics[topic]
        last = self._record.last(topic, progress.epoch)
        return not self._owed(topic, progress, last + 1)

    # Events

    def _take_event(self, event: Json) -> None:
        topic, seq = event["topic"], event["seq"]
        progress = self._progress(event)
        self._record.note(topic, progress.epoch, seq, event["message"])
        self._move_to(topic, progress, seq, event)
        if not self._may_come(topic, progress, seq, kind_of(event["message"])):
            raise Broken(f"nothing wants {event} of {self._describe(progress)}")
        progress.next_seq = seq + 1
        progress.events += 1

    def _move_to(self, topic: str, progress: Progress, seq: int, message: Json) -> None:
        """Check that nothing is missing before ``seq``, and nothing comes twice."""
        if seq < progress.next_seq:
            raise Broken(f"expected seq {progress.next_seq} of {topic}, got {message}")
        if owed := self._owed(topic, progress, seq):
            raise Broken(f"expected seq {owed[0]} of {topic}, got {message}: {self._describe(progress)}")

    def _owed(self, topic: str, progress: Progress, end: int) -> list[int]:
        """Return the events below ``end`` that must still come. One that nobody has seen is not known to be wanted."""
        return [seq for seq in range(progress.next_seq, end) if self._must_come(topic, progress, seq)]

    def _must_come(self, topic: str, progress: Progress, seq: int) -> bool:
        kind = self._record.kind(topic, progress.epoch, seq)
        kinds = (*KINDS, NO_KIND) if kind is None else (kind,)
        return all(
            all(rights.allow(topic, each) for rights in self._rights)
            and any(claim.first <= seq <= claim.last and claim.wants(each) for claim in progress.claims.values())
            for each in kinds
        )

    def _may_come(self, topic: str, progress: Progress, seq: int, kind: int) -> bool:
        if not any(rights.allow(topic, kind) for rights in self._rights):
            return False
        if any(claim.may_begin <= seq and claim.wants(kind) for claim in progress.claims.values()):
            return True
        # A subscription that reaches many topics lets in more of each one before all are entered, and then it is acked.
        asked = [each for each in self._asked if each["type"] == "subscribe" and covers(each["topic"], topic)]
        return any(predicate_of(each)(kind) for each in asked)

    def _take_gap(self, gap: Json) -> None:
        topic, first, last = gap["topic"], gap["from_seq"], gap["to_seq"]
        progress = self._progress(gap)
        self._move_to(topic, progress, first, gap)
        lost = sum(self._must_come(topic, progress, seq) for seq in range(first, last + 1))
        if not max(1, lost) <= gap["count"] <= last - first + 1:
            raise Broken(f"{lost} messages of {self._describe(progress)} are missing, got {gap}")
        if not self._tolerant:
            raise Broken(f"a subscriber that keeps up lost messages: {gap}")
        progress.next_seq = last + 1
        progress.gaps.append(range(first, last + 1))

    def _progress(self, message: Json) -> Progress:
        progress = self.topics.get(message["topic"])
        if progress is None:
            raise Broken(f"without a subscription: {message}")
        return progress

    def _describe(self, progress: Progress) -> str:
        claims = {name: (each.may_begin, each.first, each.last) for name, each in progress.claims.items()}
        return f"{progress.epoch} at {progress.next_seq}, {claims}, {self._rights}"

    # Topics that begin and end

    def _take_info(self, info: Json) -> None:
        match info["msg"]:
            case "dropped":
                self._take_gap(info)
            case "topic_created":
                self._take_created(info)
            case "topic_deleted":
                self._take_deleted(info)
            case "unsubscribed":
                self._take_end(info)
            case "joined" | "left":
                self._progress(info)

    def _take_created(self, info: Json) -> None:
        topic, epoch = info["topic"], info["epoch"]
        if topic in self.topics:
            raise Broken(f"created again without an end: {info}")
        reaching = self._reaching(topic)
        if not reaching:
            raise Broken(f"no pattern covers it: {info}")
        first = self._record.last(topic, epoch) + 1 if self._renewed else 1
        claims = {name: self._capped(name, Claim(self.subscriptions[name], first)) for name in reaching}
        self.topics[topic] = Progress(epoch, 1, claims=claims)

    def _take_deleted(self, info: Json) -> None:
        topic, progress = info["topic"], self._progress(info)
        # The replay to a client that lags ends with its topic.
        if not self._tolerant and not self.is_complete(topic):
            raise Broken(f"ended before all events came: {info}, {self._describe(progress)}")
        del self.topics[topic]
        self.subscriptions.pop(topic, None)

    def _take_end(self, info: Json) -> None:
        """Take the end of a subscription, or of the part of a pattern that new rights forbid."""
        name = info["topic"]
        self._renewed = True  # what comes back later does not begin at its first event
        if self.subscriptions.pop(name, None) is None and info["reason"] != "limit":
            self._progress(info)
        self._end(name)
        self.topics.pop(name, None)

    def _end(self, name: str) -> None:
        """A subscription has ended."""
        for topic, progress in list(self.topics.items()):
            progress.claims.pop(name, None)
            if not progress.claims:
                del self.topics[topic]

    def reaches(self, topic: str) -> bool:
        """Return True if a subscription leads to the topic, and the newest rights cover it."""
        return self._rights[-1].cover(topic) and bool(self._reaching(topic))

    def _reaching(self, topic: str) -> list[str]:
        return [name for name in self.subscriptions if covers(name, topic)]

    def _cap(self, name: str) -> None:
        """A subscription is about to end: events that are not published yet need not come by it.

        To a client that lags, events of its replay need not come either.
        """
        for topic, progress in self.topics.items():
            if (claim := progress.claims.get(name)) is not None:
                known = progress.next_seq - 1 if self._tolerant else self._record.last(topic, progress.epoch)
                claim.last = min(claim.last, known)

    def _capped(self, name: str, claim: Claim) -> Claim:
        """The claim of a subscription, which may have ended already if the client has asked for that."""
        if any(each["type"] in ("subscribe", "unsubscribe") and each["topic"] == name for each in self._asked):
            claim.last = claim.first - 1
        return claim

    # Answers

    def _take_answer(self, answer: Json) -> None:
        request = self._answered(answer)
        if answer["type"] == "error":
            self._take_error(request, answer["error"])
            return
        self.acks += 1
        match request["type"]:
            case "subscribe":
                self._begin(request, answer)
            case "unsubscribe":
                self.subscriptions.pop(request["topic"], None)
                self._end(request["topic"])
            case "publish":
                self._take_publish(request, answer)
            case "history":
                self._take_history(request, answer)

    def _answered(self, answer: Json) -> Json:
        """Remove and return the request of an answer: the first one, but for publishes that wait for a disk."""
        for place, request in enumerate(self._asked):
            if answer.get("request_id") == request.get("request_id"):
                earlier = [self._asked[number]["type"] for number in range(place)]
                is_late = request["type"] == "publish" and answer["type"] == "ack"  # a refusal need not wait
                if earlier and (is_late or set(earlier) != {"publish"}):
                    raise Broken(f"expected the answer to {self._asked[0].get('request_id')}, got {answer}")
                del self._asked[place]
                return request
        raise Broken(f"no request asked for {answer}")

    def _take_error(self, request: Json, error: Json) -> None:
        self.errors.append(error["code"])
        if error["code"] == "CONFLICT" and error["seq"] == request["expect_seq"]:
            raise Broken(f"a conflict with the right seq: {error}")

    def _begin(self, request: Json, ack: Json) -> None:
        name, wants = request["topic"], predicate_of(request)
        self.subscriptions[name] = wants
        entered = ack["topics"] if has_wildcard(name) else {name: ack}
        for topic, position in entered.items():
            if not covers(name, topic):
                raise Broken(f"{name} does not cover {topic}: {ack}")
            self._enter(topic, request, position)
        for topic, progress in self.topics.items():
            if covers(name, topic) and topic not in entered:
                self._begin_elsewhere(topic, progress, name, wants)

    def _begin_elsewhere(self, topic: str, progress: Progress, name: str, wants: Predicate) -> None:
        """Begin a subscription in a topic that is not in its ack.

        It appeared meanwhile, by another pattern; or the rights have ended, and their review comes.
        """
        claim = self._capped(name, Claim(wants, self._record.last(topic, progress.epoch) + 1))
        before = progress.claims.get(name)
        if before is not None and not all(rights.cover(topic) for rights in self._rights):
            earlier = before.wants
            claim = Claim(lambda kind: wants(kind) or earlier(kind), claim.first, claim.first - 1)
        progress.claims[name] = claim

    def _enter(self, topic: str, request: Json, position: Json) -> None:
        """A subscription has led to a topic. The others keep their place there; a replay comes before it."""
        name, epoch = request["topic"], position["epoch"]
        resumed = self._resumed(topic, request, epoch)
        recovered = position.get("recovered") is True
        if recovered and resumed is not None and resumed["epoch"] != epoch:
            raise Broken(f"recovered another epoch of {topic}: {position}")
        claim, next_seq = self._claim(request, position, resumed)
        self._capped(name, claim)
        before = self.topics.get(topic)
        others = {}
        if before is not None and before.epoch == epoch:
            others = {each: other for each, other in before.claims.items() if each != name}
        if before is not None and others:
            if next_seq > position["seq"] and resumed is None:
                claim.first = max(claim.first, before.next_seq)
                next_seq = before.next_seq
            else:
                for other in others.values():
                    other.first = max(other.first, before.next_seq)
                    other.may_begin = max(other.may_begin, before.next_seq)
                next_seq = min(before.next_seq, next_seq)
        self.topics[topic] = Progress(epoch, next_seq, recovered, claims=others | {name: claim})

    def _resumed(self, topic: str, request: Json, epoch: str) -> Json | None:
        """The position that a request resumes from. A topic that a pattern covers begins if it is not named."""
        if "resume" not in request:
            return None
        positions: dict[str, Json] = request["resume"]
        return positions.get(topic, {"epoch": epoch, "seq": 0} if has_wildcard(request["topic"]) else None)

    def _claim(self, request: Json, position: Json, resumed: Json | None) -> tuple[Claim, int]:
        """The events that a request asks for, and the first ``seq`` that may come."""
        wants, newest, last_n = predicate_of(request), position["seq"], request.get("last_n", 0)
        if resumed is not None:
            known = resumed["epoch"] == position["epoch"] and resumed["seq"] <= newest
            first = resumed["seq"] + 1 if known else 1
            return Claim(wants, first if known else newest + 1, may_begin=first), first
        if last_n and self._ring is None:
            filtered = "filter" in request or any(
                rights.filters for rights in self._rights
            )  # last_n counts what matches
            first = 1 if filtered else max(1, newest - last_n + 1)
            return Claim(wants, newest + 1, may_begin=first), first
        first = newest - min(last_n, self._ring or 0, newest) + 1
        return Claim(wants, first, may_begin=first), first

    def _take_publish(self, request: Json, ack: Json) -> None:
        topic, seq = request["topic"], ack["seq"]
        if not ack.get("duplicate"):
            self._check_order(topic, seq)
        if seq != request.get("expect_seq", seq - 1) + 1 and not ack.get("duplicate"):
            raise Broken(f"expected seq {request['expect_seq'] + 1}, got {ack}")
        # A lagging client may get acknowledgements of its publishes before it learns that the topic's epoch has ended.
        if topic in self.topics and not self._tolerant:
            self._record.note(topic, self.topics[topic].epoch, seq, request["message"])

    def _take_history(self, request: Json, answer: Json) -> None:
        topic, wants = request["topic"], predicate_of(request)
        seqs = [event["seq"] for event in answer["messages"]]
        if seqs != sorted(set(seqs)):
            raise Broken(f"not in order: {answer}")
        for event in answer["messages"]:
            kind = kind_of(event["message"])
            self._record.note(topic, answer["epoch"], event["seq"], event["message"])
            if not wants(kind) or not any(rights.allow(topic, kind) for rights in self._rights):
                raise Broken(f"nobody asked for {event}")

    def _check_order(self, topic: str, seq: int) -> None:
        if seq <= self._acked.get(topic, 0):
            if not self._renewals.get(topic):
                raise Broken(f"acknowledged {topic} {seq} after {self._acked[topic]}")
            self._renewals[topic] -= 1
        self._acked[topic] = seq

    def renew(self, topic: str) -> None:
        """Note that the topic has begun another epoch, in which ``seq`` counts from 1 again."""
        self._renewals[topic] = self._renewals.get(topic, 0) + 1
