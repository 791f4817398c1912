"""Subscriptions by name and pattern, with filters and rights that change, also against a model of all that is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import Raw

from pubsub.auth.identity import FilteredIdentity, Identity
from pubsub.auth.permissions import allows_some, make_rights
from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.joining import COMPARED_AT_FIRST, Joining
from pubsub.core.lane import Subscriber
from pubsub.core.subscription import GONE, Asked, Subscription
from pubsub.core.topic import Topic
from pubsub.filters.filters import Filter, Filters
from pubsub.protocol.errors import Failure, LimitExceeded, TopicNotFound
from pubsub.protocol.frames import text_frame
from pubsub.protocol.patterns import covers, has_wildcard, overlap
from pubsub.protocol.requests import Message, Position, Publish
from pubsub.websocket.replies import NoReplies
from pubsub.websocket.session import Session
from tests.core.test_broker import ID, LIMIT, RING, Ticks, make_broker
from tests.doubles import NoPublisher, Sink
from tests.harness import messages_in
from tests.turns import shrink_turns

TOPICS = ("a", "b", "a.b", "a.c")
NAMES = (*TOPICS, "a.*", "a.>", "*.b", ">")

Predicate = Callable[[int], bool]
FILTERS: dict[str, tuple[dict[str, Any], Predicate]] = {
    "all": ({}, lambda payload: True),
    "large": ({"filter": "payload > 1"}, lambda payload: payload > 1),
    "zero": ({"filter": "payload == params.x", "params": {"x": 0}}, lambda payload: payload == 0),
    "two": ({"filter": "payload == params.x", "params": {"x": 2}}, lambda payload: payload == 2),
}
# Rights: the patterns that may be subscribed to, and the filters by pattern.
REQUIRED: dict[str, Predicate] = {
    "payload > 0": lambda payload: payload > 0,
    "payload != 2": lambda payload: payload != 2,
}
RIGHTS: list[tuple[tuple[str, ...], dict[str, str]]] = [
    ((">",), {}),
    ((">",), {">": "payload != 2"}),
    ((">",), {"a.*": "payload > 0"}),
    (("a", "a.b"), {}),
    (("a.>", "b"), {"a.b": "payload > 0", "*.b": "payload != 2"}),
]  # fmt: skip


class Client(NoReplies):
    """A Session over a wire that a test blocks and unblocks; ``told`` has all written messages, until it takes them."""

    def __init__(self, broker: Broker, name: str, identity: Identity | None = None) -> None:
        self.told: list[Any] = []
        self.blocks_at_events = False
        self.outbox = Subscriber(Sink(self.write), OutboxOptions(LIMIT, Clock(lambda: 0), broker.turns.take))
        self.session = Session(
            broker, self.outbox, self, Clock(lambda: 0), client_id=name, named=True, identity=identity
        )
        self._replies: list[bytes] = []

    def write(self, frames: bytes) -> None:
        messages = messages_in(frames)
        self.told += messages
        if self.blocks_at_events and any(message["type"] == "event" for message in messages):
            self.outbox.block()

    def reply(self, text: bytes) -> None:
        self._replies.append(text_frame(text))

    def flush(self) -> None:
        replies, self._replies = self._replies, []
        self.write(b"".join(replies))

    def send(self, **request: Any) -> None:
        self.session.receive(json.dumps(request | {"client_id": self.session.client_id, "request_id": "r"}))
        self.flush()

    def take(self) -> list[Any]:
        self.flush()
        told, self.told = self.told, []
        return told


class Wanted(NamedTuple):
    """An event that a client must get, or hear of as a part of a gap. ``gone``: nothing could look at it any more."""

    seq: int
    gone: bool = False


class Queued(NamedTuple):
    topic: str
    seq: int


def reached(name: str) -> list[str]:
    return [topic for topic in TOPICS if covers(name, topic)]


class Model:
    """All that one client must be told, by topic and in order. ``arriving``: since the client lags, the topics that it
    has entered meanwhile, with the ``seq`` after which its events begin.
    """

    def __init__(self) -> None:
        self.filters: dict[str, str] = {}
        self.rights: tuple[str, ...] = (">",)
        self.required: dict[str, str] = {}
        self.members: set[str] = set()
        self.expected: dict[str, list[Any]] = {topic: [] for topic in TOPICS}
        self.queue: list[Queued] = []
        self.arriving: dict[str, int] = {}

    def may(self, topic: str) -> bool:
        return any(covers(each, topic) for each in self.rights)

    def may_some(self, name: str) -> bool:
        return allows_some(" ".join(self.rights), name) if has_wildcard(name) else self.may(name)

    def reaching(self, topic: str) -> set[str]:
        return {name for name in self.filters if covers(name, topic)}

    def allows(self, topic: str, payload: int) -> bool:
        return all(REQUIRED[text](payload) for pattern, text in self.required.items() if covers(pattern, topic))

    def wants(self, topic: str, payload: int) -> bool:
        wanted = any(FILTERS[self.filters[name]][1](payload) for name in self.reaching(topic))
        return wanted and self.allows(topic, payload)


class Machine(RuleBasedStateMachine):
    """Clients with subscriptions that overlap, topics that come and go, and rights that change.

    All turns run to their end after each rule: see tests/websocket/test_races.py for any order of them.
    """

    clients = st.sampled_from(["x", "y"])
    topics = st.sampled_from(TOPICS)
    names = st.sampled_from(NAMES)
    filters = st.sampled_from(list(FILTERS))

    def __init__(self) -> None:
        super().__init__()
        self.broker, self.ticks = make_broker()
        self.publisher = Client(self.broker, "p")
        self.connected: dict[str, Client] = {}
        self.models: dict[str, Model] = {}
        self.published: dict[str, list[int]] = {}  # the payloads
        self.pending: dict[str, list[int]] = {}  # seqs of this tick
        self.unflushed: list[str] = []  # topics in the order of their first events
        for name in ("x", "y"):
            self.connect_or_leave(name)
        for topic in TOPICS[1:3]:
            self.create_or_delete(topic)

    def teardown(self) -> None:
        for name in list(self.connected):
            self.connect_or_leave(name)
        memberships = self.broker._memberships
        assert memberships._placement.index.is_empty
        assert not memberships._beginning
        assert not memberships._ending
        assert self.broker.subscriber_count == 0
        assert all(not topic.lanes for topic in self.broker.topics)

    def run(self) -> None:
        """Run all turns to their end, but not the end of the tick of published events."""
        flush = [each for each in self.ticks.deferred if each == self.broker.flushes._flush_tick]
        self.ticks.deferred = [each for each in self.ticks.deferred if each not in flush]
        while self.ticks.deferred:
            self.ticks.end()
        self.ticks.deferred += flush
        for client in self.connected.values():
            client.flush()

    def flush_model(self, topic: str) -> None:
        """End the tick of one topic in the model."""
        for seq in self.pending.pop(topic, []):
            payload = self.published[topic][seq - 1]
            for name, model in self.models.items():
                if topic in model.members and topic not in model.arriving and model.wants(topic, payload):
                    model.expected[topic].append(Wanted(seq))
                    if self.connected[name].outbox.blocked:
                        model.queue.append(Queued(topic, seq))
        for model in self.models.values():
            del model.queue[:-LIMIT]

    def flush_models(self) -> None:
        unflushed, self.unflushed = self.unflushed, []
        for topic in unflushed:
            self.flush_model(topic)

    def kept(self, topic: str) -> int:
        """The seq before the oldest kept event."""
        return max(0, len(self.published[topic]) - RING)

    def catch_up(self, model: Model, topic: str, after: int, wanted: Predicate) -> None:
        """Expect all events after ``after``."""
        for seq, payload in enumerate(self.published[topic], 1):
            if seq > after:
                if seq <= self.kept(topic):
                    model.expected[topic].append(Wanted(seq, gone=True))
                elif wanted(payload):
                    model.expected[topic].append(Wanted(seq))

    def enter(self, name: str, topic: str, after: int) -> None:
        """Enter a topic without a request of its own, at once or when the client takes its queue."""
        model = self.models[name]
        model.members.add(topic)
        model.expected[topic].append(("created", self.broker.topic(topic).epoch))
        if self.connected[name].outbox.lagging:
            model.arriving[topic] = after
        else:
            self.catch_up(model, topic, after, lambda payload: model.wants(topic, payload))

    @rule(topic=topics)
    def create_or_delete(self, topic: str) -> None:
        if topic not in self.published:
            self.broker.create_topic(topic)
            self.published[topic] = []
            for name, model in self.models.items():
                if model.reaching(topic) and model.may(topic):
                    self.enter(name, topic, 0)
        else:
            self.flush_model(topic)
            self.broker.delete_topic(topic)
            for model in self.models.values():
                model.filters.pop(topic, None)
                if topic in model.members:
                    self.leave(model, topic)
                    model.expected[topic].append("deleted")
            del self.published[topic]
        self.run()

    @rule(topic=topics, payloads=st.lists(st.integers(0, 3), min_size=1, max_size=8))
    def publish(self, topic: str, payloads: list[int]) -> None:
        if topic in self.published:
            for payload in payloads:
                self.publisher.send(type="publish", topic=topic, message={"id": ID, "payload": payload})
                self.published[topic].append(payload)
                if topic not in self.pending:
                    self.unflushed.append(topic)
                self.pending.setdefault(topic, []).append(len(self.published[topic]))

    @rule()
    def end_tick(self) -> None:
        self.flush_models()
        while self.ticks.deferred:
            self.ticks.end()

    @rule(name=clients)
    def connect_or_leave(self, name: str) -> None:
        if name in self.connected:
            self.connected.pop(name).session.end()
            del self.models[name]
        else:
            self.connected[name] = Client(self.broker, name, Identity(client_id=name, subscribes=make_rights((">",))))
            self.models[name] = Model()
        self.run()

    @rule(name=clients, subscribed=names, chosen=filters, last_n=st.sampled_from([0, 0, 1, 3, RING + 2]))
    def subscribe(self, name: str, subscribed: str, chosen: str, last_n: int) -> None:
        def start(model: Model, topic: str) -> int:
            own = [seq for seq, payload in self.look(topic) if self.own(model, topic, chosen)(payload)]
            if not last_n:
                return len(self.published[topic])
            return own[-last_n] - 1 if len(own) >= last_n else self.kept(topic)

        self.ask(name, subscribed, chosen, start, last_n=last_n)

    @rule(name=clients, subscribed=names, chosen=filters, behind=st.integers(0, RING + 3), foreign=st.booleans())
    def resume(self, name: str, subscribed: str, chosen: str, behind: int, foreign: bool) -> None:
        positions = {topic: max(0, len(payloads) - behind) for topic, payloads in self.published.items()}
        resume = {
            topic: {"epoch": "?" if foreign else self.broker.topic(topic).epoch, "seq": seq}
            for topic, seq in positions.items()
        }
        whole = {topic for topic, seq in positions.items() if not foreign and seq >= self.kept(topic)}
        after = dict.fromkeys(positions, 0) if foreign else positions
        answer = self.ask(name, subscribed, chosen, lambda model, topic: after[topic], resume=resume)
        if answer is not None:
            answers = answer.get("topics", {subscribed: answer})
            assert {topic for topic, each in answers.items() if each["recovered"]} == whole & set(answers)
            assert answer["recovered"] is (set(answers) <= whole)

    def look(self, topic: str) -> Iterator[tuple[int, int]]:
        return ((seq, payload) for seq, payload in enumerate(self.published[topic], 1) if seq > self.kept(topic))

    def own(self, model: Model, topic: str, chosen: str) -> Predicate:
        return lambda payload: FILTERS[chosen][1](payload) and model.allows(topic, payload)

    def ask(self, name: str, subscribed: str, chosen: str, start: Callable[[Model, str], int], **options: Any) -> Any:
        """Subscribe, and expect the events after ``start``. Returns the ack, or None."""
        if name not in self.connected or self.connected[name].outbox.blocked:
            return None
        client, model = self.connected[name], self.models[name]
        before = len(client.told)
        client.send(type="subscribe", topic=subscribed, **FILTERS[chosen][0], **options)
        self.run()
        (answer,) = [each for each in client.told[before:] if each.get("request_id") == "r"]
        if not model.may_some(subscribed):
            assert answer["error"]["code"] == "FORBIDDEN"
            client.told.remove(answer)
            return None
        if not has_wildcard(subscribed) and subscribed not in self.published:
            assert answer["error"]["code"] == "TOPIC_NOT_FOUND"
            client.told.remove(answer)
            return None
        entered = [topic for topic in reached(subscribed) if topic in self.published and model.may(topic)]
        if has_wildcard(subscribed):
            assert set(answer["topics"]) == set(entered)
        for topic in entered:
            self.flush_model(topic)
            model.members.add(topic)
            model.expected[topic].append(("subscribed", len(self.published[topic])))
            self.catch_up(model, topic, start(model, topic), self.own(model, topic, chosen))
        model.filters[subscribed] = chosen
        return answer

    @rule(name=clients, subscribed=names)
    def unsubscribe(self, name: str, subscribed: str) -> None:
        if name not in self.connected or self.connected[name].outbox.blocked:
            return
        client, model = self.connected[name], self.models[name]
        before = len(client.told)
        client.send(type="unsubscribe", topic=subscribed)
        self.run()
        (answer,) = [each for each in client.told[before:] if each.get("request_id") == "r"]
        if not model.may_some(subscribed) or (not has_wildcard(subscribed) and subscribed not in self.published):
            assert answer["type"] == "error"
            client.told.remove(answer)
            return
        for topic in model.members & set(reached(subscribed)):
            if subscribed in model.filters:
                self.flush_model(topic)
        model.filters.pop(subscribed, None)
        for topic in reached(subscribed):
            model.expected[topic].append(("unsubscribed", subscribed))
        model.members = {topic for topic in model.members if model.reaching(topic)}

    @rule(name=clients, chosen=st.sampled_from(RIGHTS))
    def change_rights(self, name: str, chosen: tuple[tuple[str, ...], dict[str, str]]) -> None:
        if name not in self.connected:
            return
        self.flush_models()
        while self.ticks.deferred:
            self.ticks.end()
        client, model = self.connected[name], self.models[name]
        model.rights, model.required = chosen
        client.session.identity = FilteredIdentity(
            client_id=name, subscribes=make_rights(chosen[0]), filters=tuple(chosen[1].items())
        )
        self.broker.review(client.outbox, client.session)
        self.run()
        for each in [each for each in model.filters if not model.may_some(each)]:
            del model.filters[each]
            for topic in reached(each):
                model.expected[topic].append(("forbidden", each))
                if topic in model.members and (not model.reaching(topic) or topic == each):
                    self.leave(model, topic)
        for topic in [topic for topic in model.members if not model.may(topic)]:
            model.expected[topic].append(("forbidden", topic))
            self.leave(model, topic)
        for topic in self.published:
            if topic not in model.members and model.reaching(topic) and model.may(topic):
                self.enter(name, topic, len(self.published[topic]))

    def leave(self, model: Model, topic: str) -> None:
        model.members.remove(topic)
        model.arriving.pop(topic, None)

    @rule(name=clients)
    def block_or_unblock(self, name: str) -> None:
        if name not in self.connected:
            return
        client, model = self.connected[name], self.models[name]
        if not client.outbox.blocked:
            client.outbox.block()
            self.run()  # a lane that does not know it yet writes directly
            return
        before = len(client.told)
        self.flush_arrivals(model)
        client.outbox.unblock()
        sent = [Queued(each["topic"], each["seq"]) for each in client.told[before:] if each["type"] == "event"]
        assert sent[: len(model.queue)] == model.queue, "only the newest events that fit in the queue"
        model.queue = []
        self.run()

    def flush_arrivals(self, model: Model) -> None:
        for topic, after in model.arriving.items():
            self.flush_model(topic)
            self.catch_up(model, topic, after, lambda payload, topic=topic: model.wants(topic, payload))  # type: ignore[misc]
        model.arriving = {}

    @invariant()
    def everyone_was_told_everything_once_and_in_order(self) -> None:
        for name, client in self.connected.items():
            model = self.models[name]
            for topic in TOPICS:
                told = [each for message in client.told for each in facts(message, topic)]
                compare(told, model.expected[topic], whole=not client.outbox.blocked)

    @invariant()
    def members_and_subscriptions_are_counted(self) -> None:
        for topic in self.broker.topics:
            assert topic.subscribers == sum(topic.name in model.members for model in self.models.values())
        for name, client in self.connected.items():
            assert set(client.outbox.subscriptions) == set(self.models[name].filters)
        assert self.broker.subscriber_count == sum(1 for model in self.models.values() if model.filters)


def facts(message: Any, topic: str) -> list[Any]:
    """Return the facts about one topic that a subscriber learns from a message."""
    match message:
        case {"type": "ack", "topics": topics}:
            return [("subscribed", topics[topic]["seq"])] if topic in topics else []
        case {"type": "ack", "topic": name} if "seq" not in message:
            return [("unsubscribed", name)] if covers(name, topic) else []
        case {"msg": "unsubscribed", "topic": name, "reason": reason}:
            return [(reason, name)] if covers(name, topic) else []
    if message["topic"] != topic:
        return []
    match message:
        case {"type": "event", "seq": seq}:
            return [Wanted(seq)]
        case {"msg": "dropped", "from_seq": first, "to_seq": last, "count": count}:
            return [range(first, last + 1), count]
        case {"msg": "topic_created", "epoch": epoch}:
            return [("created", epoch)]
        case {"msg": "topic_deleted"}:
            return ["deleted"]
        case {"type": "ack", "seq": seq}:
            return [("subscribed", seq)]
    raise AssertionError(message)


def compare(told: list[Any], expected: list[Any], *, whole: bool) -> None:
    """Compare facts with those that were expected. A gap stands for ``count`` of them, within its range."""
    rest = iter(expected)
    facts = iter(told)
    for fact in facts:
        if isinstance(fact, range):
            lost = [next(rest, None) for _ in range(next(facts))]
            assert all(isinstance(each, Wanted) and each.seq in fact for each in lost), (fact, lost, told, expected)
        else:
            wanted = next(rest, None)
            assert fact == wanted, (fact, wanted, told, expected)
    left = list(rest)
    assert not (whole and left), (left, told, expected)


class MachineOfSmallTurns(Machine):
    """The same with turns of one step."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        shrink_turns(self._patch)
        super().__init__()

    def teardown(self) -> None:
        super().teardown()
        self._patch.undo()


