"""A session by itself, with a real Broker: its answers, their order, its pauses, and the rights of its client."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import pytest
from msgspec import UNSET, Raw, UnsetType

from pubsub.auth.identity import Identity
from pubsub.auth.permissions import make_rights
from pubsub.auth.quotas import Quotas
from pubsub.auth.rates import Rates
from pubsub.core.backlog import OutboxOptions
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent, make_event
from pubsub.core.journal import Host, StoredTopic
from pubsub.core.lane import Subscriber
from pubsub.core.log import Assigned, Done, Found, Publisher, Purged
from pubsub.core.topic import Topic
from pubsub.journals.memory import NO_COMMITS, MemoryJournal
from pubsub.protocol.errors import CloseReason, Failure, NotStored, Unauthorized
from pubsub.protocol.requests import Message, Publish, TopicOptions
from pubsub.websocket import outcomes
from pubsub.websocket.replies import PauseReason
from pubsub.websocket.rules import NO_RULES, ClientRules
from pubsub.websocket.session import Session
from tests.doubles import Sink
from tests.harness import messages_in, new_id

ID = "550e8400-e29b-41d4-a716-446655440000"
RING = 5


class SlowLog:
    """A topic's log (TopicLog) whose publishes and reads end when a test says so, each in its order."""

    topic: Topic
    appending = False

    def __init__(self, name: str, host: Host) -> None:
        self._name = name
        self._host = host
        self._seq = 0
        self._publishes: list[tuple[Publish, Publisher]] = []
        self.reads: list[Found] = []
        self.searches: list[Callable[[bool | Failure], None]] = []

    def append(self, requests: Sequence[Publish], publisher: Publisher) -> None:
        self._publishes += [(request, publisher) for request in requests]
        publisher.wait(requests)

    def append_all(self, requests: Sequence[Publish], client_id: str, done: Assigned) -> NoReturn:
        raise AssertionError("a session publishes one message at a time")

    def purge(self, done: Purged) -> NoReturn:
        raise AssertionError("a session purges nothing")

    def commit(self, count: int = 1) -> None:
        for _ in range(count):
            request, publisher = self._publishes.pop(0)
            self._seq += 1
            self._host.deliver(self.topic, [make_event(self._name, request.message, self._seq, "now")])
            publisher.published([request], self._seq, "now")

    def refuse(self) -> None:
        request, publisher = self._publishes.pop(0)
        publisher.refused(request, NotStored())

    def read(self, after: int, until: int, limit: int, done: Found) -> None:
        self.reads.append(done)

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        self.searches.append(done)

    def delete(self, done: Done, expect_seq: int | UnsetType = UNSET) -> None:
        self._host.remove_topic(self.topic)
        done(None)


class SlowJournal:
    """A journal of durable topics (Journal) with a SlowLog each."""

    failure = ""
    measures = NO_COMMITS

    def __init__(self) -> None:
        self.full = False
        self.logs: dict[str, SlowLog] = {}
        self.when_writable: list[Callable[[], None]] = []
        self._host: Host

    def attach(self, host: Host) -> None:
        self._host = host

    def restore(self) -> None:
        pass

    def create(self, name: str, options: TopicOptions, done: Done) -> SlowLog:
        log = self.logs[name] = SlowLog(name, self._host)
        log.topic = self._host.add_topic(StoredTopic(name, "e", options, log, first=1))
        done(None)
        return log

    def call_when_writable(self, callback: Callable[[], None]) -> None:
        self.when_writable.append(callback)

    def call_after(self, callback: Callable[[], None]) -> None:
        callback()

    def close(self) -> None:
        pass


