"""Calculates what several servers on Redis need, and what ends first: the tables of docs/scaling.md.

    python scripts/capacity.py                                    # the tables of the document
    python scripts/capacity.py --servers 50 --connections 400000 --topics 20000 --messages 3000 --engines 2

It multiplies figures that were measured (FIGURES). It knows nothing of the delivery inside a server, which costs what
it costs without an engine (docs/performance.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pubsub.cluster.members import BEAT

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
GIGABIT = 125_000_000  # bytes a second

# Measured on one machine, with payloads of 200 bytes: docs/scaling.md, Sizes and costs. µs are CPU time.
RECORD = 308  # bytes of a message on the way from Redis to one server
BATCH_US = 66.0  # Redis: what a server publishes in one turn of its loop
APPEND_US = 7.0  # Redis: each message in it
WRITE_US = 5.5  # Redis: to write to the connection of one server
PUSH_US = 0.2  # Redis: each message in such a write
TURN_US = 26.0  # a server: what has come from Redis in one turn of its loop
RECEIVE_US = 1.8  # a server: each message in it
KEPT = 337  # bytes of Redis' memory for one kept message
TOPIC_IN_REDIS = 123  # bytes of Redis' memory for one topic
TOPIC_IN_SERVER = 770  # bytes of a server's memory for one topic
STATE = 79  # bytes for one topic, which a server gets when it connects
STATE_US = 11.0  # a server: one topic, when it connects
STATE_IN_REDIS_US = 0.8  # Redis: the same
CONNECTION = 2.57 * KIB  # of a server's memory
CONNECT_US = 142.0  # a server: one client that connects
PRESENT = 234  # bytes of a server's memory for one client of another server in a topic with presence
PRESENT_US = 2.3  # a server: such a client that comes or goes

HISTORY = 100  # messages that a topic keeps
GATHER_SEC = 0.02  # a Redis that is busy writes what has come in this time at once
TURNS = 500  # of the loop of a busy server in a second
# The limits that the last column compares with. A core that is always full has a queue that grows.
FULL_CORE = 0.7
NETWORK = 7 * GIGABIT  # of the machine of a Redis, with 10 Gbit/s
REDIS_MEMORY = 64 * GIB
SERVER_MEMORY = 4 * GIB
SERVER_SHARE = 0.5  # of a server's core for what comes from Redis: the rest is for its clients
STORM_SEC = 60.0  # in which everybody may be back after the end of Redis, of the load balancer, or of a data center


@dataclass(frozen=True)
class Plan:
    """A deployment. ``messages``: published in a second, in all. ``engines``: instances of Redis."""

    servers: int
    connections: int
    topics: int
    messages: int
    engines: int = 1

    @property
    def clients(self) -> float:
        """Connections of one server."""
        return self.connections / self.servers

    @property
    def beats(self) -> float:
        """Signs of life of all servers in a second. They go by one Redis."""
        return self.servers / BEAT

    @property
    def records(self) -> float:
        """Records that the busiest Redis sends to each server in a second."""
        return self.messages / self.engines + self.beats


@dataclass(frozen=True)
class Need:
    """A row of the table. ``limit``: in the unit of ``of``; ``shown`` makes text of a value."""

    name: str
    of: Callable[[Plan], float]
    limit: float
    shown: Callable[[float], str]


def cores(value: float) -> str:
    return f"{value:.2f} cores" if value >= 0.005 else "0 cores"


def size(value: float) -> str:
    unit, name = (GIB, "GiB") if value >= GIB else (MIB, "MiB")
    return f"{value / unit:,.1f} {name}"


def gigabits(value: float) -> str:
    return f"{value / GIGABIT:.2f} Gbit/s"


def seconds(value: float) -> str:
    return f"{value:,.1f} s"


def redis_cores(plan: Plan) -> float:
    """Cores of the busiest Redis. Where it is not busy it gathers less and takes more, but not too much."""
    writes = min(plan.records, 1 / GATHER_SEC) * plan.servers
    pushes = plan.records * plan.servers
    messages = plan.messages / plan.engines
    batches = min(messages, plan.servers * TURNS) + plan.beats
    return (batches * BATCH_US + messages * APPEND_US + writes * WRITE_US + pushes * PUSH_US) / 1e6


def redis_memory(plan: Plan) -> float:
    return plan.topics * (TOPIC_IN_REDIS + HISTORY * KEPT) / plan.engines


def receiving_cores(plan: Plan) -> float:
    received = plan.messages + plan.beats
    return (min(received, TURNS) * TURN_US + received * RECEIVE_US) / 1e6


def states(plan: Plan) -> float:
    """Topics that one Redis tells when all servers connect."""
    return plan.servers * plan.topics / plan.engines


NEEDS = [
    Need("Redis: CPU", redis_cores, FULL_CORE, cores),
    Need("Redis: output", lambda plan: plan.records * plan.servers * RECORD, NETWORK, gigabits),
    Need("Redis: memory", redis_memory, REDIS_MEMORY, size),
    Need("server: CPU for what others publish", receiving_cores, SERVER_SHARE, cores),
    Need("server: memory for topics", lambda plan: plan.topics * TOPIC_IN_SERVER, SERVER_MEMORY, size),
    Need("server: memory for its clients", lambda plan: plan.clients * CONNECTION, SERVER_MEMORY, size),
    Need("server: memory for presence of all clients", lambda plan: plan.connections * PRESENT, SERVER_MEMORY, size),
    Need("Redis returns: its CPU", lambda plan: states(plan) * STATE_IN_REDIS_US / 1e6, STORM_SEC, seconds),
    Need("Redis returns: its network", lambda plan: states(plan) * STATE / NETWORK, STORM_SEC, seconds),
    Need("Redis returns: CPU of a server", lambda plan: plan.topics * STATE_US / 1e6, STORM_SEC, seconds),
    Need("all clients reconnect: CPU of a server", lambda plan: plan.clients * CONNECT_US / 1e6, STORM_SEC, seconds),
    Need(
        "the same with presence: CPU of a server", lambda plan: plan.connections * PRESENT_US / 1e6, STORM_SEC, seconds
    ),
]

PLANS = [
    Plan(3, 30_000, 1_000, 1_000),
    Plan(10, 100_000, 10_000, 5_000),
    Plan(100, 1_000_000, 100_000, 10_000),
    Plan(100, 1_000_000, 100_000, 10_000, engines=4),
    Plan(1_000, 10_000_000, 100_000, 10_000, engines=4),
    Plan(1_000, 10_000_000, 100_000, 10_000, engines=16),
    Plan(1_000, 10_000_000, 100_000, 300_000, engines=300),
]


def table(plans: Sequence[Plan]) -> str:
    """Return the table in Markdown, with what is beyond a limit in bold."""
    columns: list[tuple[str, Callable[[Plan], str]]] = [
        ("servers", lambda plan: f"{plan.servers:,}"),
        ("connections", lambda plan: f"{plan.connections:,}"),
        ("topics", lambda plan: f"{plan.topics:,}"),
        ("messages a second", lambda plan: f"{plan.messages:,}"),
        ("instances of Redis", lambda plan: f"{plan.engines:,}"),
    ]
    rows = [[name, *(shown(plan) for plan in plans), ""] for name, shown in columns]
    for need in NEEDS:
        rows.append([need.name, *(told(need, plan) for plan in plans), need.shown(need.limit)])
    rows.append(["nearest to its limit", *(nearest(plan) for plan in plans), ""])
    header = ["", *(str(number) for number in range(1, len(plans) + 1)), "limit"]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def told(need: Need, plan: Plan) -> str:
    value = need.of(plan)
    text = need.shown(value)
    return f"**{text}**" if value > need.limit else text


def nearest(plan: Plan) -> str:
    need = max(NEEDS, key=lambda each: each.of(plan) / each.limit)
    return f"{need.name}: {100 * need.of(plan) / need.limit:,.0f} %"


def main() -> int:
    parser = argparse.ArgumentParser(description="Calculate what several servers on Redis need.")
    for name in ("servers", "connections", "topics", "messages"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--engines", type=int, default=1, help="instances of Redis (default: 1)")
    chosen = parser.parse_args()
    own = [chosen.servers, chosen.connections, chosen.topics, chosen.messages]
    if any(own) and not all(own):
        parser.error("expected --servers, --connections, --topics and --messages together")
    servers, connections, topics, messages = own
    print(table([Plan(servers, connections, topics, messages, chosen.engines)] if all(own) else PLANS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