TestModel = Machine.TestCase
TestModel.settings = settings(max_examples=100, stateful_step_count=40)
TestModelOfSmallTurns = MachineOfSmallTurns.TestCase
TestModelOfSmallTurns.settings = settings(max_examples=50, stateful_step_count=40)


class Ask:
    """Subscriptions of one subscriber straight at the Broker: the test says when it is told, and lets it advance."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.told: list[Any] = []
        self.subscriber = Subscriber(
            Sink(lambda frames: self.told.extend(messages_in(frames))),
            OutboxOptions(LIMIT, Clock(lambda: 0), broker.turns.take),
        )
        self.grant = ChangingGrant(broker.filters)

    def subscribe(self, name: str, text: str | None = None, **options: Any) -> list[Joining | Failure]:
        """Returns the list to which the answer comes."""
        answers: list[Joining | Failure] = []
        wanted = None if text is None else self._broker.filters.compile(text)
        self._broker.subscribe(
            Asked(Subscription(name, wanted), self.grant, **options), self.subscriber, answers.append
        )
        return answers

    def join(self, name: str, text: str | None = None, **options: Any) -> None:
        """Subscribe to what can be joined in one step, and let it advance."""
        (answer,) = self.subscribe(name, text, **options)
        assert isinstance(answer, Joining)
        answer.advance()

    def take(self) -> list[Any]:
        """All that was told, in short."""
        told, self.told[:] = list(self.told), []
        return [message.get("seq", message.get("msg")) for message in told]


class ChangingGrant:
    """Rights that a test changes (Grant)."""

    client_id = "c"

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self.rights = [">"]
        self.required: list[str] = []

    def may_subscribe(self, topic: str) -> bool:
        return any(covers(each, topic) for each in self.rights)

    def may_subscribe_some(self, pattern: str) -> bool:
        return any(overlap(each, pattern) for each in self.rights)

    def filters_for(self, topic: str) -> list[Filter]:
        return [self._filters.compile(text) for text in self.required]


@pytest.fixture
def turns_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_turns(monkeypatch)


def make_world(max_filters: int = 256) -> tuple[Broker, Ticks, Callable[..., None]]:
    """A Broker, its ticks, and a function that publishes payloads and ends the tick."""
    broker, ticks = make_broker(ring=100, max_filters=max_filters)

    def publish(topic: str, *payloads: int) -> None:
        for payload in payloads:
            broker.publish([Publish(topic=topic, message=Message(ID, Raw(b"%d" % payload)))], NoPublisher())
        broker.flush()

    return broker, ticks, publish


def run(ticks: Ticks) -> None:
    while ticks.deferred:
        ticks.end()


@pytest.mark.parametrize(
    ("pattern", "covered", "compared"),
    [
        ("b.*", ["b.1", "b.2"], COMPARED_AT_FIRST + 1),  # those of "a." are not looked at
        ("a.*", [f"a.{number}" for number in range(3 * COMPARED_AT_FIRST)], 3 * COMPARED_AT_FIRST + 5),
        (">", None, 3 * COMPARED_AT_FIRST + 5),
        ("Z.*", [], COMPARED_AT_FIRST + 1),  # all topics come after it
    ],
)
def test_row_65_a_pattern_is_compared_with_the_topics_that_begin_like_it_and_few_at_once(
    pattern: str, covered: list[str] | None, compared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, ticks = make_broker()
    names = [f"a.{number}" for number in range(3 * COMPARED_AT_FIRST)] + ["b.1", "b.2", "d"]
    for name in names:
        broker.create_topic(name)
    looked: list[int] = []
    topics_from = broker.topics_from

    def look(first: str, limit: int) -> list[Topic]:
        looked.append(len(found := topics_from(first, limit)))
        return found

    monkeypatch.setattr(broker, "topics_from", look)
    client = Ask(broker)
    answers = client.subscribe(pattern)
    assert sum(looked) <= COMPARED_AT_FIRST + 1
    run(ticks)
    assert sum(looked) <= compared
    (joining,) = answers
    assert isinstance(joining, Joining)
    assert sorted(each.topic.name for each in joining.topics) == sorted(names if covered is None else covered)


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
def test_an_answer_waits_for_older_events_that_the_socket_does_not_take(kind: str) -> None:
    broker, _ = make_broker()
    client, publisher = Client(broker, "c"), Client(broker, "p")
    for topic in ("a", "b"):
        broker.create_topic(topic)
    client.send(type="subscribe", topic="*", filter="payload > 1")
    for topic in ("a", "b"):
        publisher.send(type="publish", topic=topic, message={"id": ID, "payload": 2})
    client.take()
    client.blocks_at_events = True
    client.send(type=kind, topic="*")
    assert [message["type"] for message in client.take()] == ["event"]
    client.blocks_at_events = False
    client.outbox.unblock()
    assert [message["type"] for message in client.take()] == ["event", "ack"]


def test_the_replays_of_one_slow_client_take_one_turn_at_a_time() -> None:
    broker, ticks = make_broker()
    client, publisher = Client(broker, "c"), Client(broker, "p")
    names = [f"t.{number}" for number in range(250)]
    for name in names:
        broker.create_topic(name)
        publisher.send(type="publish", topic=name, message={"id": ID, "payload": 1})
    run(ticks)
    client.send(type="subscribe", topic="t.*", last_n=1)
    client.blocks_at_events = True
    turns = 0
    for _ in names:
        while ticks.deferred:
            assert len(ticks.deferred) == 1
            ticks.end()
            turns += 1
        client.outbox.unblock()
    assert turns <= 2 * len(names)
    assert {message["topic"] for message in client.take()[1:]} == set(names)


def test_a_subscription_that_the_limit_of_filters_ends_is_none_any_more() -> None:
    broker, _, _ = make_world(max_filters=1)
    broker.create_topic("a")
    other, client = Ask(broker), Ask(broker)
    other.join("a", "payload == 1")
    client.join("a.>")
    client.join(">")
    client.join("a", "payload == 0")
    client.take()
    broker.unsubscribe(">", client.subscriber, lambda: None)
    assert client.take() == ["unsubscribed"]
    assert client.subscriber.subscriptions == ["a.>"]


def test_a_subscriber_that_changes_its_filter_at_the_limit_leaves_room_for_the_new_one() -> None:
    broker, _, publish = make_world(max_filters=1)
    broker.create_topic("a")
    client = Ask(broker)
    client.join("a", "payload == 1")
    client.join("a", "payload == 2")
    publish("a", 1, 2)
    assert client.take() == [2]
    client.join(">", "payload == 1")
    broker.unsubscribe("a", client.subscriber, lambda: None)
    publish("a", 1, 2)
    assert client.take() == [3]


@pytest.mark.usefixtures("turns_of_one")
def test_a_replay_goes_on_under_the_filters_of_new_rights() -> None:
    broker, ticks, publish = make_world()
    broker.create_topic("a")
    publish("a", 0, 2, 2, 3)
    client = Ask(broker)
    client.join(">", "payload == 0")
    client.join("a", "payload > 1", resume={"a": Position(broker.topic("a").epoch, 1)})
    assert client.take() == [2]
    client.grant.required = ["payload != 2"]
    broker.review(client.subscriber, client.grant)
    run(ticks)
    assert client.take() == [4]


@pytest.mark.usefixtures("turns_of_one")
def test_a_replay_stops_where_new_rights_forbid_the_topic_even_before_their_review() -> None:
    broker, ticks, publish = make_world()
    broker.create_topic("a")
    publish("a", 1, 2, 1)
    client = Ask(broker)
    client.grant.required = ["payload != 2"]
    client.join("a", resume={"a": Position(broker.topic("a").epoch, 0)})
    assert client.take() == [1]
    client.grant.rights, client.grant.required = ["b"], []
    for _ in range(10):
        ticks.end()
    broker.review(client.subscriber, client.grant)
    run(ticks)
    assert client.take() == ["unsubscribed"]


@pytest.mark.usefixtures("turns_of_one")
def test_another_subscription_does_not_widen_the_replay_of_an_earlier_one() -> None:
    broker, ticks, publish = make_world()
    broker.create_topic("a")
    publish("a", 0, 1, 0, 1)
    client = Ask(broker)
    client.join("a", "payload == 0", resume={"a": Position(broker.topic("a").epoch, 0)})
    publish("a", 1, 0)
    client.join(">")
    publish("a", 1)
    run(ticks)
    assert client.take() == [1, 3, 6, 7]


@pytest.mark.usefixtures("turns_of_one")
def test_a_replay_ends_with_its_subscription_and_the_others_go_on() -> None:
    broker, ticks, publish = make_world()
    broker.create_topic("a")
    publish("a", 0, 1, 1, 0)
    client = Ask(broker)
    client.join(">", "payload == 0")
    client.join("a", resume={"a": Position(broker.topic("a").epoch, 0)})
    assert client.take() == [1]
    publish("a", 1, 0)
    broker.unsubscribe("a", client.subscriber, lambda: None)
    publish("a", 1, 0)
    run(ticks)
    assert client.take() == [6, 8]


def test_the_last_events_of_a_subscription_come_before_its_end_though_another_has_the_same_filter() -> None:
    broker, _, publish = make_world()
    broker.create_topic("a")
    client = Ask(broker)
    client.join(">", "payload == 0")
    broker.publish([Publish(topic="a", message=Message(ID, Raw(b"0")))], NoPublisher())
    client.join("a", "payload == 0")
    broker.publish([Publish(topic="a", message=Message(ID, Raw(b"0")))], NoPublisher())
    broker.unsubscribe(">", client.subscriber, lambda: client.told.append({"msg": "done"}))
    publish("a", 0)
    assert client.take() == [1, 2, "done", 3]


@pytest.mark.usefixtures("turns_of_one")
def test_a_second_replay_joins_the_first_and_each_event_comes_once() -> None:
    broker, ticks, publish = make_world()
    broker.create_topic("a")
    publish("a", 0, 1, 2, 0, 1, 2)
    client = Ask(broker)
    client.join("a", "payload == 0", resume={"a": Position(broker.topic("a").epoch, 1)})
    client.join(">", "payload == 1", resume={"a": Position(broker.topic("a").epoch, 0)})
    run(ticks)
    assert client.take() == [2, 4, 5]


@pytest.mark.usefixtures("turns_of_one")
def test_a_topic_that_is_not_announced_yet_when_another_pattern_reaches_it_comes_once() -> None:
    broker, ticks, publish = make_world()
    early, client = Ask(broker), Ask(broker)
    early.join(">")
    client.join("a.*")
    broker.create_topic("a.b")
    publish("a.b", 1, 2)
    answers = client.subscribe("*.b", last_n=1)
    run(ticks)
    (joining,) = answers
    assert isinstance(joining, Joining)
    assert [each.topic.name for each in joining.topics] == ["a.b"]
    joining.advance()
    run(ticks)
    assert client.take() == ["topic_created", 1, 2]


def test_a_subscriber_learns_of_the_end_of_a_topic_while_it_subscribes_again() -> None:
    broker, _, publish = make_world()
    broker.create_topic("a")
    client, new = Ask(broker), Ask(broker)
    client.join("a")
    publish("a", 1)
    (again,) = client.subscribe("a", last_n=1)
    new.subscribe("a")
    broker.delete_topic("a")
    assert client.take() == [1, "topic_deleted"]
    assert new.take() == []
    assert isinstance(again, Joining)
    with pytest.raises(TopicNotFound):
        again.confirm()


@pytest.mark.usefixtures("turns_of_one")
def test_a_subscriber_learns_of_the_end_of_a_topic_whose_replay_waits_for_its_turn() -> None:
    broker, ticks, publish = make_world()
    for topic in ("a", "b", "c"):
        broker.create_topic(topic)
        publish(topic, 1)
    client = Ask(broker)
    answers = client.subscribe("*", last_n=1)
    run(ticks)
    (joining,) = answers
    assert isinstance(joining, Joining)
    joining.advance()
    for topic in ("a", "b", "c"):
        broker.delete_topic(topic)
    run(ticks)
    assert sorted(map(str, client.take())) == ["1", *["topic_deleted"] * 3]


def test_a_topic_that_appears_before_the_answer_is_announced_after_it() -> None:
    broker, ticks, publish = make_world()
    client = Ask(broker)
    (joining,) = client.subscribe("a.*", "payload == 1")
    assert isinstance(joining, Joining)
    broker.create_topic("a.b")
    publish("a.b", 0, 1)
    assert client.take() == []
    joining.confirm()
    assert joining.topics == []
    joining.advance()
    run(ticks)
    assert client.take() == ["topic_created", 2]


def test_a_topic_of_two_patterns_that_appears_before_the_answer_of_one_has_the_filters_of_both() -> None:
    broker, ticks, publish = make_world()
    client = Ask(broker)
    client.join("a.*", "payload == 1")
    (joining,) = client.subscribe("*.b", "payload == 2")
    broker.create_topic("a.b")
    assert client.take() == ["topic_created"]
    assert isinstance(joining, Joining)
    joining.advance()
    run(ticks)
    publish("a.b", 0, 1, 2)
    assert client.take() == [2, 3]


@pytest.mark.usefixtures("turns_of_one")
def test_a_review_before_the_announcement_of_a_new_topic_loses_nothing() -> None:
    broker, ticks, publish = make_world()
    early, client = Ask(broker), Ask(broker)
    early.join(">")
    client.join(">")
    broker.create_topic("a")
    publish("a", 1, 2)
    broker.review(client.subscriber, client.grant)
    run(ticks)
    assert client.take() == ["topic_created", 1, 2]


@pytest.mark.parametrize("name", ["*", ">"], ids=["another pattern", "the same pattern"])
def test_a_subscription_that_fails_changes_nothing(name: str) -> None:
    broker, ticks, publish = make_world(max_filters=1)
    for topic in ("a", "b"):
        broker.create_topic(topic)
        publish(topic, 1, 2)
    other, client = Ask(broker), Ask(broker)
    other.join("a", "payload == 2")
    client.join(">", "payload == 2")
    (failure,) = client.subscribe(name, "payload == 1", last_n=1)
    assert isinstance(failure, LimitExceeded)
    for topic in ("a", "b"):
        publish(topic, 1, 2)
    run(ticks)
    assert client.take() == [4, 4]
    assert client.subscriber.subscriptions == [">"]
    assert broker.subscriber_count == 2
    broker.create_topic("c")
    publish("c", 1, 2)
    assert client.take() == ["topic_created", 2]


@pytest.mark.usefixtures("turns_of_one")
@pytest.mark.parametrize("entered", [True, False])
def test_a_topic_that_appears_during_a_subscription_that_fails_comes_by_the_earlier_one(entered: bool) -> None:
    broker, ticks, publish = make_world(max_filters=1)
    for topic in ("a", "b"):
        broker.create_topic(topic)
    other, client = Ask(broker), Ask(broker)
    answers = client.subscribe(">", "payload == 2")
    run(ticks)
    (joining,) = answers
    assert isinstance(joining, Joining)
    joining.advance()
    run(ticks)
    if not entered:
        other.join("b", "payload == 2")
    failed = client.subscribe(">", "payload == 1")
    broker.create_topic("c")
    publish("c", 1, 2)
    if entered:  # it is entered before the topic that has its filters
        broker.create_topic("d")
        other.join("d", "payload == 2")
    run(ticks)
    (failure,) = failed
    assert isinstance(failure, LimitExceeded)
    publish("c", 1, 2)
    run(ticks)
    told = [message for message in client.told if message["topic"] == "c"]
    assert [message.get("seq", message.get("msg")) for message in told] == ["topic_created", 2, 4]
    assert sorted(client.subscriber.lanes) == [topic.name for topic in broker.topics]


@pytest.mark.usefixtures("turns_of_one")
def test_a_pattern_that_new_rights_forbid_is_told_once() -> None:
    broker, ticks, _ = make_world()
    for topic in ("a.a", "a.b", "a.c", "b"):
        broker.create_topic(topic)
    client = Ask(broker)
    answers = client.subscribe("a.*")
    run(ticks)
    (joining,) = answers
    assert isinstance(joining, Joining)
    joining.advance()
    run(ticks)
    client.join("b")
    client.grant.rights = ["b"]
    broker.review(client.subscriber, client.grant)
    run(ticks)
    assert client.take() == ["unsubscribed"]
    assert client.subscriber.subscriptions == ["b"]
    assert list(client.subscriber.lanes) == ["b"]


@pytest.mark.usefixtures("turns_of_one")
def test_a_topic_that_new_rights_forbid_is_told_though_another_request_comes_before_the_review() -> None:
    broker, ticks, _ = make_world()
    for topic in ("a", "b"):
        broker.create_topic(topic)
    client = Ask(broker)
    for name in (">", "*"):
        answers = client.subscribe(name)
        run(ticks)
        (joining,) = answers
        assert isinstance(joining, Joining)
        joining.advance()
        run(ticks)
    client.grant.rights = ["b"]
    broker.review(client.subscriber, client.grant)
    broker.unsubscribe("*", client.subscriber, lambda: None)
    run(ticks)
    assert [(message["msg"], message["topic"]) for message in client.told] == [("unsubscribed", "a")]
    assert list(client.subscriber.lanes) == ["b"]


@pytest.mark.usefixtures("turns_of_one")
def test_a_topic_that_ends_before_its_turn_is_not_asked_for_its_position() -> None:
    broker, ticks, _ = make_world()
    for topic in ("a", "b"):
        broker.create_topic(topic)

    class Positions:
        """The positions of a cursor (Resume): those of topics that do not exist cannot be found."""

        def get(self, name: str, default: Position | None) -> Position | None:
            return Position(broker.find_topic(name).epoch, 0)

    answers = Ask(broker).subscribe("*", resume=Positions())
    broker.delete_topic("b")
    run(ticks)
    (joining,) = answers
    assert isinstance(joining, Joining)
    assert [each.topic.name for each in joining.topics] == ["a"]


def test_nothing_is_left_of_a_subscriber_that_subscribes_after_its_end() -> None:
    broker, _, _ = make_world()
    broker.create_topic("a")
    client = Ask(broker)
    broker.leave(client.subscriber)
    for name in ("a", "a.*", ">"):
        client.subscribe(name)
        client.subscribe(name, "payload == 1")
    assert GONE.subscriptions == {}
    assert broker.subscriber_count == 0
    assert not broker.topic("a").lanes
    broker.create_topic("a.b")
    assert client.take() == []