class Client:
    """A session and all that it does to its connection (Replies). ``told``: replies and events, as they are sent."""

    def __init__(
        self, world: World, *, client_id: str = "alice", named: bool = True, rules: ClientRules = NO_RULES
    ) -> None:
        self.told: list[Any] = []
        self.paused: list[PauseReason] = []
        self.identities: list[Identity] = []
        self.closed: list[CloseReason] = []
        self._waiting: list[Any] = []  # replies until the flush
        clock = Clock(lambda: 0, lambda: world.now)
        self.subscriber = Subscriber(Sink(self._write), OutboxOptions(10, clock, world.broker.turns.take))
        self.session = Session(
            world.broker, self.subscriber, self, clock, client_id=client_id, named=named, rules=rules
        )

    def _write(self, frames: bytes) -> None:
        self.told += messages_in(frames)

    def reply(self, text: bytes) -> None:
        self._waiting.append(json.loads(text))

    def reply_all(self, texts: Sequence[bytes]) -> None:
        self._waiting += map(json.loads, texts)

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.told += waiting

    def pause(self, reason: PauseReason) -> None:
        self.paused.append(reason)

    def resume(self, reason: PauseReason) -> None:
        self.paused.remove(reason)

    def identify(self, identity: Identity) -> None:
        self.identities.append(identity)

    def close(self, reason: CloseReason) -> None:
        self.closed.append(reason)

    def send(self, **request: Any) -> bool:
        return self.session.receive(json.dumps(request))

    def take(self) -> list[Any]:
        self.flush()
        told, self.told = self.told, []
        return told

    def ask(self, **request: Any) -> Any:
        """Send a request; its only answer."""
        self.send(**request)
        (answer,) = self.take()
        return answer

    def publish(self, topic: str = "t", **options: Any) -> bool:
        return self.send(type="publish", topic=topic, message={"id": new_id(), "payload": 1}, **options)

    def subscribe(self, topic: str = "t", **options: Any) -> None:
        self.send(type="subscribe", topic=topic, client_id="alice", **options)


class World:
    """A Broker with the topics ``t`` and ``u`` in memory and ``d`` in a slow journal."""

    def __init__(self) -> None:
        self.now = 0.0
        self.journal = SlowJournal()
        self._deferred: list[Callable[[], object]] = []
        clock = Clock(lambda: 0, lambda: self.now)
        self.broker = Broker(
            defer=self._deferred.append,
            clock=clock,
            memory=MemoryJournal(clock, lambda: "e"),
            ring_size=RING,
            make_durable=lambda: self.journal,
        )
        for name in ("t", "u"):
            self.broker.create_topic(name)
        self.broker.create_topic("d", TopicOptions(durable=True, history=100, ttl_sec=3600))
        self.log = self.journal.logs["d"]

    def end_tick(self) -> None:
        while self._deferred:
            self._deferred.pop(0)()


@pytest.fixture
def world() -> World:
    return World()


def kinds(told: list[Any]) -> list[Any]:
    return [message.get("request_id") or message.get("seq") or message["type"] for message in told]


def code(answer: Any) -> Any:
    return answer["error"]["code"]


# Answers


def test_each_kind_of_request_has_its_answer(world: World) -> None:
    client = Client(world)
    assert client.ask(type="ping", request_id="1") == {"type": "pong", "request_id": "1", "ts": "1970-01-01T00:00:00Z"}
    ack = client.ask(type="subscribe", topic="t", client_id="alice", request_id="2")
    assert (
        ack.items() >= {"type": "ack", "request_id": "2", "topic": "t", "status": "ok", "epoch": "e", "seq": 0}.items()
    )
    client.publish(request_id="3")
    (ack,) = client.take()
    assert ack.items() >= {"type": "ack", "request_id": "3", "topic": "t", "status": "ok", "seq": 1}.items()
    world.end_tick()
    (event,) = client.take()
    assert (event["type"], event["topic"], event["seq"]) == ("event", "t", 1)
    history = client.ask(type="history", topic="t", last_n=5, request_id="4")
    assert (history["type"], history["request_id"], history["complete"]) == ("history", "4", True)
    assert history["messages"] == [event]
    ack = client.ask(type="unsubscribe", topic="t", client_id="alice", request_id="5")
    assert ack.items() >= {"type": "ack", "request_id": "5", "topic": "t", "status": "ok"}.items()
    assert client.subscriber.subscriptions == []


def test_only_a_publish_that_is_accepted_is_cheap(world: World) -> None:
    client = Client(world)
    assert client.publish() is False
    assert client.publish("nowhere") is True
    assert client.send(type="ping") is True
    assert client.session.receive("nonsense") is True


