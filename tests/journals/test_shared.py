"""The journal that several servers share, step by step over a simulated engine: failures, freshness, holes, slices."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from pubsub.core.event import StoredEvent, make_event
from pubsub.core.log import Assignment
from pubsub.core.subscription import Asked, Subscription
from pubsub.journals.shared import asking
from pubsub.journals.shared.engine import Append, Appended, Known, State, Told
from pubsub.journals.shared.gathering import Gathering
from pubsub.journals.shared.inbox import ROOM
from pubsub.protocol.errors import Failure, NotAnswered, NotStored, TopicExists, TopicNotFound
from pubsub.protocol.requests import TopicOptions
from tests.doubles import ALL_GRANTED
from tests.journals.simulated_cluster import RING, WAIT, Client, Cluster, Place, Server
from tests.journals.world import Outcomes, message


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(seed=0, servers=2)
    settle(cluster)
    return cluster


def settle(cluster: Cluster) -> None:
    """Let everything on its way arrive; no time passes."""
    cluster._run_all()


def create(cluster: Cluster, name: str = "t", **options: Any) -> None:
    cluster.servers[0].broker.create_topic(name, TopicOptions(**{"history": 100} | options))
    settle(cluster)


def publish(server: Server, *payloads: Any, topic: str = "t") -> Outcomes:
    outcomes = Outcomes()
    for payload in payloads:
        server.broker.publish([message(payload, topic=topic)], outcomes)
    return outcomes


def subscribe(cluster: Cluster, server: Server, name: str = "t", resume: dict[str, Place] | None = None) -> Client:
    client = Client(cluster, server, name)
    client.subscribe(resume)
    cluster.clients.append(client)
    settle(cluster)
    return client


def kinds(outcomes: Outcomes) -> list[Any]:
    return [type(each) if isinstance(each, Failure) else each for each in outcomes.given]


# One batch in a tick


def test_publishes_of_a_tick_are_one_operation_for_each_topic(cluster: Cluster) -> None:
    create(cluster)
    create(cluster, "u")
    one = cluster.servers[0]
    first, second = publish(one, 1, 2), publish(one, 3)
    other = publish(one, 4, topic="u")
    one.tick()
    ((operations, _),) = one.link._asked.values()
    assert [(type(each), len(each.requests)) for each in operations if isinstance(each, Append)] == [
        (Append, 3), (Append, 1),
    ]  # fmt: skip
    settle(cluster)
    assert (first.given, second.given, other.given) == ([1, 2], [3], [1])


def test_what_stands_between_publishes_keeps_its_place() -> None:
    gathering = Gathering()
    log: Any = NoTopic()
    gathering.publish(log, [message(1)], Outcomes(), "ts", "", 1)
    gathering.add(State("t", "e", TopicOptions()))  # type: ignore[arg-type]
    gathering.publish(log, [message(2)], Outcomes(), "ts", "", 1)
    gathering.publish(log, [message(3)], Outcomes(), "ts", "alice", 1)
    batch = gathering.finish()
    assert [len(each.requests) if isinstance(each, Append) else 0 for each in batch.operations] == [1, 0, 1, 1]
    assert not gathering


class NoTopic:
    """A log, as Gathering sees it."""

    name, epoch, seq, options = "t", "e", 0, TopicOptions(history=1)

    def __init__(self) -> None:
        self.known = Known(self.name, self.epoch, self.seq)


# Topics that get a new epoch while something is asked of them


def test_a_deletion_and_a_purge_hold_for_the_topic_whatever_its_epoch_is_by_then(cluster: Cluster) -> None:
    """As after a failover: what waited for it would be told that there is no such topic."""
    create(cluster)
    create(cluster, "u")
    one = cluster.servers[0]
    publish(one, 1, 2)
    settle(cluster)
    ended: list[Any] = []
    one.broker.purge("t", ended.append)
    one.broker.delete_topic("u", ended.append)
    for topic in cluster.engine.topics.values():
        cluster.engine.renew(topic)
    settle(cluster)
    assert ended == [2, None]
    assert list(cluster.engine.topics) == ["t"]


def test_an_idle_topic_whose_epoch_is_renewed_while_it_is_deleted_is_not_forgotten(cluster: Cluster) -> None:
    create(cluster)
    one = cluster.servers[0]
    publish(one, 1)
    settle(cluster)
    topic = one.broker.topic("t")
    one.broker.idle._delete(topic)
    cluster.engine.renew(cluster.engine.topics["t"])
    publish(cluster.servers[1], 2)
    settle(cluster)
    assert one.broker.topic("t").epoch == cluster.engine.topics["t"].epoch
    assert kinds(publish_and_settle(cluster, one)) == [3]


def test_an_idle_topic_that_has_as_many_messages_in_another_epoch_is_not_deleted(cluster: Cluster) -> None:
    create(cluster)
    one, other = cluster.servers
    publish(one, 1, 2)
    settle(cluster)
    one.broker.idle._delete(one.broker.topic("t"))
    cluster.engine.lose_tail(cluster.engine.topics["t"], 1)
    cluster.engine.renew(cluster.engine.topics["t"])
    publish(other, 3)
    other.tick()
    assert other.link.step(other.link.outbound)
    assert cluster.engine.topics["t"].seq == 2
    settle(cluster)
    assert "t" in cluster.engine.topics
    assert kinds(publish_and_settle(cluster, one)) == [3]


def test_an_idle_topic_whose_end_is_known_before_its_outcome_does_not_come_again(cluster: Cluster) -> None:
    create(cluster)
    one = cluster.servers[0]
    one.broker.idle._delete(one.broker.topic("t"))
    one.tick()
    assert one.link.step(one.link.outbound)
    assert one.link.step(one.link.inbound)
    one.link.inbound.clear()
    cluster.now += WAIT
    one.tick()
    assert one.journal.failure == "no answer from the engine within 5 s"
    assert not one.broker.exists("t")


def test_a_later_life_of_an_idle_topic_is_there_after_the_end_of_the_first(cluster: Cluster) -> None:
    """The server has lost its connection, and hears of the other life before the outcome of its deletion."""
    create(cluster)
    one, other = cluster.servers
    one.broker.idle._delete(one.broker.topic("t"))
    one.tick()
    assert one.link.step(one.link.outbound)
    one.link.disconnect()
    settle(cluster)
    other.broker.create_topic("t", TopicOptions(history=10))
    settle(cluster)
    cluster.engine.renew(cluster.engine.topics["t"])
    one.link.connect()
    settle(cluster)
    assert one.broker.topic("t").epoch == cluster.engine.topics["t"].epoch


def test_a_later_life_of_an_idle_topic_that_comes_after_the_end_of_the_first_is_there(cluster: Cluster) -> None:
    create(cluster)
    one, other = cluster.servers
    one.broker.idle._delete(one.broker.topic("t"))
    one.tick()
    one.link.step(one.link.outbound)
    one.link.inbound.popleft()  # the record that it is deleted
    settle(cluster)
    other.broker.create_topic("t", TopicOptions(history=10))
    other.tick()
    other.link.step(other.link.outbound)
    one.link.inbound.popleft()  # that of the next one
    cluster.engine.renew(cluster.engine.topics["t"])
    settle(cluster)
    assert one.broker.topic("t").epoch == cluster.engine.topics["t"].epoch


def test_a_topic_whose_creation_is_known_late_and_that_is_gone_by_then_is_no_ghost(cluster: Cluster) -> None:
    """The outcome is asked for again after a loss of the connection; another server has deleted the topic."""
    one, other = cluster.servers
    given: list[Any] = []
    one.broker.create_topic("t", TopicOptions(history=10), given.append)
    one.tick()
    assert one.link.step(one.link.outbound)
    one.link.disconnect()
    settle(cluster)
    other.broker.delete_topic("t")
    settle(cluster)
    one.link.connect()
    settle(cluster)
    assert not one.broker.exists("t")
    assert [type(each) for each in given] == [TopicNotFound]


# An engine that is away


def test_a_publish_waits_for_the_engine_and_is_refused_in_time(cluster: Cluster) -> None:
    create(cluster)
    one, other = cluster.servers
    client = subscribe(cluster, one)
    one.link.disconnect("no route")
    settle(cluster)
    assert one.journal.failure == one.broker.failure == "no route"
    early = publish(one, "early")
    settle(cluster)
    cluster.now += WAIT - 0.5
    settle(cluster)
    late = publish(one, "late")
    settle(cluster)
    assert (early.given, late.given) == ([], [])
    cluster.now += 0.5
    settle(cluster)
    assert kinds(early) == [NotStored]
    assert kinds(publish_and_settle(cluster, one)) == [NotStored], "at once"
    assert kinds(late) == [NotStored], "before that"
    assert one.journal.measures.waiting_bytes == 0
    publish(other, "seen")
    settle(cluster)
    one.link.connect()
    settle(cluster)
    assert one.journal.failure == ""
    assert kinds(publish_and_settle(cluster, one)) == [2]
    assert client.places["t"] == Place(cluster.engine.topics["t"].epoch, 2)
    assert not client.failed


def test_an_engine_that_refuses_something_is_asked_everything_all_the_same(cluster: Cluster) -> None:
    create(cluster)
    create(cluster, "u")
    one = cluster.servers[0]
    one.link.follower.failing("its memory is full", partly=True)
    cluster.now += WAIT
    settle(cluster)
    assert one.journal.failure == "its memory is full"
    given: list[Failure | None] = []
    one.broker.sync(given.append)
    settle(cluster)
    one.broker.delete_topic("t", given.append)
    settle(cluster)
    assert given == [None, None]
    one.link.disconnect("no route")
    settle(cluster)
    waiting = publish(one, "x", topic="u")
    settle(cluster)
    assert waiting.given == [], "only now it is away"


def publish_and_settle(cluster: Cluster, server: Server) -> Outcomes:
    outcomes = publish(server, "x")
    settle(cluster)
    return outcomes


def test_a_publish_that_was_asked_before_the_engine_went_away_is_done_once(cluster: Cluster) -> None:
    create(cluster)
    one = cluster.servers[0]
    outcomes = publish(one, 1)
    one.tick()
    one.link.step(one.link.outbound)  # the engine has it, and the outcome is lost
    one.link.disconnect()
    settle(cluster)
    assert outcomes.given == []
    one.link.connect()
    settle(cluster)
    assert outcomes.given == [1]
    assert cluster.engine.topics["t"].seq == 1


def test_an_engine_that_does_not_answer_is_told_and_its_late_outcomes_do_not_count(cluster: Cluster) -> None:
    create(cluster)
    one = cluster.servers[0]
    outcomes = publish(one, 1)
    one.tick()
    cluster.now += WAIT
    one.tick()
    assert kinds(outcomes) == [NotStored]
    assert "no answer" in one.journal.failure
    assert one.journal.measures.failures == 1
    settle(cluster)
    assert kinds(outcomes) == [NotStored]
    assert kinds(publish_and_settle(cluster, one)) == [2]
    assert one.journal.failure == ""


def test_outcomes_keep_their_order_if_a_withdrawal_lets_the_next_ones_through(cluster: Cluster) -> None:
    create(cluster)
    one = cluster.servers[0]
    outcomes = publish(one, 1)
    one.tick()
    cluster.now += 1
    one.broker.publish([message(2)], outcomes)
    one.tick()
    withdraw = one.link.withdraw

    def withdraw_and_go_on(outcomes: Any) -> None:
        withdraw(outcomes)
        one.link.pump()

    one.link.withdraw = withdraw_and_go_on  # type: ignore[method-assign]
    cluster.now += WAIT - 1
    settle(cluster)
    assert kinds(outcomes) == [NotStored, 2]


def test_too_many_bytes_that_wait_stop_the_publishers(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "WAITING_BYTES", 5000)
    create(cluster)
    one = cluster.servers[0]
    called: list[bool] = []
    publish(one, *range(5))
    assert not one.journal.full
    publish(one, *range(10))
    assert one.journal.full
    assert one.broker.call_when_writable(lambda: called.append(one.journal.full))
    assert called == []
    settle(cluster)
    assert called == [False]


# Freshness


def test_a_topic_that_another_server_made_a_moment_ago_is_known_after_a_sync(cluster: Cluster) -> None:
    one, other = cluster.servers
    one.broker.create_topic("t", TopicOptions(history=10))
    one.tick()
    one.link.pump()
    with pytest.raises(TopicNotFound):
        other.broker.topic("t")
    given: list[Failure | None] = []
    other.broker.sync(given.append)
    assert given == []
    settle(cluster)
    assert given == [None]
    assert other.broker.topic("t")


def test_without_the_engine_nobody_says_that_a_topic_does_not_exist(cluster: Cluster) -> None:
    one = cluster.servers[0]
    one.link.disconnect()
    given: list[Failure | None] = []
    one.broker.sync(given.append)
    settle(cluster)
    cluster.now += WAIT
    settle(cluster)
    one.broker.sync(given.append)
    assert len(given) == 1, "in a later step"
    settle(cluster)
    assert [type(each) for each in given] == [NotAnswered, NotAnswered]


def test_a_resume_waits_until_the_server_knows_as_much_as_the_client(cluster: Cluster) -> None:
    create(cluster)
    one, other = cluster.servers
    publish(one, *range(5))
    one.tick()
    one.link.pump()
    one.tick()
    assert (one.broker.topic("t").seq, other.broker.topic("t").seq) == (5, 0)
    epoch = one.broker.topic("t").epoch
    for name in ("t", ">"):
        client = subscribe(cluster, other, name, {"t": Place(epoch, 5)})
        assert client.joined
        assert client.places["t"] == Place(epoch, 5)
        assert client.got == []


def test_a_rule_creates_a_topic_that_another_server_creates_too(cluster: Cluster) -> None:
    one, other = cluster.servers
    for server in (one, other):
        Client(cluster, server, "used.1").subscribe(None)
    first, second = publish(one, 1, topic="used.1"), publish(other, 2, topic="used.1")
    settle(cluster)
    assert sorted(first.given + second.given, key=str) == [1, 2]
    assert one.broker.topic("used.1").epoch == other.broker.topic("used.1").epoch
    given: list[Failure | None] = []
    with pytest.raises(TopicExists):
        other.broker.create_topic("used.1", TopicOptions(), given.append)


def test_topics_are_not_known_before_the_engine_has_told_of_them() -> None:
    cluster = Cluster(seed=0, servers=1)
    (one,) = cluster.servers
    assert not one.broker.knows_topics
    settle(cluster)
    assert one.broker.knows_topics


def server_whose_questions_are_lost(cluster: Cluster) -> Server:
    """A server with 20 messages in a topic. No question of it reaches the engine."""
    create(cluster)
    one = cluster.servers[0]
    publish(one, *range(20))
    settle(cluster)
    one.link.reads = deque(maxlen=0)
    return one


def test_a_history_has_an_answer_in_time(cluster: Cluster) -> None:
    one = server_whose_questions_are_lost(cluster)
    given: list[Any] = []
    one.broker.history_after("t", 0, 10, given.append)
    one.broker.history_last("t", 15, given.append)
    one.broker.history_last("t", 1, given.append)
    settle(cluster)
    assert [event.seq for event in given.pop().events] == [20]
    cluster.now += WAIT
    settle(cluster)
    assert [type(each) for each in given] == [NotAnswered, NotAnswered]
    client = subscribe(cluster, one, resume={"t": Place(one.broker.topic("t").epoch, 1)})
    assert not client.failed
    cluster.now += WAIT
    settle(cluster)
    assert client.failed


def test_a_search_for_the_last_messages_that_match_has_an_answer_in_time(cluster: Cluster) -> None:
    one = server_whose_questions_are_lost(cluster)
    given: list[Any] = []
    even = one.broker.filters.compile("payload % 2 == 0")
    asked = Asked(Subscription("t", even), ALL_GRANTED, 15)
    one.broker.subscribe(asked, Client(cluster, one, "t").subscriber, given.append)
    settle(cluster)
    assert not given
    cluster.now += WAIT
    settle(cluster)
    assert [type(each) for each in given] == [NotAnswered]


# Holes and new epochs


def test_a_hole_is_read_and_what_is_gone_is_told(cluster: Cluster) -> None:
    create(cluster, history=3)
    one, other = cluster.servers
    client = subscribe(cluster, other)
    publish(one, *range(6))
    one.tick()
    one.link.step(one.link.outbound)
    other.link.inbound.clear()
    publish(one, 6)
    settle(cluster)
    assert [each.split()[:2] for each in client.got] == [["info", "dropped"]] + [["event", "t"]] * 3
    assert client.places["t"].seq == 7
    assert other.broker.topic("t").oldest == 5


def test_records_of_what_a_state_had_are_not_delivered_again(cluster: Cluster) -> None:
    create(cluster)
    one, other = cluster.servers
    client = subscribe(cluster, other)
    publish(one, "a", "b")
    settle(cluster)
    topic = cluster.engine.topics["t"]
    new = message("c").message
    events = [*topic.messages.values(), make_event("t", new, 3, "2026-01-01T00:00:00Z")]
    cluster.engine.truth.lives["t", topic.epoch][3] = new.id
    other.journal.apply(Appended("t", topic.epoch, events, 1, 3))
    other.journal.apply(Appended("t", "another epoch", [StoredEvent(9, events[0].text)], 1, 3))
    settle(cluster)
    assert [each.split()[-1] for each in client.got] == ["1", "2", "3"]


def test_a_lost_tail_begins_a_new_epoch_and_nobody_is_unsubscribed(cluster: Cluster) -> None:
    create(cluster)
    one, other = cluster.servers
    here, there = subscribe(cluster, one), subscribe(cluster, other, ">")
    publish(one, *range(5))
    settle(cluster)
    old = one.broker.topic("t").epoch
    cluster.engine.fail_over_with(2)
    for server in cluster.servers:
        server.link.connect()
    settle(cluster)
    publish(one, "new")
    settle(cluster)
    new = cluster.engine.topics["t"].epoch
    assert new != old
    for client in (here, there):
        assert client.got[-2:] == [f"info topic_created t {client.created['t']}", "event  t 4"]
        assert client.places["t"] == Place(new, 4)
        assert client.joined


def test_after_an_epoch_that_was_missed_a_topic_is_read_from_its_beginning(cluster: Cluster) -> None:
    """Nobody knows from where on its messages are others."""
    create(cluster)
    one, other = cluster.servers
    client = subscribe(cluster, one)
    publish(other, 1, 2, 3)
    settle(cluster)
    one.link.disconnect()
    settle(cluster)
    topic = cluster.engine.topics["t"]
    cluster.engine.lose_tail(topic, 1)
    cluster.engine.renew(topic)
    publish(other, "instead of 3", 4)
    settle(cluster)
    cluster.engine.renew(topic)
    client.got.clear()
    one.link.connect()
    settle(cluster)
    assert client.got == [f"info topic_created t {topic.epoch}", *[f"event  t {seq}" for seq in range(1, 5)]]
    assert client.places["t"] == Place(topic.epoch, 4)


def test_a_page_that_was_read_before_a_new_epoch_is_not_sent_in_it(cluster: Cluster) -> None:
    create(cluster)
    one, other = cluster.servers
    publish(one, *range(RING + 20))
    settle(cluster)
    topic = cluster.engine.topics["t"]
    held = other.link.held_reads = []
    client = subscribe(cluster, other, resume={"t": Place(topic.epoch, 0)})
    held.pop()()  # nothing is missing
    settle(cluster)
    assert (client.joined, len(held)) == (True, 1)
    other.link.held_reads = None
    cluster.engine.lose_tail(topic, RING + 15)
    cluster.engine.renew(topic)
    publish(one, *"instead")
    settle(cluster)
    held.pop()()
    settle(cluster)
    client.check_end()
    assert client.places["t"] == Place(topic.epoch, 5 + len("instead"))


def test_a_server_that_is_ahead_of_the_engine_has_it_begin_a_new_epoch(cluster: Cluster) -> None:
    create(cluster)
    one, other = cluster.servers
    publish(one, *range(5))
    settle(cluster)
    cluster.engine.lose_tail(cluster.engine.topics["t"], 2)
    other.link.tell_states()
    settle(cluster)
    topic = cluster.engine.topics["t"]
    assert topic.base == 3
    assert {(server.broker.topic("t").epoch, server.broker.topic("t").seq) for server in cluster.servers} == {
        (topic.epoch, 3)
    }


def test_a_message_that_ends_while_it_waits_is_not_sent_by_a_server_that_came_after_it(cluster: Cluster) -> None:
    """Only the message itself says that it ends."""
    create(cluster)
    one = cluster.servers[0]
    one.broker.publish([message("brief", ttl_sec=3.0), message("kept")], Outcomes())
    settle(cluster)
    late = Server(cluster, "late")
    cluster.servers.append(late)
    settle(cluster)
    held = late.link.held_reads = []
    client = subscribe(cluster, late, resume={"t": Place(late.broker.topic("t").epoch, 0)})
    held.pop()()  # nothing is missing
    settle(cluster)
    client.subscriber.block()
    held.pop()()
    settle(cluster)
    cluster.now += 4
    client.subscriber.unblock()
    settle(cluster)
    assert [each.split()[:2] for each in client.got] == [["info", "dropped"], ["event", "t"]]


# Many topics


def test_many_topics_come_and_go_in_slices() -> None:
    cluster = Cluster(seed=0, servers=1)
    (one,) = cluster.servers
    options, epoch = TopicOptions(history=100), "e"
    settle(cluster)
    for number in range(20_000):
        one.journal.apply(State(f"t.{number}", epoch, options, seq=number))
    synced: list[int] = []
    one.journal.synced({f"t.{number}" for number in range(20_000)}, lambda _: True)
    one.journal.sync(lambda _: synced.append(one.broker.topic_count))
    most, counted = 0, one.broker.topic_count
    assert counted <= ROOM
    while one.broker.topic_count < 20_000:
        one.tick()
        most, counted = max(most, one.broker.topic_count - counted), one.broker.topic_count
    assert most <= ROOM
    settle(cluster)
    assert synced == [20_000], "it comes after all of them"
    one.journal.synced(set(), lambda _: True)
    most, counted = 0, one.broker.topic_count
    assert counted >= 20_000 - ROOM
    while one.broker.topic_count:
        one.tick()
        most, counted = max(most, counted - one.broker.topic_count), one.broker.topic_count
    assert most <= ROOM


# Messages among the servers


def test_what_a_server_tells_reaches_all_in_its_order(cluster: Cluster) -> None:
    heard: list[tuple[str, str, bytes]] = []
    for server in cluster.servers:
        name = server.journal.server
        server.journal.hear("greeting", lambda *told, name=name: heard.append((name, *told)))
    cluster.servers[0].journal.tell("greeting", b"a")
    cluster.servers[0].journal.tell("nobody hears it", b"")
    cluster.servers[0].journal.tell("greeting", b"b")
    settle(cluster)
    assert sorted(heard) == [("s0", "s0", b"a"), ("s0", "s0", b"b"), ("s1", "s0", b"a"), ("s1", "s0", b"b")]


def test_row_65_large_messages_of_other_servers_take_a_tick_each(cluster: Cluster) -> None:
    """Small ones do not: several counts of clients come in one, and each takes 4 µs."""
    server = cluster.servers[0]
    heard: list[int] = []
    server.journal.hear("counts", lambda _, data: heard.append(len(data)))
    for size in (100, 100, 20_000, 20_000, 100):
        server.journal.apply(Told("s9", "counts", b"x" * size))
    assert heard == [100, 100, 20_000]
    server.tick()
    assert heard[3:] == [20_000]
    server.tick()
    assert heard[4:] == [100]


def test_a_list_has_one_outcome(cluster: Cluster) -> None:
    create(cluster, dedup_sec=60)
    one, other = cluster.servers
    same = message("a")
    given: list[Any] = []
    one.broker.publish_all("t", [same, message("b")], "", given.append)
    other.broker.publish_all("t", [message("c"), same], "", given.append)
    settle(cluster)
    assert given == [
        [Assignment(1, duplicate=False), Assignment(2, duplicate=False)],
        [Assignment(3, duplicate=False), Assignment(1, duplicate=True)],
    ]
