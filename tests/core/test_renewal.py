"""Topics that go on in another epoch, and messages that are lost for all: what their members get."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any

import pytest
from msgspec import Raw, structs

from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.event import make_event
from pubsub.core.journal import StoredTopic
from pubsub.core.topic import Topic
from pubsub.core.trail import after_of
from pubsub.journals.memory import MemoryJournal
from pubsub.protocol.requests import Message, TopicOptions
from tests.core.test_broker import Client, Ticks
from tests.harness import new_id


class World:
    """A Broker with a topic ``a.b`` in the epoch ``e``, whose events the test delivers."""

    def __init__(self, *, ring_size: int = 100, epochs: Iterator[str] | None = None, **options: Any) -> None:
        self.ticks = Ticks()
        self.epochs = epochs or iter("e")
        clock = Clock(lambda: 0, lambda: 100.0)
        self.broker = Broker(
            defer=self.ticks.defer,
            clock=clock,
            memory=MemoryJournal(clock, lambda: next(self.epochs)),
            ring_size=ring_size,
        )
        self.broker.create_topic("a.b", TopicOptions(**options))

    @property
    def topic(self) -> Topic:
        return self.broker.topic("a.b")

    def deliver(self, *seqs: int, payload: bytes = b"1") -> None:
        for seq in seqs:
            message = Message(new_id(), Raw(payload))
            self.broker.deliver(self.topic, [make_event("a.b", message, seq, "now")])
        self.ticks.end()

    def renew(self, base: int, epoch: str = "f") -> None:
        self.begin_to_renew(base, epoch)
        self.ticks.end()

    def begin_to_renew(self, base: int, epoch: str = "f") -> None:
        topic = self.topic
        self.broker.renew(topic, StoredTopic("a.b", epoch, topic.options, topic.log, seq=base))

    def end_all_turns(self) -> None:
        while self.ticks.deferred:
            self.ticks.end()

    def member(self, name: str = "a.b", client_id: str = "c", **more: Any) -> Client:
        client = Client(self.broker, client_id)
        client.ask(type="subscribe", topic=name, **more)
        self.ticks.end()
        client.take()
        return client


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each member has a turn of its own; the last one comes first."""
    monkeypatch.setattr("pubsub.core.renewal.TOLD", 1)


def facts(client: Client) -> list[Any]:
    """The messages in short: the ``seq`` of an event, the bounds of a gap, the epoch and ``seq`` of a new life."""
    found: list[Any] = []
    for told in client.take():
        if told["type"] == "event":
            found.append(told["seq"])
        elif told["type"] == "ack":
            found.append("ack")
        elif told["msg"] == "dropped":
            found.append((told["from_seq"], told["to_seq"]))
        else:
            found.append([told["msg"], told.get("epoch"), told.get("seq")])
    return found


@pytest.mark.parametrize("name", ["a.b", "a.*", ">"])
def test_a_member_stays_and_is_told_where_the_topic_goes_on(world: World, name: str) -> None:
    member = world.member(name)
    world.deliver(1, 2, 3)
    world.renew(2)
    world.deliver(3, 4)
    assert facts(member) == [1, 2, 3, ["topic_created", "f", 2], 3, 4]
    assert world.topic.subscribers == world.broker.subscriber_count == 1
    member.ask(type="unsubscribe", topic=name)
    assert world.topic.subscribers == 0


def test_a_topic_that_lost_all_begins_again(world: World) -> None:
    member = world.member()
    world.deliver(1)
    world.renew(0)
    world.deliver(1)
    assert facts(member) == [1, ["topic_created", "f", None], 1]


def test_events_that_wait_for_the_socket_come_before_the_new_epoch(world: World) -> None:
    member = world.member()
    member.outbox.block()
    world.deliver(1, 2)
    world.renew(1)
    world.deliver(2)
    member.outbox.unblock()
    assert facts(member) == [1, 2, ["topic_created", "f", 1], 2]