@pytest.mark.parametrize(
    ("text", "error", "request_id"),
    [
        ("nonsense", "BAD_REQUEST", None),
        ('{"type":"nonsense","request_id":"r"}', "BAD_REQUEST", "r"),
        ('{"type":"subscribe","topic":"nowhere","client_id":"a","request_id":"r"}', "TOPIC_NOT_FOUND", "r"),
        ('{"type":"history","topic":"a..b","last_n":1,"request_id":"r"}', "BAD_REQUEST", "r"),
        ('{"type":"auth","token":"x","request_id":"r"}', "BAD_REQUEST", "r"),
    ],
)
def test_a_request_that_can_not_be_served_is_an_error_and_the_session_goes_on(
    world: World, text: str, error: str, request_id: str | None
) -> None:
    client = Client(world)
    assert client.session.receive(text) is True
    (answer,) = client.take()
    assert (answer["type"], code(answer), answer.get("request_id")) == ("error", error, request_id)
    assert client.closed == []
    assert client.ask(type="ping")["type"] == "pong"


def test_a_binary_message_is_refused(world: World) -> None:
    client = Client(world)
    client.session.receive_binary(bytearray(b'{"type":"ping"}'))
    assert [code(each) for each in client.take()] == ["BAD_REQUEST"]
    assert client.closed == []


