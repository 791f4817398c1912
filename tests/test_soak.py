"""The soak: its oracle finds broken invariants, and a soak of a few seconds finds none. `make soak` runs a long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kinds import FILTERS
from oracle import Broken, Json, Ledger, Record, Rights
from verdict import Verdict

from tests.harness import REPOSITORY, clean_environment

IDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(1, 9)]


def subscribed(record: Record | None = None, *, seq: int = 0, tolerant: bool = False) -> Ledger:
    ledger = Ledger(record or Record(), tolerant=tolerant)
    ledger.ask({"type": "subscribe", "topic": "a", "request_id": "s"})
    ledger.take({"type": "ack", "request_id": "s", "topic": "a", "epoch": "e", "seq": seq})
    return ledger


def event(seq: int, message_id: str | None = None) -> Json:
    return {"type": "event", "topic": "a", "seq": seq, "message": {"id": message_id or IDS[seq]}}


def gap(first: int, last: int, count: int) -> Json:
    return {"type": "info", "msg": "dropped", "topic": "a", "from_seq": first, "to_seq": last, "count": count}


@pytest.mark.parametrize(
    "told",
    [
        [event(2)],
        [event(1), event(1)],
        [event(1), event(3)],
        [event(1), event(2), event(1)],
        [event(1) | {"topic": "b"}],
        [gap(1, 2, 2)],
        [{"type": "info", "msg": "topic_deleted", "topic": "a"}, event(1)],
        [{"type": "pong", "request_id": "unasked"}],
    ],
    ids=["missing", "twice", "hole", "backwards", "foreign", "lost", "after the end", "unasked"],
)
def test_the_judge_finds(told: list[Json]) -> None:
    ledger = subscribed()
    with pytest.raises(Broken):
        list(map(ledger.take, told))


@pytest.mark.parametrize("told", [gap(2, 3, 2), gap(1, 3, 2)], ids=["not the next", "miscounted"])
def test_the_judge_finds_a_gap_that_is_told_wrongly(told: Json) -> None:
    with pytest.raises(Broken):
        subscribed(tolerant=True).take(told)


def test_the_judge_finds_another_message_in_the_same_place() -> None:
    record = Record()
    first, second = subscribed(record), subscribed(record)
    first.take(event(1, IDS[0]))
    with pytest.raises(Broken):
        second.take(event(1, IDS[1]))


def test_the_judge_finds_what_was_acknowledged_and_never_came() -> None:
    record = Record()
    publisher, subscriber = subscribed(record), subscribed(record)
    publish(publisher, seq=1)
    assert not subscriber.is_complete("a")
    subscriber.take(event(1, IDS[0]))
    assert subscriber.is_complete("a")


def test_the_judge_finds_acknowledgements_out_of_order() -> None:
    publisher = subscribed()
    publish(publisher, seq=2)
    with pytest.raises(Broken):
        publish(publisher, seq=1)


def test_the_judge_finds_a_resume_that_leaves_out_something() -> None:
    ledger = Ledger(Record())
    ledger.ask({"type": "subscribe", "topic": "a", "request_id": "s", "resume": {"a": {"epoch": "e", "seq": 3}}})
    ledger.take({"type": "ack", "request_id": "s", "topic": "a", "epoch": "e", "seq": 6, "recovered": True})
    with pytest.raises(Broken):
        ledger.take(event(5))


def publish(ledger: Ledger, seq: int) -> None:
    ledger.ask({"type": "publish", "topic": "a", "request_id": f"p{seq}", "message": {"id": IDS[0]}})
    ledger.take({"type": "ack", "request_id": f"p{seq}", "topic": "a", "seq": seq})


KINDS = {number: kind for number, kind in enumerate([0, 1, 2, 0, 1, 2], 1)}


def chosen(*requests: Json, rights: Rights | None = None, tolerant: bool = False) -> Ledger:
    """A ledger with subscriptions, where the record has messages 1 to 6 of these kinds in the topic `a.b`."""
    record = Record()
    for seq, kind in KINDS.items():
        record.note("a.b", "e", seq, {"id": IDS[seq], "payload": {"kind": kind}})
    ledger = Ledger(record, rights=rights, tolerant=tolerant)
    for number, request in enumerate(requests):
        seq = request.pop("seq", 0)
        ledger.ask({"type": "subscribe", "request_id": str(number)} | request)
        position = {"epoch": "e", "seq": seq}
        ack = {"topics": {"a.b": position}} if "*" in request["topic"] else position
        ledger.take({"type": "ack", "request_id": str(number), "topic": request["topic"], **ack})
    return ledger


def kinded(seq: int) -> Json:
    return {"type": "event", "topic": "a.b", "seq": seq, "message": {"id": IDS[seq], "payload": {"kind": KINDS[seq]}}}


ALL, SOME, NONE, TWO = FILTERS


def test_the_judge_lets_through_what_filters_and_rights_leave_out() -> None:
    ledger = chosen({"topic": "a.*", **SOME}, rights=Rights(("a.*",), (("a.*", "payload.kind < 2"),)))
    for seq in (2, 5):
        ledger.take(kinded(seq))
    assert ledger.is_complete("a.b")


@pytest.mark.parametrize("seqs", [[1], [3], [2, 2], [5, 2]], ids=["not wanted", "missing", "twice", "backwards"])
def test_the_judge_finds_by_a_filter(seqs: list[int]) -> None:
    ledger = chosen({"topic": "a.*", **SOME})
    with pytest.raises(Broken):
        list(map(ledger.take, map(kinded, seqs)))


@pytest.mark.parametrize("seq", [1, 2, 6], ids=["not wanted", "not allowed", "missing"])
def test_the_judge_finds_by_rights(seq: int) -> None:
    ledger = chosen({"topic": "a.*", **SOME}, rights=Rights((">",), ((">", "payload.kind != 1"),)))
    with pytest.raises(Broken):
        ledger.take(kinded(seq))


def test_the_judge_wants_each_event_once_where_subscriptions_overlap() -> None:
    ledger = chosen({"topic": "a.*", **SOME}, {"topic": "a.b", **NONE})
    for seq in range(1, 7):
        ledger.take(kinded(seq))
    with pytest.raises(Broken):
        ledger.take(kinded(6))


def test_the_judge_finds_what_a_replay_of_one_subscription_repeats_for_another() -> None:
    def replaying() -> Ledger:
        ledger = chosen({"topic": "a.*", **SOME})
        for seq in (2, 3, 5, 6):
            ledger.take(kinded(seq))
        resume = {"a.b": {"epoch": "e", "seq": 0}}
        ledger.ask({"type": "subscribe", "request_id": "r", "topic": "a.b", "resume": resume, **NONE})
        ledger.take({"type": "ack", "request_id": "r", "topic": "a.b", "epoch": "e", "seq": 6, "recovered": True})
        return ledger

    ledger = replaying()
    for seq in (1, 4):
        ledger.take(kinded(seq))
    assert ledger.is_complete("a.b")
    with pytest.raises(Broken):
        replaying().take(kinded(2))


@pytest.mark.parametrize(("count", "holds"), [(2, True), (3, True), (1, False), (6, False)])
def test_the_judge_counts_what_a_gap_must_have(count: int, holds: bool) -> None:
    """Of the events 2 to 4, two match; one more may be gone before anything could look at it."""
    ledger = chosen({"topic": "a.*", **SOME}, tolerant=True)
    told = gap(2, 4, count) | {"topic": "a.b"}
    if holds:
        ledger.take(told)
        ledger.take(kinded(5))
    else:
        with pytest.raises(Broken):
            ledger.take(told)


def test_the_judge_finds_an_event_after_the_end_of_its_subscription() -> None:
    ledger = chosen({"topic": "a.*", **SOME}, {"topic": "a.b", **NONE})
    ledger.ask({"type": "unsubscribe", "topic": "a.*", "request_id": "u"})
    ledger.take(kinded(1))
    with pytest.raises(Broken):
        ledger.take(kinded(4))  # 2 and 3 were published before the request
    ledger = chosen({"topic": "a.*", **SOME}, {"topic": "a.b", **NONE})
    ledger.ask({"type": "unsubscribe", "topic": "a.*", "request_id": "u"})
    ledger.take({"type": "ack", "request_id": "u", "topic": "a.*"})
    with pytest.raises(Broken):
        ledger.take(kinded(2))


def test_the_judge_finds_a_topic_that_is_announced_twice_or_to_nobody() -> None:
    created = {"type": "info", "msg": "topic_created", "topic": "a.b", "epoch": "e"}
    for ledger in (chosen({"topic": "a.*"}), chosen()):
        with pytest.raises(Broken):
            ledger.take(created)


def test_a_verdict_is_told_in_three_ways() -> None:
    verdict = Verdict({"minutes": 1})
    verdict.figures["quiet"] = {"events": 12345, "p99_ms": 1.25}
    verdict.check("quiet", "nothing lost", True)
    verdict.check("quiet", "nothing lost", True)
    assert verdict.holds
    verdict.check("storm", "nothing doubled", False, "seq 7")
    verdict.check("storm", "nothing doubled", True, "seq 8")
    assert not verdict.holds
    assert json.loads(verdict.as_json())["ok"] is False
    assert "events 12,345, p99 ms 1.2" in verdict.as_table()
    assert "| storm | nothing doubled, 2 times | **broken** | seq 7 |" in verdict.as_markdown()


@pytest.mark.timeout(120)
def test_row_39_40_and_55_a_short_soak_breaks_nothing(tmp_path: Path) -> None:
    """Real sockets and processes: good and bad clients, wanderers, and restarts with and without tokens."""
    command = [sys.executable, "scripts/soak/soak.py", "--minutes", "0.1", "--untimed", "--seed", "8"]
    command += ["--markdown", str(tmp_path / "figures.md"), "--rounds", "2"]
    command += ["--phases", "quiet", "wander", "storm", "kill"]
    done = subprocess.run(command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["ok"] is True
    assert result["phases"]["storm"]["restarts"] >= 1
    assert result["phases"]["kill"]["publishes_cut_off"] > 0
    assert result["phases"]["all"]["deliveries"] > 100
    assert (tmp_path / "figures.md").read_text().startswith("Run: minutes 0.1")


@pytest.mark.timeout(120)
def test_a_short_soak_of_the_client_libraries_breaks_nothing() -> None:
    """Python and node, through networks that fail, while the server is killed."""
    command = [sys.executable, "scripts/soak/soak.py", "--clients", "--minutes", "0.05", "--seed", "8"]
    done = subprocess.run(command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["ok"] is True
    figures = result["phases"]["clients"]
    assert figures["trouble"]["kill"] >= 1
    assert figures["outcomes"]["acked"] > 100
    assert figures["events"] > 1000
