"""Topics that nobody uses are deleted in time, never too early, in slices, and nothing of them stays."""

from __future__ import annotations

import gc
import sys
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pubsub.core.idle import CHECKED, DELETING, TICK
from pubsub.core.topic import Topic
from pubsub.protocol.answers import TopicRule
from pubsub.protocol.errors import NotStored
from pubsub.protocol.requests import TopicOptions
from tests.core.held import WaitingClient
from tests.core.test_broker import RING, Client
from tests.core.timed import TimedBroker
from tests.harness import nothing_left

DELAY = 10.0
LATE = 0.5  # seconds, beyond 1.5 times the delay
RULES = (
    TopicRule(pattern="stays.*", create=True),
    TopicRule(pattern="durable.*", create=True, delete_idle_sec=DELAY, options={"durable": True}),
    TopicRule(pattern=">", create=True, delete_idle_sec=DELAY),
)


class World(TimedBroker):
    """A Broker with rules."""

    def __init__(self, *rules: TopicRule) -> None:
        super().__init__(rules or RULES)

    def connect(self) -> WaitingClient:
        return WaitingClient(self.broker, "c")

    def pass_time(self, seconds: float, step: float = TICK) -> None:
        """Move the clock, and run what is due on the way."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + step, end)
            self.run_timers()
            self.settle()

    def run_timers(self) -> None:
        due = [callback for moment, callback in self.timers if moment <= self.now]
        self.timers = [(moment, callback) for moment, callback in self.timers if moment > self.now]
        for callback in due:
            callback()

    @property
    def names(self) -> list[str]:
        return [topic.name for topic in self.broker.topics]


def test_a_topic_goes_between_one_and_one_and_a_half_times_the_delay_after_its_last_use() -> None:
    world = World()
    world.broker.create_topic("a")
    world.pass_time(DELAY - TICK)
    assert world.names == ["a"]
    world.pass_time(DELAY / 2 + LATE)
    assert world.names == []


def test_a_topic_without_such_a_rule_stays_and_there_is_no_timer() -> None:
    world = World()
    world.broker.create_topic("stays.a")
    assert world.timers == []
    world.pass_time(10 * DELAY)
    assert world.names == ["stays.a"]


def test_there_is_one_timer_as_long_as_there_are_topics() -> None:
    world = World()
    for number in range(3):
        world.broker.create_topic(f"a.{number}")
        assert len(world.timers) == 1
        world.pass_time(1)
    for number in range(3):
        world.broker.delete_topic(f"a.{number}")
    world.pass_time(2 * TICK)
    assert world.timers == []
    world.broker.create_topic("a")
    world.pass_time(2 * DELAY)
    assert (world.names, world.timers) == ([], [])


Use = tuple[float, str]
uses = st.lists(
    st.tuples(st.floats(0, 0.9), st.sampled_from(["publish", "come", "go", "come and go", "come and go by pattern"])),
    max_size=12,
)


@given(uses, st.floats(0, 1), st.sampled_from([TICK, 0.13, 1.0]))
def test_any_use_counts_and_nothing_else(chosen: list[Use], phase: float, step: float) -> None:
    """Times are parts of the delay. The last use is a publish, or the end of the last subscription."""
    world = World()
    client = world.connect()
    world.pass_time(phase, step)
    client.publish("a")
    last = world.now
    subscribed = False
    for pause, use in chosen:
        world.pass_time(pause * DELAY, step)
        assert world.names == ["a"], "too early"
        match use:
            case "come":
                client.ask(type="subscribe", topic="a")
                subscribed = True
            case "come and go":
                client.ask(type="subscribe", topic="a")
                subscribed = end_subscription(client)
            case "come and go by pattern":
                client.ask(type="subscribe", topic="*")
                client.ask(type="unsubscribe", topic="*")
            case "go" if subscribed:
                subscribed = end_subscription(client)
            case _:
                client.publish("a")
        last = world.now
    if subscribed:
        world.pass_time(3 * DELAY, step)
        assert world.names == ["a"], "it has a subscriber"
        end_subscription(client)
        last = world.now
    world.pass_time(last + DELAY - step - world.now, step)
    assert world.names == ["a"], "too early"
    world.pass_time(1.5 * DELAY + LATE + 3 * step - (world.now - last), step)
    assert world.names == [], "too late"


def end_subscription(client: Client) -> bool:
    client.ask(type="unsubscribe", topic="a")
    return False


def test_reading_is_no_use() -> None:
    world = World()
    client = world.connect()
    client.publish("a")
    while world.names:
        client.ask(type="history", topic="a", last_n=1)
        world.pass_time(1)
        assert world.now < 1000 + 2 * DELAY


def test_a_subscriber_by_pattern_is_a_subscriber() -> None:
    world = World()
    client, publisher = world.connect(), world.connect()
    client.send("subscribe", "a.*")
    publisher.send_publish("a.1")
    world.pass_time(3 * DELAY)
    assert world.names == ["a.1"]
    client.send("unsubscribe", "a.*")
    world.pass_time(DELAY - TICK)
    assert world.names == ["a.1"]
    world.pass_time(DELAY / 2 + LATE)
    assert world.names == []


def test_what_was_deleted_by_request_is_forgotten_at_once() -> None:
    world = World()
    for _ in range(3):
        world.broker.create_topic("a")
        world.pass_time(DELAY - 1)
        world.broker.delete_topic("a")
    world.broker.create_topic("a")
    world.pass_time(DELAY - 1)
    assert world.names == ["a"], "the time of an earlier topic of that name does not count"


def test_a_deleted_topic_does_not_stay_in_memory_until_its_next_check() -> None:
    world = World()
    with nothing_left(Topic):
        world.broker.create_topic("a")
        world.broker.delete_topic("a")


def test_a_subscriber_whose_start_comes_later_is_not_too_late() -> None:
    world = World()
    client = world.connect()
    world.broker.create_topic("durable.a", TopicOptions(durable=True, history=100))
    for _ in range(RING + 2):
        client.send_publish("durable.a")
    world.journal.end()
    world.pass_time(1.5 * DELAY - TICK)
    assert world.names == ["durable.a"]
    client.answers()
    client.send("subscribe", "durable.a", resume={"durable.a": {"epoch": "e", "seq": 1}})
    world.pass_time(1)
    world.journal.end()
    assert [answer["type"] for answer in client.answers()] == ["ack"]
    assert world.names == ["durable.a"]


def test_the_next_use_creates_the_topic_again_while_the_disk_still_has_it() -> None:
    world = World()
    client = world.connect()
    world.broker.create_topic("durable.a", TopicOptions(durable=True))
    world.journal.end()
    world.pass_time(1.5 * DELAY + LATE)
    assert (world.names, world.journal.waiting) == ([], 1)
    client.send_publish("durable.a", 1)
    client.send_publish("durable.a", 2)
    world.journal.end()
    assert [ack["seq"] for ack in client.answers()] == [1, 2]
    assert world.names == ["durable.a"]


def test_a_publish_that_waits_for_the_disk_is_a_use() -> None:
    world = World()
    client = world.connect()
    world.broker.create_topic("durable.a", TopicOptions(durable=True))
    world.journal.end()
    client.send_publish("durable.a", 1)
    world.pass_time(3 * DELAY)
    assert world.names == ["durable.a"]
    world.journal.end()
    world.pass_time(DELAY - TICK)
    assert world.names == ["durable.a"]
    world.pass_time(DELAY / 2 + LATE)
    assert world.names == []


def test_a_deletion_that_fails_leaves_the_topic_and_is_tried_again() -> None:
    world = World()
    client = world.connect()
    world.broker.create_topic("durable.a", TopicOptions(durable=True))
    client.send_publish("durable.a", 1)
    world.journal.end()
    world.pass_time(1.5 * DELAY + LATE)
    assert world.names == []
    client.send_publish("durable.a", 2)  # creates it again, which fails too
    world.journal.end(failure=NotStored())
    assert world.names == ["durable.a"]
    assert client.answers()[-1]["error"]["code"] == "INTERNAL"
    client.send_publish("durable.a", 3)
    world.journal.end()
    assert client.answers()[-1]["seq"] == 2
    world.pass_time(1.5 * DELAY + LATE)
    world.journal.end()
    assert (world.names, world.journal.names) == ([], set())


def test_a_topic_stays_if_its_journal_has_a_message_that_is_not_here_yet() -> None:
    """Another server has published it just now, and it was acknowledged."""
    world = World()
    world.broker.create_topic("durable.a", TopicOptions(durable=True))
    world.journal.end()
    log: Any = world.broker.topic("durable.a").log
    world.pass_time(1.5 * DELAY + LATE)
    assert world.names == []
    log.take_in_elsewhere()
    world.journal.end()
    assert (world.names, world.journal.names) == (["durable.a"], {"durable.a"})


def test_a_use_counts_for_other_servers_although_this_one_has_checked_just_now() -> None:
    world = World()
    world.broker.create_topic("a")
    topic, used = world.broker.topic("a"), world.broker.idle.is_used
    topic.uses += 1
    world.pass_time(DELAY / 2 + LATE)
    for _ in range(9):
        assert used(topic)
        world.pass_time(DELAY / 20)
    world.pass_time(DELAY / 10)
    assert world.names == ["a"]
    assert not used(topic)


def test_a_server_that_only_asks_again_later_has_seen_no_use() -> None:
    """One of several servers deletes; the others wait for that, as if the topic was used."""
    world = World()
    world.broker.idle.others = lambda topic, then: then(True)
    world.broker.create_topic("a")
    world.pass_time(DELAY + LATE)
    assert not world.broker.idle.is_used(world.broker.topic("a"))


def test_a_topic_that_is_deleted_by_request_meanwhile_does_not_come_again() -> None:
    world = World()
    world.broker.create_topic("durable.a", TopicOptions(durable=True))
    world.journal.end()
    world.pass_time(DELAY - 1)
    ended: list[Any] = []
    world.broker.delete_topic("durable.a", ended.append)
    world.pass_time(1 + LATE)
    world.journal.end()
    assert (world.names, ended) == ([], [None])


def test_the_search_is_made_in_slices() -> None:
    world = World()
    count = 10 * CHECKED
    for number in range(count):
        world.broker.create_topic(f"a.{number}")
    world.now += DELAY / 2 + TICK
    world.run_timers()  # the first check, of all: it finds what it has seen at the creation
    world.settle()
    world.now += DELAY / 2 + TICK
    world.run_timers()
    left = [count]
    while world.ticks.deferred:
        world.ticks.end()
        left.append(world.broker.topic_count)
    assert left[-1] == 0
    assert max(before - after for before, after in pairwise(left)) == CHECKED


def test_few_deletions_wait_for_the_disk_at_a_time() -> None:
    world = World()
    count = 5 * DELETING
    for number in range(count):
        world.broker.create_topic(f"durable.{number}", TopicOptions(durable=True))
    world.journal.end()
    world.pass_time(1.5 * DELAY + LATE)
    for _ in range(5):
        assert world.journal.waiting == DELETING
        world.journal.end()
        world.settle()
    assert (world.names, world.journal.waiting, world.journal.names) == ([], 0, set())


def test_nothing_is_deleted_once_the_server_shuts_down() -> None:
    world = World()
    world.broker.create_topic("a")
    world.pass_time(1)
    world.broker.idle.stop()
    world.broker.create_topic("b")
    world.pass_time(3 * DELAY)
    assert (world.names, world.timers) == (["a", "b"], [])


def test_thousands_of_rooms_leave_nothing_behind() -> None:
    """Without the collector of cycles: it is rare in a server, and an object that waits for it is as good as lost."""
    world = World()
    client = world.connect()
    visit_rooms(world, client, 0)
    visit_rooms(world, client, 1)
    gc.collect()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        for wave in range(2, 12):
            visit_rooms(world, client, wave)
        assert sys.getallocatedblocks() - before < ROOMS
    finally:
        gc.enable()


ROOMS = 1000


def visit_rooms(world: World, client: WaitingClient, wave: int) -> None:
    """Create many rooms by publishes and subscriptions, leave them, and let them be deleted, in each way."""
    for number in range(ROOMS):
        room = f"room.{wave}.{number}"
        if number % 8 == 0:
            client.send("subscribe", room)
        client.send_publish(room)
        if number % 8 == 0:
            client.send("unsubscribe", room)
    world.settle()
    client.answers()
    assert world.broker.topic_count == ROOMS
    if wave % 2:
        for name in world.names:
            world.broker.delete_topic(name)
    else:
        world.pass_time(1.5 * DELAY + LATE, step=1.0)
    assert world.broker.topic_count == 0
