"""Questions among servers: answers of any size, servers that do not answer, and answers that are lost on the way."""

from __future__ import annotations

import asyncio

import pytest

from pubsub.cluster import questions
from pubsub.cluster.bus import MOST_BYTES
from pubsub.cluster.members import Members
from pubsub.cluster.questions import Answers, Questions
from pubsub.protocol.errors import NotStored
from tests.cluster.buses import Hub
from tests.cluster.test_members import Log
from tests.harness import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_factories=["uvloop"]), pytest.mark.usefixtures("short_waits")]

LARGE = 10 * MOST_BYTES + 17


class World:
    """Servers, each of which answers with its name and the body."""

    def __init__(self, names: str = "abc") -> None:
        loop = asyncio.get_running_loop()
        self.hub = Hub(defer=loop.call_soon)
        self.questions: dict[str, Questions] = {}
        self.members: dict[str, Members] = {}
        self.asked: list[str] = []
        for name in names:
            bus = self.hub.join(name)
            members = self.members[name] = Members(bus, Log(), loop.time, loop.call_later)
            self.questions[name] = Questions(bus, members)
            self.answer(name)
            members.start()
        self.hub.deliver()

    def answer(self, name: str) -> None:
        async def echo(body: bytes) -> bytes:
            self.asked.append(name)
            return name.encode() + body

        async def large(_: bytes) -> bytes:
            return name.encode() * LARGE

        async def nothing(_: bytes) -> bytes:
            return b""

        async def fail(_: bytes) -> bytes:
            if name == "b":
                raise ValueError("a fault")
            return b"well"

        async def refuse(_: bytes) -> bytes:
            raise NotStored

        for kind, answerer in {
            "echo": echo,
            "large": large,
            "nothing": nothing,
            "fail": fail,
            "refuse": refuse,
        }.items():
            self.questions[name].answer_with(kind, answerer)


@pytest.fixture
async def world(short_waits: None) -> World:
    world = World()
    await asyncio.sleep(0.01)
    return world


async def test_all_others_answer(world: World) -> None:
    assert await world.questions["a"].ask("echo", b"1") == Answers({"b": b"b1", "c": b"c1"}, [])
    assert world.asked == ["b", "c"]
    assert await world.questions["a"].ask("nothing", b"") == Answers({"b": b"", "c": b""}, [])


async def test_only_those_that_are_asked_answer(world: World) -> None:
    assert await world.questions["a"].ask("echo", b"1", ["c"]) == Answers({"c": b"c1"}, [])
    assert await world.questions["a"].ask("echo", b"1", []) == Answers({}, [])
    assert world.asked == ["c"]


async def test_many_questions_at_a_time_get_their_own_answers(world: World) -> None:
    bodies = [str(number).encode() for number in range(50)]
    answers = await asyncio.gather(*(world.questions["abc"[n % 3]].ask("echo", body) for n, body in enumerate(bodies)))
    for number, (body, answer) in enumerate(zip(bodies, answers, strict=True)):
        others = sorted(set("abc") - {"abc"[number % 3]})
        assert answer == Answers({other: other.encode() + body for other in others}, [])


async def test_a_large_answer_comes_in_pieces(world: World) -> None:
    """MemoryBus checks their size."""
    before = world.hub.buses["b"].told
    answers = await world.questions["a"].ask("large", b"")
    assert answers == Answers({"b": b"b" * LARGE, "c": b"c" * LARGE}, [])
    assert world.hub.buses["b"].told - before == 11


async def test_a_server_that_does_not_answer_is_missing(world: World) -> None:
    world.hub.buses["c"].is_cut_off = True
    begun = asyncio.get_running_loop().time()
    assert await world.questions["a"].ask("echo", b"1") == Answers({"b": b"b1"}, ["c"])
    assert asyncio.get_running_loop().time() - begun >= questions.WAIT * 0.9
    assert await world.questions["a"].ask("unknown", b"1") == Answers({}, ["b", "c"])


async def test_a_fault_at_one_server_leaves_the_others(world: World, caplog: pytest.LogCaptureFixture) -> None:
    assert await world.questions["a"].ask("fail", b"") == Answers({"c": b"well"}, ["b"])
    assert "a fault" in caplog.text


async def test_a_server_that_cannot_answer_now_is_missing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    assert await world.questions["a"].ask("refuse", b"") == Answers({}, ["b", "c"])
    assert not caplog.text


async def test_an_answer_that_lost_a_piece_is_missing(world: World) -> None:
    """It is never put together from what is left."""
    world.hub.loss = 0.3
    for _ in range(5):
        answers = await world.questions["a"].ask("large", b"")
        for server, answer in answers.found.items():
            assert answer == server.encode() * LARGE
        assert sorted([*answers.found, *answers.missing]) == ["b", "c"]


async def test_a_server_that_ends_is_not_waited_for(world: World) -> None:
    async def slow(_: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    world.questions["b"].answer_with("echo", slow)
    asking = asyncio.create_task(world.questions["a"].ask("echo", b"1"))
    await asyncio.sleep(0.01)
    world.questions["a"].lose("b")
    async with asyncio.timeout(questions.WAIT / 2):
        assert await asking == Answers({"c": b"c1"}, ["b"])
    world.questions["b"].stop()


async def test_a_server_that_is_cut_off_does_not_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.cluster.members.CUT_OFF", -1.0)
    async with asyncio.timeout(questions.WAIT / 2):
        assert await world.questions["a"].ask("echo", b"1") == Answers({}, ["b", "c"])


async def test_answers_that_are_too_large_are_left_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MOST_TOGETHER", LARGE)
    answers = await world.questions["a"].ask("large", b"")
    assert len(answers.found) <= 1
    assert len(answers.found) + len(answers.missing) == 2


async def test_too_many_questions_get_no_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MOST_ANSWERED", 1)
    gate = asyncio.Event()

    async def slow(_: bytes) -> bytes:
        await gate.wait()
        return b"done"

    world.questions["b"].answer_with("slow", slow)
    with monkeypatch.context() as patient:
        patient.setattr(questions, "WAIT", PATIENCE)
        first = asyncio.create_task(world.questions["a"].ask("slow", b"", ["b"]))
        await asyncio.sleep(0.01)
    assert (await world.questions["c"].ask("slow", b"", ["b"])).missing == ["b"]
    gate.set()
    assert (await first).found == {"b": b"done"}
    await asyncio.sleep(0.01)
    assert (await world.questions["c"].ask("slow", b"", ["b"])).found == {"b": b"done"}
