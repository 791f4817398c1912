"""The watch over a silent connection."""

from __future__ import annotations

import pytest

from tests.client.hosts import HEARTBEAT, Talk


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.open()
    return talk


def test_silence_is_asked_about_and_then_the_end(talk: Talk) -> None:
    talk.host.pass_time(HEARTBEAT - 1)
    assert not talk.host.sent
    talk.host.pass_time(1)
    assert talk.host.take_sent() == [{"type": "ping"}]
    talk.host.pass_time(HEARTBEAT - 1)
    assert not talk.host.dropped
    talk.host.pass_time(1)
    assert talk.host.dropped == ["nothing came for 60 s"]
    assert talk.host.timers == []


def test_whatever_comes_is_life(talk: Talk) -> None:
    for message in ('{"type":"info","msg":"ping","ts":"x"}', "nonsense", '{"type":"pong","ts":"x"}'):
        talk.host.pass_time(HEARTBEAT - 1)
        talk.conversation.received(message)
    talk.host.pass_time(HEARTBEAT - 1)
    assert not talk.host.sent


def test_an_answer_to_the_ping_is_life(talk: Talk) -> None:
    for _ in range(5):
        talk.host.pass_time(HEARTBEAT)
        assert [sent["type"] for sent in talk.host.take_sent()] == ["ping"]
        talk.send({"type": "pong"})
        talk.host.pass_time(HEARTBEAT / 4)
    assert not talk.host.dropped


def test_silence_means_nothing_while_nothing_is_read(talk: Talk) -> None:
    interest = talk.begin("t", limit=1)
    talk.send_event("t", 1)
    assert talk.conversation.paused
    talk.host.pass_time(10 * HEARTBEAT)
    assert not talk.host.dropped
    interest.inbox.take()
    talk.host.pass_time(2 * HEARTBEAT)
    assert talk.host.dropped


def test_the_next_connection_is_not_blamed_for_the_last_one(talk: Talk) -> None:
    talk.host.pass_time(2 * HEARTBEAT - 1)
    talk.reopen()
    talk.host.take_sent()
    talk.host.pass_time(HEARTBEAT - 1)
    assert not talk.host.sent
    assert not talk.host.dropped


def test_a_client_that_has_ended_watches_no_more(talk: Talk) -> None:
    talk.conversation.leave()
    assert talk.host.timers == []
