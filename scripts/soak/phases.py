"""The phases of a soak, one after the other. Each returns figures and checks invariants at its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
import attacks
from members import Member, Place, Wanderer, new_member, probe
from population import RATE, Population
from verdict import Figures, Verdict, percentile
from victim import Sample, Victim, until

from pubsub.client import Unreachable

KIB, MIB = 1 << 10, 1 << 20
STALLED = HOSTILE = 50
# At most twice the latency without bad clients. Below the second figure the difference is noise: on a shared disk or
# machine, `quiet` alone has 3 to 29 ms.
P99_FACTOR, P99_NOISE_MS = 2.0, 25.0
P99_BOUND_MS = 250.0  # in all phases without restarts
ANSWER_SECONDS = 1.0
FLAT_BYTES = 4 * MIB  # memory that differs by less is flat: fragmentation of the allocator
CONNECTS = 10_000
CROWD = 1000
NAMES = 10_000
BURST = 200  # publishes to each durable topic before the server is killed
LARGE_BYTES, LARGE_RATE = 20_000, 150  # of the flood that fills the buffers of stalled readers


@dataclass
class Stage:
    """The objects and options that all phases share. ``seconds``: of the whole soak. ``rounds``: of ``kill``.

    ``timed``: times are checked, not only reported.
    """

    victim: Victim
    verdict: Verdict
    population: Population
    random: Random
    seconds: float
    rounds: int
    timed: bool = True
    quiet: Figures = field(default_factory=dict)  # figures of good clients alone

    @property
    def place(self) -> Place:
        return self.population.place

    def check(self, phase: str, name: str, holds: bool, found: object = "") -> None:
        self.verdict.check(phase, name, holds, found)

    def check_findings(self, phase: str) -> None:
        findings = self.place.findings
        self.check(
            phase, "no message lost, duplicated or out of order", not findings.broken, "; ".join(findings.broken[:3])
        )
        findings.broken.clear()
        faults = self.population.faults
        self.check(phase, "publishes by REST are in their topics, in order", not faults, "; ".join(faults[:3]))
        closed = self.population.unexpected_ends()
        self.check(phase, "the server closed no good client", not closed, ", ".join(closed[:3]))

    def latency(self, phase: str, bound_of: Callable[[str], float] = lambda kind: P99_BOUND_MS) -> Figures:
        """Check the latencies and return their figures. ``bound_of`` gives the limit of a kind of topic, in ms."""
        by_kind, own = self.place.findings.take_latencies()
        figures: Figures = {"events": sum(map(len, by_kind.values()))}
        for kind, taken in by_kind.items():
            p99, bound = percentile(taken, 0.99), bound_of(kind)
            figures |= {f"{kind}_p50_ms": percentile(taken, 0.5), f"{kind}_p99_ms": p99}
            if self.timed:
                name = f"p99 of good clients of {kind} topics at most {bound:.0f} ms"
                self.check(phase, name, p99 <= bound, f"{p99:.1f} ms")
        return figures | {"driver_p99_ms": percentile(own, 0.99)}

    def check_waits(self, phase: str, waits: list[float]) -> None:
        if self.timed:
            longest = max(waits)
            name = "a new client is answered within a second"
            self.check(phase, name, longest <= ANSWER_SECONDS, f"{longest:.2f} s")


@asynccontextmanager
async def under_attack(stage: Stage, orders: list[attacks.Order], seconds: float) -> AsyncIterator[list[float]]:
    """Run bad clients in their own process; meanwhile a new client pings twice a second. Yields the waiting times."""
    waits: list[float] = []
    process = start_attackers(stage, orders, seconds)
    probing = asyncio.create_task(probe_often(stage, waits))
    try:
        yield waits
    finally:
        probing.cancel()
        early = process.poll()
        process.terminate()
        await asyncio.to_thread(process.wait)
        if early:
            raise RuntimeError((stage.victim.folder / "attackers").read_text()[-3000:])


def start_attackers(stage: Stage, orders: list[attacks.Order], seconds: float) -> subprocess.Popen[bytes]:
    victim = stage.victim
    command = [sys.executable, str(Path(__file__).with_name("attacks.py")), "--port", str(victim.port)]
    command += ["--topic", "plain.0", "--seconds", str(seconds), "--seed", str(stage.random.getrandbits(32))]
    command += [f"{order.kind}={order.count}" for order in orders]
    environment = {**os.environ, "ATTACKERS_TOKEN": stage.place.token("attacker")}
    with open(victim.folder / "attackers", "ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


async def probe_often(stage: Stage, waits: list[float]) -> None:
    while True:
        waits.append(await probe(stage.place, "probe"))
        await asyncio.sleep(0.5)


def a_few_of_each() -> list[attacks.Order]:
    """Return orders for HOSTILE bad clients, as evenly distributed as possible."""
    each, more = divmod(HOSTILE, len(attacks.HOSTILE))
    return [attacks.Order(kind, each + (number < more)) for number, kind in enumerate(attacks.HOSTILE)]


async def quiet(stage: Stage) -> Figures:
    """Run good clients alone."""
    await asyncio.sleep(1)
    stage.place.findings.take_latencies()
    begun = stage.victim.cpu_seconds()
    await asyncio.sleep(seconds := stage.seconds * 0.08)
    figures = stage.latency("quiet")
    figures["cpu_percent"] = 100 * (stage.victim.cpu_seconds() - begun) / seconds
    stage.quiet = figures
    stage.check_findings("quiet")
    return figures


async def crowd(stage: Stage) -> Figures:
    """Run good clients beside stalled and hostile clients."""
    seconds = stage.seconds * 0.15
    async with under_attack(stage, [attacks.Order("stall", STALLED), *a_few_of_each()], seconds + 30) as waits:
        await asyncio.sleep(2)
        stage.place.findings.take_latencies()
        begun = stage.victim.cpu_seconds()
        await asyncio.sleep(seconds)
        figures = stage.latency(
            "crowd", lambda kind: max(P99_FACTOR * stage.quiet.get(f"{kind}_p99_ms", 0), P99_NOISE_MS)
        )
        figures["cpu_percent"] = 100 * (stage.victim.cpu_seconds() - begun) / seconds
    figures["longest_wait_of_a_new_client_ms"] = 1000 * max(waits)
    stage.check_waits("crowd", waits)
    await stage.population.pause()
    stage.check_findings("crowd")
    stage.population.resume()
    return figures


async def connects(stage: Stage) -> Figures:
    """Clients connect, subscribe and disconnect, half of them without a close frame: no memory of them stays."""
    count = min(CONNECTS, int(stage.seconds * 80))
    await connect_and_go(stage, count // 5)
    before = await at_rest(stage)
    began = time.monotonic()
    await connect_and_go(stage, count)
    seconds = time.monotonic() - began
    after = await at_rest(stage)
    grown = after.rss - before.rss
    stage.check(
        "connects",
        f"memory within {FLAT_BYTES // MIB} MiB of what it was",
        grown <= FLAT_BYTES,
        f"{grown / KIB:+,.0f} KiB",
    )
    counts = f"{after.descriptors}, {before.descriptors} before"
    stage.check("connects", "descriptors as before", after.descriptors == before.descriptors, counts)
    await check_counts(stage, "connects")
    stage.check_findings("connects")
    figures = {"connects": count, "a_second": count / seconds, "grown_kib": grown / KIB}
    return figures | stage.latency("connects")


async def connect_and_go(stage: Stage, count: int) -> None:
    batch = 100
    for start in range(0, count, batch):
        await asyncio.gather(*(join_and_go(stage, number) for number in range(start, min(start + batch, count))))


async def join_and_go(stage: Stage, number: int) -> None:
    member = new_member(stage.place, f"short-lived-{number}")
    try:
        await member.join()
        member.request("subscribe", topic="plain.1")
        await member.answered()
    except (Unreachable, TimeoutError) as failure:
        stage.place.findings.broken.append(f"a short-lived client: {failure!r}")
    (member.vanish if number % 2 else member.close)()


async def at_rest(stage: Stage) -> Sample:
    """Sample the server's memory while only the good clients are connected and no message is in flight."""
    await stage.population.pause()
    await check_gone(stage)
    sample = stage.victim.sample()
    assert sample is not None, "the server runs"
    stage.population.resume()
    return sample


