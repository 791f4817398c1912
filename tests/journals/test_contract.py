"""The contract of a topic's log (core/log.py), for all journals; tests/redis runs it on Redis too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pubsub.core.log import Assignment
from pubsub.core.topic import Topic
from pubsub.protocol.errors import Conflict, TopicNotFound
from pubsub.protocol.requests import Publish
from tests.harness import new_id, nothing_left
from tests.journals.engine_world import on_workers
from tests.journals.world import Outcomes, World, message


@pytest.fixture(params=["memory", "disk", "shared", "workers"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = make_world(request.param, tmp_path)
    yield world
    world.close()


@pytest.fixture(params=["memory", "disk", "shared"])
def steered_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world whose clock and reads the test steers: those of the owner of workers are its own."""
    world = make_world(request.param, tmp_path)
    yield world
    world.close()


def make_world(kind: str, directory: Path) -> World:
    if kind == "workers":
        return on_workers(directory)
    return World(directory / "data" if kind == "disk" else None, shared=kind == "shared")


def seqs(events: list[Any]) -> list[int]:
    return [event["seq"] for event in events]


def placed(*outcomes: int | tuple[int]) -> list[Assignment]:
    """The outcomes of a list: a ``seq``, or ``(seq,)`` of a duplicate."""
    return [
        Assignment(outcome, duplicate=False) if isinstance(outcome, int) else Assignment(outcome[0], duplicate=True)
        for outcome in outcomes
    ]


# The sender


def test_an_event_names_its_publisher_only_on_a_topic_with_that_option(world: World) -> None:
    world.create(sender=True)
    world.create("plain")
    world.publish(message("a"), client_id='al"ice\u2028')
    world.publish(message("b"), message("c", topic="plain"), client_id="bob")
    world.publish(message("d"))
    world.publish_all(message("e"), message("f"), client_id="carol")
    assert [event.get("from") for event in world.kept()] == ['al"ice\u2028', "bob", None, "carol", "carol"]
    assert list(world.kept()[0]) == ["type", "topic", "message", "seq", "ts", "from"]
    world.broker.publish_all("plain", [message("g", topic="plain")], "carol", lambda _: None)
    world.settle()
    plain = world.broker.topic("plain").ring.after(0, 10)
    assert [json.loads(event.text).get("from") for event in plain] == [None, None]


def test_a_subscriber_gets_the_sender_live_and_replayed(world: World) -> None:
    world.create(sender=True)
    world.publish(message(), client_id="alice")
    member = world.subscribe(last_n=1)
    member.joining.advance()
    world.publish(message(), client_id="bob")
    assert [event["from"] for event in member.told] == ["alice", "bob"]


# Optimistic publishing


def test_a_publish_is_taken_only_at_the_seq_that_it_expects(world: World) -> None:
    world.create()
    given = world.publish(
        message(expect_seq=0), message(expect_seq=0), message(expect_seq=1), message(), message(expect_seq=99)
    )
    first, conflict, second, third, late = given
    assert (first, second, third) == (1, 2, 3)
    assert isinstance(conflict, Conflict)
    assert isinstance(late, Conflict)
    assert (conflict.seq, late.seq) == (1, 3)
    assert seqs(world.kept()) == [1, 2, 3]


def test_a_duplicate_is_one_whatever_it_expects(world: World) -> None:
    world.create(dedup_sec=60)
    request = message(expect_seq=0)
    again = message(message_id=request.message.id.upper(), expect_seq=0)
    assert world.publish(request, again, message(message_id=request.message.id, expect_seq=77)) == [1, (1,), (1,)]


def test_an_id_is_not_remembered_for_a_message_that_was_refused(world: World) -> None:
    world.create(dedup_sec=60)
    message_id = new_id()
    refused, accepted = world.publish(message(message_id=message_id, expect_seq=5), message(message_id=message_id))
    assert isinstance(refused, Conflict)
    assert accepted == 1