def test_filters_go_on(world: World) -> None:
    member = world.member(filter="payload == 1")
    world.deliver(1)
    world.deliver(2, payload=b"2")
    world.renew(1)
    world.deliver(2, payload=b"2")
    world.deliver(3)
    assert facts(member) == [1, ["topic_created", "f", 1], 3]
    assert len(world.topic.lanes) == 1


@pytest.mark.parametrize(
    ("base", "told"),
    [
        (3, [2, ["topic_created", "f", 2], (3, 3), 4]),  # the test keeps nothing of the earlier life
        (2, [2, ["topic_created", "f", 2], 3]),
        (1, [2, ["topic_created", "f", 1], 2]),
        (0, [2, ["topic_created", "f", None], 1]),
    ],
)
def test_a_replay_goes_on_behind_what_both_lives_have(
    world: World, base: int, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pubsub.core.catchup.REPLAY_PAGE", 1)
    world.deliver(*range(1, 6))
    member = Client(world.broker, "c")
    member.outbox._options = structs.replace(member.outbox._options, take_turn=world.broker.turns.take)
    member.ask(type="subscribe", topic="a.b", resume={"a.b": {"epoch": "e", "seq": 1}})
    world.renew(base)
    world.deliver(base + 1)
    for _ in range(5):
        world.ticks.end()
    assert facts(member)[1:] == told


def test_a_client_that_was_not_answered_yet_gets_the_new_epoch(world: World) -> None:
    world.deliver(*range(1, 6))
    member = Client(world.broker, "c")
    member.outbox.block()
    member.session.receive('{"type":"subscribe","topic":"a.b","client_id":"c","resume":{"a.b":{"epoch":"e","seq":4}}}')
    world.renew(3)
    world.deliver(4)
    member.outbox.unblock()
    member.flush()
    world.ticks.end()
    ack, *told = member.take()
    assert (ack["epoch"], ack["seq"], ack["recovered"]) == ("f", 4, False)
    assert [each.get("seq", (each.get("from_seq"), each.get("to_seq"))) for each in told] == [(1, 3), 4]


def test_who_is_present_stays(world: World) -> None:
    world = World(presence=True)
    alice, bob = world.member(client_id="alice"), world.member(client_id="bob")
    alice.take()
    world.renew(0)
    assert [each.client_id for each in world.broker.presence("a.b").clients] == ["alice", "bob"]
    assert facts(alice) == facts(bob) == [["topic_created", "f", None]]
    bob.ask(type="unsubscribe", topic="a.b")
    assert {each.client_id: each.connections for each in world.broker.presence("a.b").clients} == {
        "alice": 1, "bob": 0,
    }  # fmt: skip


def test_the_counts_of_messages_go_on(world: World) -> None:
    world.deliver(1, 2, 3)
    world.renew(2)
    ended, topic = world.broker.ended_topics, world.topic
    assert (ended.messages + topic.seq, topic.latest is topic) == (3, True)


def test_what_is_lost_for_all_is_told_before_the_next_event(world: World) -> None:
    ready, slow = world.member(), world.member("a.*")
    world.deliver(1)
    slow.outbox.block()
    world.broker.skip(world.topic, 4)
    world.deliver(5)
    slow.outbox.unblock()
    assert facts(ready) == facts(slow) == [1, (2, 4), 5]
    assert (world.topic.seq, world.topic.oldest) == (5, 5)
    again = world.member(last_n=5)
    assert again.ask(type="history", topic="a.b", after=0)["complete"] is False


def test_a_history_is_asked_of_the_life_that_goes_on(world: World) -> None:
    world.deliver(1, 2)
    old = world.topic
    world.renew(1)
    given: list[Any] = []
    world.broker._history.read_after(old, 0, 10, None, given.append)
    assert (given[0].epoch, given[0].events) == ("f", [])


def test_memberships_of_the_earlier_life_are_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a member, and of one in the middle of a replay: its end is not that of the topic."""
    monkeypatch.setattr("pubsub.core.catchup.REPLAY_PAGE", 1)
    member = world.member()
    world.deliver(*range(1, 6))
    late = Client(world.broker, "c")
    late.outbox._options = structs.replace(late.outbox._options, take_turn=world.broker.turns.take)
    late.ask(type="subscribe", topic="a.b", last_n=3)
    old = world.topic
    world.begin_to_renew(1)
    for each, stay in [(member, (0, 5)), (late, (2, 3))]:
        trail, lane = each.outbox.ensure_trail(), each.outbox.lanes["a.b"]
        assert [(after_of(stay.since), stay.until) for stay in trail.stays_in(old)] == [stay]
        assert after_of(lane.since_of(each.outbox)) == 1


def test_what_nothing_wants_any_more_is_not_to_come_in_the_next_life(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay whose subscription has ended: another subscription of the client began behind it."""
    monkeypatch.setattr("pubsub.core.catchup.REPLAY_PAGE", 1)
    world.deliver(*range(1, 6))
    member = Client(world.broker, "c")
    member.outbox._options = structs.replace(member.outbox._options, take_turn=world.broker.turns.take)
    for name, kind in [("a.*", "subscribe"), (">", "subscribe"), ("a.*", "unsubscribe")]:
        member.session.receive(f'{{"type":"{kind}","topic":"{name}","client_id":"c","last_n":{5 * (name == "a.*")}}}')
    member.flush()
    member.take()
    world.renew(3)
    world.end_all_turns()
    world.deliver(4)
    assert facts(member) == [["topic_created", "f", 3], 4]


class SlowLog:
    """A log whose pages come when the test says so."""

    def __init__(self, topic: Topic) -> None:
        self.reads: list[tuple[int, Any]] = []
        topic.log = self  # type: ignore[assignment]  # a catch-up needs no more of it
        topic.ring.clear()
        topic.trim(1, 100)

    def read(self, after: int, until: int, limit: int, done: Any) -> None:
        self.reads.append((after, done))

    def answer(self, *seqs: int) -> None:
        _, done = self.reads.pop(0)
        done([make_event("a.b", Message(new_id(), Raw(b"1")), seq, "now") for seq in seqs])


def test_who_is_in_the_middle_of_a_replay_is_told_of_a_loss_too(world: World) -> None:
    """Also if it began with whatever is kept, and the journal keeps older messages than those that are lost."""
    world.deliver(1, 2, 3)
    log = SlowLog(world.topic)
    member = world.member(last_n=2)
    world.broker.skip(world.topic, 5)
    log.answer(2, 3)
    world.end_all_turns()
    log.answer()
    world.end_all_turns()
    assert facts(member) == [2, 3, (4, 5)]


# Turns: the test does something before all members know


@pytest.mark.usefixtures("one_at_a_time")
def test_row_65_members_are_told_in_turns_and_the_journal_waits_for_the_last(world: World) -> None:
    members = [world.member() for _ in range(3)]
    world.deliver(1, 2)
    world.begin_to_renew(1)
    assert world.topic.subscribers == 3
    told: list[str] = []
    assert world.broker.call_when_told(world.topic, lambda: told.append("all"))
    assert [facts(each)[2:] for each in members] == [[], [], [["topic_created", "f", 1]]]
    world.ticks.end()
    assert not told
    world.ticks.end()
    assert told == ["all"]
    assert not world.broker.call_when_told(world.topic, lambda: None)
    world.deliver(2)
    assert [facts(each) for each in members] == [
        [["topic_created", "f", 1], 2], [["topic_created", "f", 1], 2], [2],
    ]  # fmt: skip


@pytest.mark.usefixtures("one_at_a_time")
def test_a_topic_that_is_renewed_again_tells_its_members_of_the_last_life(world: World) -> None:
    """Those who know of the life between go on from there, the others from their own."""
    early, late = world.member(), world.member()
    world.deliver(1, 2, 3, 4)
    old = world.topic
    world.begin_to_renew(3)
    between: list[str] = []
    world.broker.call_when_told(world.topic, lambda: between.append("all"))
    world.begin_to_renew(2, "g")
    world.end_all_turns()
    world.deliver(3)
    assert facts(early)[4:] == [["topic_created", "g", 2], 3]
    assert not old.subscribers
    assert facts(late)[4:] == [["topic_created", "f", 3], ["topic_created", "g", 2], 3]
    assert not between


@pytest.mark.usefixtures("one_at_a_time")
def test_who_was_not_told_of_a_loss_goes_on_from_before_it_in_the_next_life(world: World) -> None:
    early, late = world.member(), world.member()
    world.deliver(1)
    world.broker.skip(world.topic, 5)
    world.begin_to_renew(4)
    world.end_all_turns()
    world.deliver(5)
    assert facts(early) == [1, ["topic_created", "f", 1], (2, 4), 5]
    assert facts(late) == [1, (2, 5), ["topic_created", "f", 4], 5]


@pytest.mark.usefixtures("one_at_a_time")
def test_a_further_loss_is_told_with_the_first(world: World) -> None:
    early, late = world.member(), world.member()
    world.deliver(1)
    world.broker.skip(world.topic, 3)
    assert world.topic.has_pending
    world.broker.skip(world.topic, 5)
    world.end_all_turns()
    assert not world.topic.has_pending
    world.deliver(6)
    assert facts(early) == [1, (2, 5), 6]
    assert facts(late) == [1, (2, 3), (4, 5), 6]


@pytest.mark.usefixtures("one_at_a_time")
def test_the_end_of_the_topic_comes_after_its_next_life(world: World) -> None:
    members = [world.member() for _ in range(2)]
    world.deliver(1, 2)
    world.begin_to_renew(1)
    world.broker.remove_topic(world.topic)
    world.end_all_turns()
    assert [facts(each) for each in members] == 2 * [
        [1, 2, ["topic_created", "f", 1], ["topic_deleted", None, None]]
    ]  # fmt: skip
    assert world.broker.subscriber_count == 0


@pytest.mark.usefixtures("one_at_a_time")
def test_who_subscribes_again_is_told_before_the_answer_and_only_once(world: World) -> None:
    early, _ = world.member(), world.member()
    world.deliver(1, 2)
    world.begin_to_renew(1)
    early.ask(type="subscribe", topic="a.*")
    world.end_all_turns()
    world.deliver(2)
    assert facts(early) == [1, 2, ["topic_created", "f", 1], "ack", 2]


@pytest.mark.usefixtures("one_at_a_time")
def test_who_leaves_and_comes_again_is_told_nothing(world: World) -> None:
    early, _ = world.member(), world.member()
    world.deliver(1)
    world.begin_to_renew(1)
    early.ask(type="unsubscribe", topic="a.b")
    early.ask(type="subscribe", topic="a.b")
    world.end_all_turns()
    world.deliver(2)
    assert facts(early) == [1, "ack", "ack", 2]


@pytest.mark.usefixtures("one_at_a_time")
def test_what_was_sent_in_the_earlier_life_is_remembered_before_the_filter_changes(world: World) -> None:
    early, _ = world.member(), world.member()
    early.ask(type="subscribe", topic="a.*", filter="payload == 1")
    world.deliver(1, 2)
    old = world.topic
    world.begin_to_renew(1)
    early.ask(type="unsubscribe", topic="a.b")
    trail = early.outbox.ensure_trail()
    assert [(stay.until, stay.filter) for stay in trail.stays_in(old)] == [(2, None)]


@pytest.mark.usefixtures("one_at_a_time")
def test_who_resumes_in_the_next_life_is_told_of_it_by_the_answer(world: World) -> None:
    """It had learned of it at another server."""
    world.member(filter="payload == 1")  # it is told before
    world.deliver(*range(1, 6))
    client = Client(world.broker, "c")
    client.outbox.block()
    client.session.receive('{"type":"subscribe","topic":"a.b","client_id":"c","resume":{"a.b":{"epoch":"f","seq":3}}}')
    world.begin_to_renew(3)
    client.outbox.unblock()
    client.flush()
    world.end_all_turns()
    world.deliver(4)
    ack, event = client.take()
    assert (ack["epoch"], ack["seq"], event["seq"]) == ("f", 3, 4)


@pytest.mark.usefixtures("one_at_a_time")
def test_a_page_of_the_earlier_life_is_read_again(world: World) -> None:
    world.member(filter="payload == 1")  # it is told before
    world.deliver(1, 2, 3)
    log = SlowLog(world.topic)
    member = world.member(last_n=2)
    world.begin_to_renew(3)
    world.topic.trim(1, 100)
    log.answer(2, 3)
    world.end_all_turns()
    assert facts(member) == [["topic_created", "f", 1]]
    log.answer(2, 3)
    world.end_all_turns()
    assert facts(member) == [2, 3]


@pytest.mark.usefixtures("one_at_a_time")
def test_a_replay_stands_still_until_its_client_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.core.catchup.REPLAY_PAGE", 1)
    for _ in range(3):
        world.member(filter="payload == 1")  # they are told before
    world.deliver(*range(1, 6))
    member = Client(world.broker, "c")
    member.outbox._options = structs.replace(member.outbox._options, take_turn=world.broker.turns.take)
    member.ask(type="subscribe", topic="a.b", last_n=5)
    world.begin_to_renew(3)
    world.end_all_turns()
    world.deliver(4)
    assert facts(member) == ["ack", 1, ["topic_created", "f", 1], (2, 3), 4]


class Witness:
    """A client that checks all that it gets against the messages of each life."""

    def __init__(self, world: Journal, client: Client) -> None:
        self.world = world
        self.client = client
        self.place: tuple[str, int] | None = None  # the epoch, and the last ``seq`` that it has or knows to be lost
        self.left: tuple[str, int] | None = None  # the place that it has left
        self.loose = False  # the next event may be any: it did not resume

    def subscribe(self, name: str) -> None:
        """Subscribe, and resume if the client has been away."""
        left, more = self.left, {}
        if left is not None:
            more["resume"] = {"a.b": {"epoch": left[0], "seq": left[1]}}
        self.client.ask(type="subscribe", topic=name, **more)
        self.left = None
        self.look(resumes=left)

    def unsubscribe(self, name: str) -> None:
        self.client.ask(type="unsubscribe", topic=name)
        self.look()
        if not self.client.outbox.lanes:
            self.left, self.place = self.place or self.left, None
        self.loose = True  # another subscription may have begun behind what was still to be replayed

    def look(self, resumes: tuple[str, int] | None = None) -> None:
        for told in self.client.take():
            if told["type"] == "ack":
                self._begin(told, resumes)
            elif told["type"] == "event":
                self._take(told["seq"], told["message"]["id"])
            elif told["msg"] == "dropped":
                self._expect(told["from_seq"])
                self._go_to(told["to_seq"])
            elif told["msg"] == "topic_created":
                self.place, self.loose = (told["epoch"], told.get("seq", 0)), False
            else:
                assert told["msg"] == "topic_deleted"
                self.place = None

    def _begin(self, ack: dict[str, Any], resumes: tuple[str, int] | None) -> None:
        if "topics" in ack:
            ack = ack | ack["topics"].get("a.b", {})
        if "epoch" not in ack:  # of an unsubscribe, or of a pattern without topics
            return
        if resumes is None:
            self.place, self.loose = (ack["epoch"], ack["seq"]), True
        else:
            begins = resumes[0] == ack["epoch"] and resumes[1] <= ack["seq"]
            self.place, self.loose = (ack["epoch"], resumes[1] if begins else 0), False

    def _take(self, seq: int, message_id: str) -> None:
        self._expect(seq)
        assert self.place is not None
        assert self.world.lives[self.place[0]][seq] == message_id
        self._go_to(seq)

    def _expect(self, seq: int) -> None:
        assert self.place is not None, "it is subscribed"
        assert self.loose or seq == self.place[1] + 1, (seq, self.place)

    def _go_to(self, seq: int) -> None:
        assert self.place is not None
        self.place, self.loose = (self.place[0], seq), False


class Journal(World):
    """A World whose events come as a journal delivers them: not before all members know where the topic goes on."""

    def __init__(self, random: Random) -> None:
        numbers = count()
        super().__init__(ring_size=5, epochs=(f"e{number}" for number in numbers))
        self.random = random
        self.lives: dict[str, dict[int, str]] = {self.topic.epoch: {}}
        self.late = 0  # messages that wait for the members
        self.witnesses: list[Witness] = []

    def publish(self) -> None:
        self.late += 1
        self.go_on()

    def go_on(self) -> None:
        topic = self.topic
        while self.late and not self.broker.call_when_told(topic, self.go_on):
            self.late -= 1
            message = Message(new_id(), Raw(b"1"))
            seq = topic.seq + 1
            self.lives[topic.epoch][seq] = message.id
            self.broker.deliver(topic, [make_event("a.b", message, seq, "now")])
            if self.late and self.random.random() < 0.3:
                break

    def renew_somewhere(self) -> None:
        before, base = self.topic, self.random.randint(max(0, self.topic.seq - 3), self.topic.seq)
        epoch = next(self.epochs)
        self.lives[epoch] = {seq: each for seq, each in self.lives[before.epoch].items() if seq <= base}
        self.begin_to_renew(base, epoch)
        self.go_on()

    def lose_some(self) -> None:
        if not self.broker.call_when_told(self.topic, self.go_on):
            self.broker.skip(self.topic, self.topic.seq + self.random.randint(1, 3))
            self.go_on()

    def make_anew(self) -> None:
        self.broker.remove_topic(self.topic)
        self.broker.create_topic("a.b")
        self.lives[self.topic.epoch] = {}

    def purge(self) -> None:
        self.broker.forget(self.topic, lambda _: None)

    def arrive(self) -> None:
        if len(self.witnesses) < 6:
            client = Client(self.broker, "c")
            client.outbox._options = structs.replace(client.outbox._options, take_turn=self.broker.turns.take)
            self.witnesses.append(witness := Witness(self, client))
            witness.subscribe(self.random.choice(["a.b", "a.*", ">"]))

    def subscribe_again(self) -> None:
        if (witness := self.some_one()) and not witness.client.outbox.lagging:
            name = self.random.choice(["a.b", "a.*", ">"])
            if witness.client.outbox.is_subscribed(name):
                witness.unsubscribe(name)
            else:
                witness.subscribe(name)

    def leave(self) -> None:
        if witness := self.some_one():
            witness.look()
            self.broker.leave(witness.client.outbox)
            self.witnesses.remove(witness)

    def block(self) -> None:
        if witness := self.some_one():
            outbox = witness.client.outbox
            if outbox.blocked:
                outbox.unblock()
            else:
                outbox.block()

    def some_one(self) -> Witness | None:
        return self.random.choice(self.witnesses) if self.witnesses else None

    def live(self, steps: int) -> None:
        actions = [
            (12, self.publish), (10, self.ticks.end), (3, self.renew_somewhere), (2, self.lose_some), (3, self.arrive),
            (4, self.subscribe_again), (1, self.leave), (3, self.block), (1, self.make_anew), (1, self.purge),
        ]  # fmt: skip
        weights = [weight for weight, _ in actions]
        for action in self.random.choices([action for _, action in actions], weights, k=steps):
            action()
            for witness in self.witnesses:
                witness.look()

    def end(self) -> None:
        for witness in self.witnesses:
            if witness.client.outbox.blocked:
                witness.client.outbox.unblock()
        self.end_all_turns()
        self.publish()
        self.end_all_turns()
        for witness in self.witnesses:
            witness.look()
            if witness.client.outbox.lanes:
                assert witness.place == (self.topic.epoch, self.topic.seq)
        assert self.topic.subscribers == sum(bool(each.client.outbox.lanes) for each in self.witnesses)


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize("seed", range(4))
def test_row_65_each_member_gets_each_event_once_in_the_right_life(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes between two turns: publishes, subscriptions, ends, losses, further renewals."""
    monkeypatch.setattr("pubsub.core.catchup.REPLAY_PAGE", 1)
    for each in range(seed, 480, 4):
        journal = Journal(Random(each))
        journal.live(120)
        journal.end()