@pytest.mark.parametrize("request_", [{"type": "ping"}, {"type": "history", "topic": "t", "last_n": 1}])
def test_a_fault_of_the_server_shows_nothing_and_is_logged(
    world: World, request_: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise KeyError("secret")

    client = Client(world)
    monkeypatch.setattr("pubsub.websocket.session.Pong", fail)
    monkeypatch.setattr(Broker, "history_last", fail)
    client.send(**request_, request_id="r")
    (answer,) = client.take()
    assert (code(answer), answer["request_id"], answer["error"]["message"]) == ("INTERNAL", "r", "internal error")
    assert "secret" in caplog.text
    assert "alice" in caplog.text


def test_the_first_name_that_a_client_sends_is_its_name_unless_it_has_one(world: World) -> None:
    unnamed, named = Client(world, client_id="client-1", named=False), Client(world, client_id="bob")
    for client in (unnamed, named):
        for name in ("first", "second"):
            client.send(type="subscribe", topic="t", client_id=name)
    assert (unnamed.session.client_id, named.session.client_id) == ("first", "bob")


# Order: an ack, then the replay, then what is live


def test_a_replay_follows_its_ack_and_precedes_what_is_live(world: World) -> None:
    client = Client(world)
    for _ in range(3):
        client.publish()
    world.end_tick()
    client.take()
    client.publish(request_id="before")
    client.subscribe(last_n=2, request_id="s")
    client.publish(request_id="after")
    world.end_tick()
    assert kinds(client.take()) == ["before", "s", 3, 4, 5, "after"]


def test_a_resume_tells_whether_anything_is_missing(world: World) -> None:
    client = Client(world)
    for _ in range(RING + 3):  # of which 1 to 3 are no longer kept
        client.publish()
    client.take()
    for seq, recovered, follow in ((3, True, [4, 5, 6, 7, 8]), (1, False, ["info", 4, 5, 6, 7, 8])):
        client.subscribe(resume={"t": {"epoch": "e", "seq": seq}})
        ack, *told = client.take()
        assert (ack["type"], ack["recovered"]) == ("ack", recovered)
        assert kinds(told) == follow


# Publishes that wait for their journal


def test_answers_keep_the_order_of_the_publishes_though_some_come_later(world: World) -> None:
    client = Client(world)
    client.publish("d", request_id="1")
    client.publish("t", request_id="2")
    client.publish("d", request_id="3")
    client.publish("nowhere", request_id="4")
    client.publish("t", request_id="5")
    assert kinds(client.take()) == ["4"], "what is refused outright does not wait"
    world.log.commit()
    assert kinds(client.take()) == ["1", "2"]
    world.log.refuse()
    told = client.take()
    assert kinds(told) == ["3", "5"]
    assert code(told[0]) == "INTERNAL"
    client.publish("t", request_id="6")
    assert kinds(client.take()) == ["6"], "nothing waits any more"


def test_no_more_is_read_from_a_client_with_so_many_publishes_without_an_outcome(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "MAX_WAITING", 3)
    client = Client(world)
    for topic in ("d", "t"):
        client.publish(topic)
    assert client.paused == []
    client.publish("d")
    assert client.paused == [PauseReason.UNANSWERED]
    world.log.commit()
    assert client.paused == []
    assert len(client.take()) == 2


def test_no_more_is_read_while_the_journal_is_full(world: World) -> None:
    client = Client(world)
    client.publish("d")
    assert client.paused == []
    world.journal.full = True
    client.publish("d")
    assert client.paused == [PauseReason.JOURNAL]
    (resume,) = world.journal.when_writable
    resume()
    assert client.paused == []


# Requests whose answer comes later


def page_of(*seqs: int) -> list[StoredEvent]:
    return [make_event("d", Message(ID, Raw(b"1")), seq, "now") for seq in seqs]


def ask_for_what_is_on_the_disk(world: World, client: Client) -> None:
    """Ask for events 1 and 2, of which the ring has none."""
    publisher = Client(world, client_id="bob")
    for _ in range(RING + 2):
        publisher.publish("d")
    world.log.commit(RING + 2)
    world.end_tick()
    client.send(type="history", topic="d", after=0, limit=2, request_id="h")


def test_nothing_else_is_served_before_an_answer_that_comes_later(world: World) -> None:
    client = Client(world)
    ask_for_what_is_on_the_disk(world, client)
    assert client.take() == []
    assert client.paused == [PauseReason.ANSWER]
    (done,) = world.log.reads
    done(page_of(1, 2))
    assert client.paused == []
    (answer,) = client.take()
    assert answer["request_id"] == "h"
    assert [each["seq"] for each in answer["messages"]] == [1, 2]


def test_an_answer_that_comes_later_may_be_a_failure(world: World) -> None:
    client = Client(world)
    ask_for_what_is_on_the_disk(world, client)
    world.log.reads[0](NotStored())
    (answer,) = client.take()
    assert (code(answer), answer["request_id"]) == ("INTERNAL", "h")
    assert client.paused == []


def test_an_answer_that_comes_later_waits_for_the_queue_of_its_client(world: World) -> None:
    client = Client(world)
    client.subscribe("t")
    client.take()
    client.subscriber.block()
    ask_for_what_is_on_the_disk(world, client)
    Client(world, client_id="bob").publish("t")
    world.end_tick()
    world.log.reads[0](page_of(1, 2))
    assert client.take() == [], "its event waits, and the answer behind it"
    assert client.paused == [PauseReason.ANSWER]
    client.subscriber.unblock()
    assert kinds(client.take()) == [1, "h"]
    assert client.paused == []


def test_a_client_that_is_gone_gets_no_answer(world: World) -> None:
    client = Client(world)
    client.subscribe("t")
    client.publish("d")
    ask_for_what_is_on_the_disk(world, client)
    client.take()
    client.session.end()
    assert world.broker.subscriber_count == 0
    world.log.reads[0](page_of(1, 2))
    Client(world, client_id="bob").publish("t")
    world.end_tick()
    assert client.take() == []


def test_a_client_that_is_gone_is_not_subscribed(world: World) -> None:
    """A resume into the file of a topic with a time to live asks the disk first."""
    client = Client(world)
    ask_for_what_is_on_the_disk(world, client)
    world.log.reads[0](page_of(1, 2))
    client.subscribe("d", resume={"d": {"epoch": "e", "seq": 1}})
    (done,) = world.log.searches
    client.session.end()
    done(False)
    world.end_tick()
    assert world.broker.subscriber_count == 0


@pytest.mark.parametrize(("last_n", "limit"), [(4, 2), (2, 4)])
def test_a_history_has_so_many_of_the_newest_and_no_more_than_its_limit(world: World, last_n: int, limit: int) -> None:
    client = Client(world)
    for _ in range(RING):
        client.publish()
    client.take()
    history = client.ask(type="history", topic="t", last_n=last_n, limit=limit)
    assert [each["seq"] for each in history["messages"]] == [4, 5]


# Rights

TOKENS = {
    "alice": Identity(client_id="alice", subscribes=make_rights(("t",)), publishes=make_rights(("u",))),
    "reader": Identity(client_id="alice", subscribes=make_rights((">",))),
    "bob": Identity(client_id="bob", subscribes=make_rights((">",))),
}


def verify(token: str, answer: Callable[[Identity | Unauthorized], None]) -> None:
    answer(TOKENS.get(token) or Unauthorized("token: unknown"))


def rules(**changes: Any) -> ClientRules:
    quotas = Quotas(in_all=0, per_client=1)
    quotas.claim("busy")
    chosen: dict[str, Any] = {"identify": verify, "rates": None, "quotas": quotas, "max_subscriptions": 0}
    return ClientRules(**chosen | changes)


def authenticated(world: World, token: str = "alice", **changes: Any) -> Client:
    client = Client(world, named=False, rules=rules(**changes))
    assert client.ask(type="auth", token=token)["type"] == "ack"
    return client


@pytest.mark.parametrize(
    "first", ['{"type":"ping"}', '{"type":"auth"}', "nonsense", '{"type":"auth","token":"wrong"}', b"\0"]
)
def test_a_first_message_that_is_no_good_token_ends_the_connection(world: World, first: Any) -> None:
    client = Client(world, named=False, rules=rules())
    assert client.session.lacks_identity
    if isinstance(first, bytes):
        client.session.receive_binary(bytearray(first))
    else:
        client.session.receive(first)
    assert [code(each) for each in client.take()] == ["UNAUTHORIZED"]
    assert client.closed == [CloseReason.UNAUTHORIZED]
    assert client.session.lacks_identity


def test_a_token_gives_a_name_and_rights(world: World) -> None:
    client = authenticated(world)
    assert client.session.client_id == "alice"
    assert client.identities == [TOKENS["alice"]]
    assert not client.session.lacks_identity
    named = {"client_id": "alice", "request_id": "r"}
    assert client.ask(type="subscribe", topic="t", **named)["type"] == "ack"
    for request in (
        {"type": "subscribe", "topic": "u", **named},
        {"type": "unsubscribe", "topic": "u", **named},
        {"type": "subscribe", "topic": "t", "client_id": "bob"},
        {"type": "unsubscribe", "topic": "t", "client_id": "bob"},
        {"type": "history", "topic": "u", "last_n": 1},
        {"type": "publish", "topic": "t", "message": {"id": ID, "payload": 1}},
        {"type": "publish", "topic": "nowhere", "message": {"id": ID, "payload": 1}},
    ):
        assert code(client.ask(**request)) == "FORBIDDEN", request
    assert client.publish("u") is False
    assert client.closed == []


def test_a_token_of_another_client_is_refused_and_the_first_rights_stay(world: World) -> None:
    client = authenticated(world)
    assert code(client.ask(type="auth", token="bob")) == "FORBIDDEN"
    assert client.session.identity == TOKENS["alice"]
    named = Client(world, client_id="carol", rules=rules())
    assert code(named.ask(type="auth", token="bob")) == "FORBIDDEN"
    assert named.session.lacks_identity


def test_a_quota_of_connections_is_asked_for_the_first_token_and_not_for_the_next(world: World) -> None:
    quotas = Quotas(in_all=0, per_client=1)
    client = authenticated(world, quotas=quotas)
    quotas.claim("alice")
    assert client.ask(type="auth", token="reader")["type"] == "ack"
    late = Client(world, named=False, rules=rules(quotas=quotas))
    assert code(late.ask(type="auth", token="alice")) == "LIMIT_EXCEEDED"
    assert late.closed == []


def test_new_rights_end_the_subscriptions_that_they_do_not_allow(world: World) -> None:
    client = authenticated(world, "reader")
    for topic in ("t", "u"):
        client.subscribe(topic)
    client.take()
    client.send(type="auth", token="alice", request_id="a")
    ack, info = client.take()
    assert (ack["type"], ack["request_id"]) == ("ack", "a")
    assert info.items() >= {"type": "info", "topic": "u", "msg": "unsubscribed", "reason": "forbidden"}.items()
    assert client.subscriber.subscriptions == ["t"]


def test_a_token_that_is_verified_later_holds_up_what_follows_it(world: World) -> None:
    waiting: list[Callable[[Identity | Unauthorized], None]] = []
    client = Client(world, named=False, rules=rules(identify=lambda token, answer: waiting.append(answer)))
    client.send(type="auth", token="alice", request_id="a")
    assert client.paused == [PauseReason.ANSWER]
    waiting[0](TOKENS["alice"])
    assert client.paused == []
    assert kinds(client.take()) == ["a"]
    client.send(type="auth", token="alice")
    waiting[1](Unauthorized("token: expired"))
    assert [code(each) for each in client.take()] == ["UNAUTHORIZED"]
    assert client.closed == [CloseReason.UNAUTHORIZED]


@pytest.mark.parametrize(("token", "words"), [(None, "token: missing"), ("alice", "token: expired")])
def test_the_end_of_a_tokens_time_ends_the_connection(world: World, token: str | None, words: str) -> None:
    client = Client(world, named=False, rules=rules()) if token is None else authenticated(world, token)
    client.session.expire()
    (answer,) = client.take()
    assert answer["error"] == {"code": "UNAUTHORIZED", "message": words}
    assert client.closed == [CloseReason.UNAUTHORIZED]


# Limits


def test_a_connection_has_so_many_subscriptions(world: World) -> None:
    client = Client(world, rules=rules(identify=None, max_subscriptions=1))
    for _ in range(2):
        assert client.ask(type="subscribe", topic="t", client_id="alice")["type"] == "ack", "twice is once"
    assert code(client.ask(type="subscribe", topic="u", client_id="alice")) == "LIMIT_EXCEEDED"
    assert client.ask(type="unsubscribe", topic="t", client_id="alice")["type"] == "ack"
    assert client.ask(type="subscribe", topic="u", client_id="alice")["type"] == "ack"


def test_whoever_asks_too_fast_is_refused_and_in_the_end_closed(world: World) -> None:
    rates = Rates(1, 2, lambda: world.now)
    client = Client(world, rules=rules(identify=None, rates=rates))
    answers = [client.ask(type="ping") for _ in range(3)]
    assert [each["type"] for each in answers] == ["pong", "pong", "error"]
    assert (code(answers[2]), answers[2]["error"]["retry_after_ms"]) == ("RATE_LIMITED", 1000)
    client.session.receive_binary(bytearray())
    assert code(client.take()[0]) == "RATE_LIMITED", "binary messages count too"
    world.now += 1
    assert client.ask(type="ping")["type"] == "pong"
    while not client.closed:
        assert code(client.ask(type="ping")) == "RATE_LIMITED"
    assert client.closed == [CloseReason.FLOODING]


def test_requests_that_were_counted_and_never_sent_are_given_back(world: World) -> None:
    rates = Rates(0.001, 1000, lambda: world.now)
    for _ in range(500):
        client = Client(world, rules=rules(identify=None, rates=rates))
        assert client.ask(type="ping")["type"] == "pong"
        client.session.end()
        client.session.end()
    served = 0
    client = Client(world, rules=rules(identify=None, rates=rates))
    while client.ask(type="ping")["type"] == "pong":
        served += 1
    assert served == 500


def test_a_publish_is_logged_where_its_level_is_and_never_its_payload(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pubsub")
    client = Client(World())
    client.send(type="publish", topic="t", message={"id": ID, "payload": "swordfish"})
    assert f"Message published to topic t: id={ID}" in caplog.text
    assert "swordfish" not in caplog.text
    caplog.clear()
    caplog.set_level(logging.INFO, "pubsub")
    Client(World()).publish()
    assert "published" not in caplog.text