class Writer(Outcomes):
    """A client that adds one to the value of the topic, again and again until that is not refused."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._seen: tuple[int, int] | None = None
        self.waits = False

    @property
    def done(self) -> bool:
        return bool(self.given)

    def step(self) -> None:
        """Read the value, or publish the next one."""
        if self._seen is None:
            topic = self._world.broker.topic("t")
            newest = topic.ring.after(topic.seq - 1, 1)
            self._seen = topic.seq, json.loads(newest[0].text)["message"]["payload"] if newest else 0
        else:
            seq, value = self._seen
            self.waits = True
            self._world.broker.publish([message(value + 1, expect_seq=seq)], self)

    def published(self, requests: Sequence[Publish], first: int, ts: str) -> None:
        super().published(requests, first, ts)
        self.waits = False

    def refused(self, request: Publish, failure: Any) -> None:
        assert isinstance(failure, Conflict)
        self._seen, self.waits = None, False


def test_racing_writers_lose_no_update(world: World) -> None:
    world.create()
    random = Random(7)
    count = 1000 if world.kind in ("memory", "disk") else 200  # each round trip to an engine takes its time
    racing = [Writer(world) for _ in range(count)]
    steps = 0
    while racing:
        writer = random.choice(racing)
        if not writer.waits and not writer.done:
            writer.step()
        steps += 1
        if steps % 50 == 0:
            world.settle()
            racing = [each for each in racing if not each.done]
    events = world.kept()
    assert [event["message"]["payload"] for event in events] == list(range(1, count + 1))
    assert seqs(events) == list(range(1, count + 1))


# Lists


def test_a_list_is_published_in_its_order(world: World) -> None:
    world.create()
    world.publish(message())
    member = world.subscribe()
    member.joining.advance()
    assert world.publish_all(*[message(payload) for payload in "abc"]) == placed(2, 3, 4)
    assert [(told["seq"], told["message"]["payload"]) for told in member.told] == [(2, "a"), (3, "b"), (4, "c")]
    assert world.publish(message()) == [5]
    assert world.publish_all() == []


def test_ids_that_a_list_repeats_or_that_were_seen_are_duplicates(steered_world: World) -> None:
    steered_world.create(dedup_sec=60)
    old, new = new_id(), new_id()
    steered_world.publish(message(message_id=old))
    outcome = steered_world.publish_all(
        message(message_id=old), message(message_id=new), message(), message(message_id=new.upper())
    )
    assert outcome == placed((1,), 2, 3, (2,))
    assert steered_world.publish(message(message_id=new)) == [(2,)]
    assert seqs(steered_world.kept()) == [1, 2, 3]
    steered_world.pass_time(61)
    assert steered_world.publish_all(message(message_id=old), message(message_id=new)) == placed(4, 5)


def test_a_list_with_a_conflict_leaves_nothing_behind(world: World) -> None:
    world.create(dedup_sec=60)
    world.publish(message())
    member = world.subscribe()
    member.joining.advance()
    first = message(expect_seq=1)
    outcome = world.publish_all(first, message(expect_seq=2), message(expect_seq=2))
    assert isinstance(outcome, Conflict)
    assert (str(outcome)[:14], outcome.seq) == ("[2].expect_seq", 3)
    assert member.told == []
    assert world.publish_all(first, message(expect_seq=2)) == placed(2, 3), "the ids are not known"
    assert member.facts == [2, 3]


def test_what_a_duplicate_in_a_list_expects_does_not_matter(world: World) -> None:
    world.create(dedup_sec=60)
    message_id = new_id()
    outcome = world.publish_all(
        message(message_id=message_id, expect_seq=0), message(message_id=message_id, expect_seq=9)
    )
    assert outcome == placed(1, (1,))


def test_messages_of_a_list_have_their_own_time_to_live(steered_world: World) -> None:
    steered_world.create()
    steered_world.publish_all(message(), message(ttl_sec=5), message())
    steered_world.pass_time(5)
    assert seqs(steered_world.kept()) == [1, 3]


def test_a_list_for_a_topic_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(TopicNotFound):
        world.broker.publish_all("t", [message()], "", lambda _: None)


def test_lists_and_single_messages_come_in_the_order_of_the_calls(world: World) -> None:
    world.create()
    outcomes, given = Outcomes(), list[Any]()
    for _ in range(3):
        world.broker.publish([message()], outcomes)
        world.broker.publish_all("t", [message(), message()], "", given.append)
    world.settle()
    assert outcomes.given == [1, 4, 7]
    assert given == [placed(2, 3), placed(5, 6), placed(8, 9)]


# Purge


@pytest.mark.parametrize(("history", "forgotten"), [(1000, 150), (120, 120), (7, 7), (0, 0)])
def test_a_purge_forgets_what_is_kept_and_the_numbers_continue(world: World, history: int, forgotten: int) -> None:
    world.create(history=history, dedup_sec=60)
    last = message()
    world.publish(*[message() for _ in range(149)], last)
    topic = world.broker.topic("t")
    epoch = topic.epoch
    assert world.purge() == forgotten
    assert world.kept() == []
    assert (topic.seq, topic.epoch, topic.stored_bytes, len(topic.ring)) == (150, epoch, 0, 0)
    assert world.purge() == 0
    assert world.publish(message(message_id=last.message.id), message()) == [(150,), 151], "ids stay known"
    assert seqs(world.kept()) == ([151] if history else [])


@pytest.mark.parametrize(("seq", "recovered", "told"), [(3, False, [(4, 20), 21]), (19, False, [(20, 20), 21]),
                                                        (20, True, [21]), (21, True, [])])  # fmt: skip
def test_a_client_that_resumes_from_before_a_purge_is_told_the_gap(
    world: World, seq: int, recovered: bool, told: list[Any]
) -> None:
    world.create()
    world.publish(*[message() for _ in range(20)])
    world.purge()
    world.publish(message())
    member = world.subscribe(seq=seq)
    member.joining.advance()
    assert (member.recovered, member.facts) == (recovered, told)


@pytest.mark.parametrize("start", [{"seq": 0}, {"last_n": 700}], ids=str)
def test_a_subscriber_in_the_middle_of_its_replay_is_told_what_a_purge_took(
    world: World, start: dict[str, int]
) -> None:
    world.create()
    world.publish(*[message() for _ in range(700)])
    member = world.subscribe(**start)
    member.joining.advance()
    world.wait_for(member.told)
    read = len(member.told)
    assert 0 < read < 700
    member.subscriber.block()
    assert world.purge() == 700
    world.publish(message())
    member.subscriber.unblock()
    world.settle()
    assert member.facts == [*range(1, read + 1), (read + 1, 700), 701]


def test_a_page_that_a_purge_overtakes_is_not_sent(steered_world: World) -> None:
    """Its rows are read, and then the purge ends before the page comes."""
    steered_world.create()
    steered_world.publish(*[message() for _ in range(700)])
    member = steered_world.subscribe(seq=0)
    pages = steered_world.hold_reads()
    member.joining.advance()
    read = len(member.told)
    steered_world.purge()
    for page in pages():
        page()
    steered_world.settle()
    assert member.facts == [*range(1, read + 1), (read + 1, 700)]


def test_a_purge_counts_no_message_that_has_expired(steered_world: World) -> None:
    steered_world.create(ttl_sec=10)
    steered_world.publish(*[message() for _ in range(20)])
    steered_world.pass_time(10)
    steered_world.publish(message(), message())
    assert steered_world.purge() == 2
    steered_world.publish(message())
    assert steered_world.purge() == 1


def test_a_purge_comes_after_the_publishes_before_it(world: World) -> None:
    world.create(ttl_sec=10)
    given = list[Any]()
    outcomes = Outcomes()
    for _ in range(2):
        world.broker.publish([message()], outcomes)
        world.broker.publish_all("t", [message(), message()], "", lambda _: None)
        world.broker.purge("t", given.append)
    world.broker.publish([message()], outcomes)
    world.settle()
    assert (given, outcomes.given) == ([3, 3], [1, 4, 7])
    assert seqs(world.kept()) == [7]


def test_a_topic_that_is_not_there_is_not_purged(world: World) -> None:
    with pytest.raises(TopicNotFound):
        world.broker.purge("t", lambda _: None)


# Topics that begin and end


def test_messages_behind_the_creation_of_their_topic_are_in_it(world: World) -> None:
    outcomes, assignments = Outcomes(""), list[Any]()
    world.broker.publish([message("a", topic="used.1")], outcomes)
    requests = [message(payload, topic="used.1") for payload in "bc"]
    world.broker.publish_all("used.1", requests, "", assignments.append)
    world.broker.publish([message("d", topic="used.1", expect_seq=3)], outcomes)
    world.broker.publish([message("e", topic="used.1", expect_seq=3)], outcomes)
    world.settle()
    first, second, refused = outcomes.given
    assert (first, assignments, second, type(refused)) == (1, [placed(2, 3)], 4, Conflict)
    topic = world.broker.topic("used.1")
    kept = topic.ring.after(0, 10)
    assert [json.loads(event.text)["message"]["payload"] for event in kept] == ["a", "b", "c", "d"]
    text, payloads = sum(len(event.text) for event in kept), 4 * len('"a"')
    sizes = {"memory": 0, "disk": text, "shared": text, "redis": payloads + 4 * (36 + 7), "workers": 0}
    assert topic.stored_bytes == sizes[world.kind]
    assert not topic.log.appending


def test_a_message_that_expects_another_seq_than_zero_creates_no_topic(world: World) -> None:
    with pytest.raises(Conflict) as conflict:
        world.publish(message(topic="used.1", expect_seq=5))
    assert conflict.value.seq == 0
    with pytest.raises(TopicNotFound):
        world.publish(message(topic="other.1", expect_seq=5))
    with pytest.raises(Conflict, match="expect_seq"):
        world.broker.publish_all("used.1", [message(topic="used.1", expect_seq=5), message()], "", lambda _: None)
    assert world.broker.topics == []
    assert world.publish(message(topic="used.1", expect_seq=0)) == [1]


def test_a_topic_is_deleted_only_at_the_seq_that_is_expected(world: World) -> None:
    world.create()
    outcomes, given = Outcomes(), list[Any]()
    world.broker.publish([message("a"), message("b")], outcomes)
    for expected in (1, 2):
        world.broker.delete_topic("t", given.append, expected)
    world.settle()
    world.wait_for(given[1:])
    refused, deleted = given
    assert (type(refused), refused.seq, deleted) == (Conflict, 2, None)
    assert not world.broker.exists("t")


def test_a_topic_that_is_deleted_needs_no_collector_of_cycles(world: World) -> None:
    with nothing_left(Topic):
        for number in range(20):
            world.create()
            world.publish(message(number))
            world.broker.delete_topic("t")
            world.settle()
