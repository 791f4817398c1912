"""A world of simulated clients: the client's own rules against the real server, in random order, by a seed.

The seed chooses when bytes arrive and where a connection is cut, when the server is killed, drained and started, what
users do and how fast they read. Readings and Calls check what the users are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random
from typing import ClassVar

from kinds import FILTERS, KINDS
from msgspec import Raw
from oracle import Broken, Json
from reading import Place

from pubsub.protocol.errors import Failure, TopicNotFound
from pubsub.protocol.patterns import covers
from pubsub.protocol.requests import Message, Publish, TopicOptions
from tests.client.simulated_client import Driver, SimulatedClient, SimulatedSubscription
from tests.client.simulated_disk import Disk
from tests.client.simulated_link import Link
from tests.client.simulated_python import PythonDriver
from tests.client.simulated_server import RING, Life
from tests.client.truth import Truth
from tests.doubles import NoPublisher
from tests.simulation import Loop

CLIENTS = 4
DEDUP_SEC = 100_000.0
SETTLE_ROUNDS = 200
STEP_SEC = 1.0


class World:
    """See the module. Raises Broken or AssertionError if an invariant is broken. ``trace`` gets each step as text."""

    OPTIONS: ClassVar = {
        "a": TopicOptions(overflow="drop_newest", dedup_sec=DEDUP_SEC),
        "b": TopicOptions(durable=True, history=2 * RING, dedup_sec=DEDUP_SEC),
        "c": TopicOptions(overflow="latest"),
        "a.b": TopicOptions(durable=True, history=10 * RING),
        "a.c": TopicOptions(ttl_sec=4, dedup_sec=DEDUP_SEC),
        "d.d": TopicOptions(durable=True, history=RING // 2, ttl_sec=6, overflow="disconnect"),
    }
    TOKEN_SEC: ClassVar = 15.0
    TOPICS: ClassVar = tuple(OPTIONS)
    NAMES: ClassVar = (*TOPICS, *TOPICS, "a.*", "*.*", "*", ">")

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.trace = trace
        self._seed = seed
        self.random = Random(seed)
        self.loop = Loop(self.random)
        self.guarded = seed % 4 == 3
        self.rate = 5.0 if seed % 8 == 5 else 0.0
        self.truth = Truth(self._keeps)
        self.disk = Disk(self.truth.note)
        self.life: Life | None = None
        self.clients: list[SimulatedClient] = []
        self.gone: list[Link] = []  # links that only the server still knows
        self._epochs = (f"e{number}" for number in range(1_000_000))
        self._born = 0
        self._published = 0
        self._chosen: list[tuple[Callable[[], None], int]] = [
            (self._move, 120),
            (self.loop.end_tick, 60),
            (self._take, 40),
            (self._publish, 10),
            (self._publish_foreign, 6),
            (self._subscribe, 6),
            (self._unsubscribe, 1),
            (self._reload, 1),
            (self._come_or_go, 2),
            (self._go_on_elsewhere, 1),
            (self._connect_links, 20),
            (self._cut, 2),
            (self._start_or_end_server, 4),
            (self._change_topics, 2),
            (self._pass_time, 6),
        ]
        self._start()

    # The run

    def live(self, steps: Iterable[int]) -> None:
        """Take the steps with these numbers. Each has a seed of its own, so that others can be left out."""
        actions, weights = zip(*self._chosen, strict=True)
        for number in steps:
            self.random.seed(self._seed << 32 | number)
            (action,) = self.random.choices(actions, weights)
            self.note("step", f"{number} {action.__name__}")
            action()

    def note(self, who: str, what: str) -> None:
        if self.trace is not None:
            self.trace(f"{self.loop.time():8.2f} {who}: {what}")

    def settle(self) -> None:
        """Let everything work, and wait: then every subscription has everything, and every publish its outcome."""
        self.random.seed(self._seed)
        self._finish_drain()
        if self.life is None:
            self._start()
        self._create_all()
        for _ in range(SETTLE_ROUNDS):
            self._run_out()
            if not (behind := self._behind()):
                break
            self._pass(STEP_SEC * self.random.choice([0.2, 1, 1]))
        else:
            raise Broken(f"never came: {behind[:3]}")
        for client in self.clients:
            client.check()

    def end(self) -> None:
        """Close all clients, and check that nothing of them remains."""
        for client in self.clients:
            client.close()
        for _ in range(10):
            self._run_out()
            self._pass(2)
        for client in self.clients:
            client.check_end()
        for link in self.gone:
            link.vanish()
        self._run_out()
        assert self.life is not None
        assert not self.life.peers
        assert self.life.broker.subscriber_count == 0

    def _run_out(self) -> None:
        """Deliver everything that is under way, until nothing moves."""
        for _ in range(1000):
            self.loop.run_out()
            self._connect_all()
            for client in self.clients:
                client.move_up(1 << 20)
                client.move_down(1 << 20)
                client.take_all()
            self.loop.run_out()
            if all(client.is_quiet for client in self.clients):
                return
        raise Broken(f"it never comes to rest: {[each.name for each in self.clients if not each.is_quiet]}")

    def _behind(self) -> list[str]:
        assert self.life is not None
        lives = {topic.name: topic.epoch for topic in self.life.broker.topics}
        return [each for client in self.clients for each in client.behind(lives)]

    def _keeps(self, place: Place) -> bool:
        stored = self.disk.topics.get(place.topic)
        if stored is not None:
            return stored.epoch == place.epoch and stored.keeps(place.seq, self.loop.time())
        return self.life is not None and self.life.keeps(*place)

    # Clients

    def _client(self) -> SimulatedClient | None:
        return self.random.choice(self.clients) if self.clients else None

    def token(self, client_id: str) -> str:
        return f"{client_id}/{self.loop.time() + self.TOKEN_SEC}"

    def _come_or_go(self) -> None:
        if self.clients and self.random.random() < 0.3:
            self._leave(self.clients.pop(self.random.randrange(len(self.clients))))
        elif len(self.clients) < CLIENTS:
            self._arrive()
            self._subscribe()

    def _start_driver(self, client: SimulatedClient) -> Driver:
        return PythonDriver(client, self.random.getrandbits(32))

    def _leave(self, client: SimulatedClient) -> None:
        client.close()
        client.check_end()

    def _arrive(self) -> SimulatedClient:
        self._born += 1
        client = SimulatedClient(self, f"client-{self._born}", self._start_driver)
        self.clients.append(client)
        client.driver.start()
        return client

    def _subscribe(self) -> None:
        client = self._client()
        if client is None or len(client.subscriptions) > 2:
            return
        chosen = self.random.choice([{}, {}, *FILTERS])
        options: Json = {"last_n": self.random.choice([0, 0, 0, 3, 20])}
        for option, value in (("echo", False), ("mend", False), ("notices", True)):
            if self.random.random() < 0.15:
                options[option] = value
        client.subscribe(self.random.choice(self.NAMES), chosen, options)

    def _unsubscribe(self) -> None:
        client = self._client()
        if client is not None and client.subscriptions:
            client.unsubscribe(self.random.choice(client.subscriptions))

    def _reload(self) -> None:
        """Forget what waits: the user has it from elsewhere."""
        client = self._client()
        if client is not None and client.subscriptions:
            client.reload(self.random.choice(client.subscriptions))

    def _go_on_elsewhere(self) -> None:
        """Close a client, and go on from an exported position of it with a new one."""
        candidates = [(client, each) for client in self.clients for each in client.subscriptions if each.is_begun]
        if not candidates:
            return
        client, subscription = self.random.choice(candidates)
        exported = subscription.positions
        if self.random.random() < 0.7:
            self.clients.remove(client)
            self._leave(client)
        if len(self.clients) < CLIENTS:
            self._arrive().resume(subscription, exported)

    def _take(self) -> None:
        client = self._client()
        if client is not None and client.subscriptions:
            subscription: SimulatedSubscription = self.random.choice(client.subscriptions)
            for _ in range(self.random.choice([1, 1, 3, 20])):
                subscription.take()

    def _publish(self) -> None:
        if (client := self._client()) is None:
            return
        topic = self.random.choice(self.TOPICS)
        options: Json = {}
        if self.random.random() < 0.1:
            options["ttl_sec"] = self.random.choice([1.0, 5.0])
        if self.random.random() < 0.1:
            options["expect_seq"] = max(0, self._seq_of(topic) + self.random.choice([0, 0, 0, 1, -1]))
        for _ in range(self.random.choice([1, 1, 4])):
            client.publish(topic, self.new_message(), options)
        if self.random.random() < 0.05:
            client.cancel_a_publish()

    def _seq_of(self, topic: str) -> int:
        lives = self.truth.lives.get(topic)
        return self.truth.record.last(topic, lives[-1]) if lives else 0

    def new_message(self) -> Json:
        self._published += 1
        padding = "x" * self.random.choice([0, 100, 900])
        message_id = f"{self._published:08x}-0000-4000-8000-000000000000"
        return {"id": message_id, "payload": {"kind": self.random.choice(KINDS), "padding": padding}}

    # The network

    def _move(self) -> None:
        if (client := self._client()) is not None:
            move = self.random.choice([client.move_up, client.move_down])
            move(self.random.choice([1, 30, 300, 3000, 30_000]))

    def _connect_links(self) -> None:
        if (client := self._client()) is not None:
            client.connect(self._accepting())

    def _connect_all(self) -> None:
        for client in self.clients:
            client.connect(self._accepting())

    def _accepting(self) -> Life | None:
        return self.life if self.life is not None and not self.life.draining else None

    def _cut(self) -> None:
        client = self._client()
        match self.random.randrange(5):
            case 0 if client is not None:
                for link in client.links.values():
                    link.silent = True
            case 1 if self.gone:
                self.gone.pop().vanish()
            case _ if client is not None:
                client.cut(server_notices=self.random.random() < 0.7)

    # The server

    def _start(self) -> None:
        self.note("server", "starts")
        self.life = Life(
            self.loop, self.random, self.truth, self.disk, lambda: next(self._epochs),
            guarded=self.guarded, rate=self.rate,
        )  # fmt: skip
        if self.random.random() < 0.7:
            self._create_all()

    def _start_or_end_server(self) -> None:
        life = self.life
        if life is None:
            self._start()
        elif life.draining:
            self._finish_drain()
        elif self.random.random() < 0.1:
            self.note("server", "drains")
            life.drain()
        elif self.random.random() < 0.1:
            self.note("server", "is killed")
            life.kill()
            self._lose_life()
            if self.random.random() < 0.1:
                self.disk.topics.clear()

    def _finish_drain(self) -> None:
        if self.life is not None and self.life.draining:
            for _ in range(50):
                if self.life.is_drained:
                    break
                self.loop.end_tick()
                for client in self.clients:
                    client.move_down(10_000)
            self.life.end()
            self._lose_life()

    def _lose_life(self) -> None:
        """All connections to the server end; some clients notice that only by its silence."""
        for client in self.clients:
            if self.random.random() < 0.2:
                for link in client.links.values():
                    link.silent = True
            else:
                client.cut(server_notices=False)
        self.gone = [link for link in self.gone if link.life is not self.life]
        self.life = None

    def _publish_foreign(self) -> None:
        """Publish without a client, often more than the queues and the rings can take."""
        if self.life is None:
            return
        topic = self.random.choice(self.TOPICS)
        for _ in range(self.random.choice([1, 1, 3, 12, 30])):
            message = self.new_message()
            request = Publish(topic=topic, message=Message(message["id"], Raw(_encoded(message["payload"]))))
            try:
                self.life.broker.publish([request], NoPublisher())
            except TopicNotFound:
                return

    def _create_all(self) -> None:
        for topic in self.TOPICS:
            self._create(topic)

    def _create(self, topic: str) -> None:
        assert self.life is not None
        with suppress(Failure):
            self.life.broker.create_topic(topic, self.OPTIONS[topic])

    def _change_topics(self) -> None:
        if self.life is None or self.life.draining:
            return
        topic = self.random.choice(self.TOPICS)
        with suppress(TopicNotFound):
            match self.random.randrange(5):
                case 0:
                    self.note("server", f"deletes {topic}")
                    self.truth.deleted.add((topic, self.life.broker.topic(topic).epoch))
                    self.life.broker.delete_topic(topic)
                case 1:
                    self.note("server", f"purges {topic}")
                    self.life.broker.purge(topic, lambda count: None)
                case _:
                    self._create(topic)

    def _pass_time(self) -> None:
        self._pass(self.random.choice([0.01, 0.1, 0.1, 0.5, 2, 5]))

    def _pass(self, seconds: float) -> None:
        self.loop.pass_time(seconds)
        self._tick()

    def _tick(self) -> None:
        """Let clients notice that time has passed, whose clock is another one."""


def _encoded(payload: Json) -> bytes:
    return f'{{"kind":{payload["kind"]},"padding":"{payload["padding"]}"}}'.encode()


assert all(covers(">", topic) for topic in World.TOPICS)
