"""The rules of several workers that need no process: spread, pauses, the control socket, and metrics put together."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pubsub.metrics.merging import Part, merge
from pubsub.system.unix_socket import address_of, bind_unix, is_own_user
from pubsub.workers.control import CONNECTION, LOAD, Control, Message, Splitter
from pubsub.workers.pauses import Pauses
from pubsub.workers.spread import UNTAKEN, Share, fewest_first
from pubsub.workers.supervisor import Supervisor, place_for_owner, supervise
from tests.harness import REPOSITORY, eventually, make_settings

# Spread


def opened(count: int) -> list[Share]:
    shares = [Share() for _ in range(count)]
    for share in shares:
        share.open = True
    return shares


def hand_over(shares: list[Share]) -> Share:
    share = fewest_first(shares)[0]
    share.handed += 1
    share.received += 1
    return share


def test_whatever_ends_the_next_connections_make_it_even_again() -> None:
    shares = opened(4)
    chance = random.Random(7)
    for _ in range(1000):
        hand_over(shares)
    for _ in range(20):
        chosen = chance.choice(shares)
        chosen.ended = chance.randint(chosen.ended, chosen.handed)
        missing = sum(max(each.present for each in shares) - each.present for each in shares)
        for _ in range(missing):
            hand_over(shares)
        assert len({each.present for each in shares}) == 1


def test_a_worker_that_takes_nothing_gets_no_more_and_one_that_is_closed_nothing() -> None:
    stalled, good, closed = opened(3)
    closed.open = False
    for _ in range(3 * UNTAKEN):
        share = fewest_first([stalled, good, closed])[0]
        share.handed += 1
        if share is good:
            share.received += 1
    assert (stalled.handed, closed.handed) == (UNTAKEN, 0)
    good.open = False
    assert fewest_first([stalled, good, closed]) == []


# Pauses


def test_pauses_grow_to_a_limit_and_begin_again_after_a_steady_run() -> None:
    pauses = Pauses()
    found = [pauses.after(0.5) for _ in range(12)]
    assert found[:4] == [0.1, 0.2, 0.4, 0.8]
    assert found[-1] == 30
    assert pauses.after(61) == 0.1


# The control socket


def test_messages_are_split_wherever_they_are_cut() -> None:
    sent = LOAD + (3).to_bytes(4) + b"abc" + CONNECTION + bytes(4) + LOAD + bytes(4)
    for cut in range(len(sent)):
        splitter, found = Splitter(), list[Message]()
        for piece in (sent[:cut], sent[cut:]):
            splitter.add(piece, [])
            while (message := splitter.take()) is not None:
                found.append(message)
        assert [(each.kind, each.body, each.sock) for each in found] == [
            (LOAD, b"abc", None), (CONNECTION, b"", None), (LOAD, b"", None),
        ]  # fmt: skip


async def test_connections_come_in_order_and_a_full_socket_says_so() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    got: list[Message] = []
    lost = asyncio.Event()
    sending = Control(ours, got.append, lost.set)
    handed = [socket.socketpair() for _ in range(500)]
    sent = 0
    for near, _ in handed:
        if not sending.send_connection(near):
            break
        sent += 1
    assert 0 < sent < len(handed)
    receiving = Control(theirs, got.append, lost.set)
    await eventually(lambda: len(got) == sent)
    inodes = [os.fstat(each.sock.fileno()).st_ino for each in got if each.sock is not None]
    assert inodes == [os.fstat(near.fileno()).st_ino for near, _ in handed[:sent]]
    assert sending.send_connection(handed[-1][0])
    receiving.close()
    await lost.wait()
    sending.close()
    for message in got:
        assert message.sock is not None
        message.sock.close()
    for pair in handed:
        for each in pair:
            each.close()


# A place for the owner's socket


def test_the_owners_socket_is_in_a_directory_of_its_user_alone() -> None:
    with place_for_owner() as path:
        assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
    assert not Path(path).parent.exists()


def test_without_a_place_for_files_it_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: str) -> str:
        raise OSError("read only")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with place_for_owner() as path, bind_unix(path, mode=0o600, backlog=1) as listening:
        assert path.startswith("@pubsub-")
        with socket.socket(socket.AF_UNIX) as near:
            near.connect(address_of(path))
            far, _ = listening.accept()
            with far:
                assert is_own_user(near)
                assert is_own_user(far)


def test_without_an_owner_there_is_no_place_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*_: object) -> int:
        return len(os.listdir(tmp_path))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Supervisor, "run", run)
    settings = make_settings()
    assert supervise(settings, [], lambda: settings) == 1
    settings = make_settings(journal_url="redis://127.0.0.1")
    assert supervise(settings, [], lambda: settings) == 0


def test_a_server_without_workers_imports_nothing_of_them() -> None:
    code = (
        "import sys, pubsub.__main__, pubsub.app; "
        "print([each for each in sys.modules if each.startswith(('pubsub.workers', 'pubsub.journals.workers'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Metrics

CLIENTS = b"""\
# HELP pubsub_clients Clients with a } and a space.
# TYPE pubsub_clients gauge
pubsub_clients{name="a } b"} %d
pubsub_clients{name="c"} 1
"""
PLAIN = b"""\
# HELP pubsub_lost_total A count.
# TYPE pubsub_lost_total counter
pubsub_lost_total %d
"""
TOPICS = b"""\
# HELP pubsub_topics Topics.
# TYPE pubsub_topics gauge
pubsub_topics %d
"""


def parts(number: int) -> list[Part]:
    return [
        Part("pubsub_clients", CLIENTS % number),
        Part("pubsub_lost", PLAIN % number),
        Part("pubsub_topics", TOPICS % number),
    ]


@pytest.mark.parametrize("without_owner", [False, True])
def test_each_family_is_whole_and_says_whose_its_samples_are(without_owner: bool) -> None:
    found = {2: parts(2), 3: parts(3)} | ({} if without_owner else {1: parts(1)})
    text = b"".join(merge(found)).decode()
    families = list(text_string_to_metric_families(text))
    samples = {(each.name, *each.labels.items()): each.value for family in families for each in family.samples}
    numbers = [2, 3] if without_owner else [1, 2, 3]
    expected: dict[tuple[object, ...], float] = {}
    for number in numbers:
        worker = ("worker", str(number))
        expected["pubsub_lost_total", worker] = number
        expected["pubsub_clients", worker, ("name", "a } b")] = number
        expected["pubsub_clients", worker, ("name", "c")] = 1
    if not without_owner:
        expected[("pubsub_topics",)] = 1
    assert samples == expected
    assert len(families) == (2 if without_owner else 3)