async def check_gone(stage: Stage) -> int:
    """Wait, with a limit, until the server has removed the disconnected clients; return its number of subscribers."""
    wanted = len(stage.population.everyone)
    await until(lambda: has_subscribers(stage.victim, wanted), 30)
    await asyncio.sleep(1.2)  # the server's time limit for a client after the close frames
    return int((await stage.victim.get("/health"))["subscribers"])


async def has_subscribers(victim: Victim, wanted: int) -> bool:
    return bool((await victim.get("/health"))["subscribers"] == wanted)


async def check_counts(stage: Stage, phase: str) -> None:
    found = await check_gone(stage)
    wanted = len(stage.population.everyone)
    stage.check(phase, "subscribers as before", found == wanted, f"{found} of {wanted}")
    rows = (await stage.victim.get("/topics"))["topics"]
    counts = {row["name"]: row["subscribers"] for row in rows if row["name"] in stage.population.topics}
    right = all(count == stage.population.subscribers_of(topic) for topic, count in counts.items())
    stage.check(phase, "each topic's subscribers as before", right, "" if right else counts)


async def wander(stage: Stage) -> Figures:
    """Many clients publish, subscribe and vanish at random, all at the same time."""
    topics = [f"wander.{number}" for number in range(20)]
    for topic in topics:
        await stage.victim.ask("POST", "/topics", {"name": topic})
    crowd_of = min(CROWD, int(stage.seconds * 8))
    wanderers = [
        Wanderer(stage.place, f"wanderer-{number}", topics, Random(stage.random.getrandbits(64)), calm=crowd_of / 100)
        for number in range(crowd_of)
    ]
    tasks = [asyncio.create_task(each.wander()) for each in wanderers]
    seconds = stage.seconds * 0.25
    await asyncio.sleep(seconds / 2)
    halfway = len(stage.victim.samples)
    await asyncio.sleep(seconds / 2)
    samples = stage.victim.samples[halfway:]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    figures = {"clients": crowd_of, "visits": sum(each.visits for each in wanderers), "seconds": seconds}
    figures |= stage.latency("wander")
    growth = mean_rss(samples[-len(samples) // 3 :]) - mean_rss(samples[: len(samples) // 3])
    stage.check("wander", "memory is flat", growth <= FLAT_BYTES, f"{growth / KIB:+,.0f} KiB")
    for topic in topics:
        await stage.victim.ask("DELETE", f"/topics/{topic}")
    await check_counts(stage, "wander")
    stage.check_findings("wander")
    return figures | {"grown_kib": growth / KIB}


def mean_rss(samples: list[Sample]) -> float:
    return sum(sample.rss for sample in samples) / max(1, len(samples))


# Maximum memory that one bad client of each kind may cost the server, in bytes: docs/security.md, Ceilings.
WRITE_BUFFER = 320 * KIB
CEILINGS: dict[str, int] = {
    "ask": WRITE_BUFFER + 1000 * 600,  # and one history answer of the maximum size
    "pings": WRITE_BUFFER,
    "fragment": MIB + MIB // 4,
    "largest": MIB + MIB // 4,
    "bombs": 2 * MIB + MIB // 4,  # compressed, and inflated up to the maximum size
    "nonsense": WRITE_BUFFER,
    "subscribes": WRITE_BUFFER,
    "topics": 50 * 4 * KIB,
    "crawl": 64 * KIB,
    "silent": 64 * KIB,
    "stall": WRITE_BUFFER + 100 * KIB,  # must run directly before replay: it fills a topic with large messages
    "replay": WRITE_BUFFER + 100 * KIB,  # requests these large messages
}
COMMON = 16 * MIB  # memory for requests in progress, and the allocator's overhead


async def ceilings(stage: Stage) -> Figures:
    """Run each attack alone, with many clients; check the server's highest memory, and that others are served."""
    figures: Figures = {}
    for kind, each in CEILINGS.items():
        figures |= await ceiling(stage, kind, each)
    await stage.population.pause()
    stage.check_findings("ceilings")
    stage.population.resume()
    stage.place.findings.take_latencies()
    return figures


async def ceiling(stage: Stage, kind: str, each: int) -> Figures:
    before = await at_rest(stage)
    large = len(stage.victim.samples)
    allowed = HOSTILE * each + COMMON
    if kind == "stall":
        allowed += 1000 * LARGE_BYTES  # the ring of the flooded topic
    async with under_attack(stage, [attacks.Order(kind, HOSTILE)], stage.seconds) as waits:
        await asyncio.gather(asyncio.sleep(stage.seconds * 0.02 + 2), *([flood(stage)] if kind == "stall" else []))
    peak = max(sample.rss for sample in stage.victim.samples[large:]) - before.rss
    phase = f"ceilings: {kind}"
    stage.check(phase, f"at most {allowed / MIB:.0f} MiB more", peak <= allowed, f"{peak / MIB:.1f} MiB")
    stage.check_waits(phase, waits)
    await drop_foreign_topics(stage)
    return {f"{kind}_mib": peak / MIB}


async def flood(stage: Stage) -> None:
    """Publish large messages to the topic of the stalled clients, until their kernel buffers are full and longer."""
    (publisher,) = (each.member for each in stage.population.publishers if each.topic == "plain.0")
    assert publisher is not None
    for _ in range(LARGE_RATE * 4):
        publisher.publish("plain.0", 0, "x" * LARGE_BYTES)
        await asyncio.sleep(1 / LARGE_RATE)


async def drop_foreign_topics(stage: Stage) -> None:
    for row in (await stage.victim.get("/topics"))["topics"]:
        if row["name"] not in stage.population.topics:
            await stage.victim.ask("DELETE", f"/topics/{row['name']}")


async def names(stage: Stage) -> Figures:
    """Create many topics with the longest names; one connection subscribes to all. Delete them, and repeat."""
    count = min(NAMES, int(stage.seconds * 80))
    every = [f"{number:05}{'.x' * 125}" for number in range(count)]
    before = await at_rest(stage)
    stage.place.findings.take_latencies()
    figures = await make_all_and_drop_all(stage, every)
    at_peak = max(sample.rss for sample in stage.victim.samples if sample.at > before.at) - before.rss
    first = await at_rest(stage)
    await make_all_and_drop_all(stage, every)
    second = await at_rest(stage)
    allowed = count * 3 * KIB + COMMON
    stage.check("names", f"at most {allowed / MIB:.0f} MiB more", at_peak <= allowed, f"{at_peak / MIB:.1f} MiB")
    grown = second.rss - first.rss
    stage.check("names", "memory is flat the second time", grown <= FLAT_BYTES, f"{grown / KIB:+,.0f} KiB")
    await check_counts(stage, "names")
    stage.check_findings("names")
    return {"topics": count, "mib": at_peak / MIB, "grown_kib": grown / KIB, **figures} | stage.latency("names")


async def make_all_and_drop_all(stage: Stage, every: list[str]) -> Figures:
    member = new_member(stage.place, "collector")
    await member.join()
    await make_and_join(stage, member, every)
    began = time.monotonic()
    for path in ("/stats", "/topics", "/health"):
        await stage.victim.get(path)
    listing = time.monotonic() - began
    member.vanish()
    await drop_foreign_topics(stage)
    return {"three_listings_ms": 1000 * listing}


async def make_and_join(stage: Stage, member: Member, every: list[str]) -> None:
    async with aiohttp.ClientSession(stage.victim.url) as http:
        for number, name in enumerate(every):
            async with http.post("/topics", json={"name": name}) as answer:
                assert answer.status == 201, await answer.text()
            member.request("subscribe", topic=name)
            if number % 200 == 0:
                await member.answered()
    await member.answered()


Restart = Callable[[signal.Signals], Awaitable[None]]


async def storm(stage: Stage, restart: Restart) -> Figures:
    """Run all clients at once, while the server is restarted again and again, by SIGTERM and by SIGKILL."""
    ends = time.monotonic() + stage.seconds * 0.25
    restarts = 0
    while time.monotonic() < ends:
        async with under_attack(stage, [attacks.Order("stall", 20), *a_few_of_each()], stage.seconds):
            await asyncio.sleep(3)
            await stage.population.reconnect_some(share=4)
            await asyncio.sleep(3)
        await stage.population.settle()
        stage.check_findings("storm")
        await restart(signal.SIGKILL if restarts % 3 == 2 else signal.SIGTERM)
        restarts += 1
    await stage.population.pause()
    await stage.population.read_again()
    stage.check_findings("storm")
    stage.population.resume()
    stage.place.findings.take_latencies()
    return {"restarts": restarts, "resumes": stage.place.findings.resumes, "publish_rate": RATE}


async def kill(stage: Stage, restart: Restart) -> Figures:
    """Send SIGKILL again and again, each time while the server writes a burst of publishes to the disk."""
    findings = stage.place.findings
    acks, resumes, began = findings.acks, findings.resumes, time.monotonic()
    cut_off = 0
    for _ in range(stage.rounds):
        await asyncio.sleep(stage.random.uniform(0, 0.3))
        stage.population.publish_bursts(BURST)
        await asyncio.sleep(stage.random.uniform(0, 0.015))
        cut_off += stage.population.unanswered
        await restart(signal.SIGKILL)
        await stage.population.settle()
        stage.check_findings("kill")
    await stage.population.pause()
    await stage.population.read_again()
    stage.check_findings("kill")
    stage.population.resume()
    findings.take_latencies()
    return {
        "rounds": stage.rounds,
        "acks": findings.acks - acks,
        "publishes_cut_off": cut_off,
        "resumes": findings.resumes - resumes,
        "seconds": time.monotonic() - began,
    }
