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

# Measured on one machine: docs/scaling.md, Sizes and costs, says how. µs are CPU of the process that is named.
PAYLOAD = 200  # bytes of each message
RECORD = 0  # bytes of one message on the way from Redis to one server
PUSH_ALONE_US = 5.2  # Redis: a record to one server, if nothing else goes there at that moment
PUSH_TOGETHER_US = 0.42  # Redis: the same, if 20 go there together
APPEND_US = 0.0  # Redis: one message, without the pushes
RECEIVE_US = 0.0  # a server: one message of another server
PUBLISH_US = 0.0  # a server: one message that is published there, beside what it costs without an engine
KEPT = 0  # bytes of Redis' memory for one kept message
TOPIC_IN_REDIS = 0  # bytes of Redis' memory for one topic
TOPIC_IN_SERVER = 0  # bytes of a server's memory for one topic
STATE = 0  # bytes for one topic, which a server gets when it connects
STATE_US = 0.0  # a server: one topic, when it connects
STATE_IN_REDIS_US = 0.0  # Redis: the same
CONNECTION = 2.57 * KIB  # of a server's memory
CONNECT_US = 142.0  # a server: one client that connects
HISTORY = 100  # messages that a topic keeps

# The limits that the last column compares with. A core that is always full has a queue that grows.
FULL_CORE = 0.7
NETWORK = 10 * GIGABIT * 0.7  # of the machine of a Redis
MEMORY = 64 * GIB  # of that machine
SERVER_MEMORY = 4 * GIB
SPREAD_SEC = 60.0  # in which all clients of a cluster may reconnect, and all servers
SERVER_SHARE = 0.5  # of a server's core for messages that come from Redis: the rest is for its clients


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
    def pushes(self) -> float:
        """Records from one Redis to all servers in a second, with the signs of life."""
        return (self.messages / self.engines + self.beats) * self.servers

    @property
    def beats(self) -> float:
        """Signs of life of all servers in a second; they go by one Redis."""
        return self.servers / BEAT


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


def redis_core(plan: Plan) -> float:
    """Cores of one Redis: between alone and together, as pushes to a busy Redis go together more and more."""
    alone = plan.pushes * PUSH_ALONE_US / 1e6
    together = plan.pushes * PUSH_TOGETHER_US / 1e6
    return plan.messages / plan.engines * APPEND_US / 1e6 + max(together, min(alone, 0.5))


NEEDS = [
    Need("Redis: CPU", redis_core, FULL_CORE, cores),
    Need("Redis: output", lambda plan: plan.pushes * RECORD, NETWORK, gigabits),
    Need(
        "Redis: memory",
        lambda plan: plan.topics * (TOPIC_IN_REDIS + HISTORY * KEPT) / plan.engines,
        MEMORY,
        size,
    ),
    Need(
        "a server: CPU for messages of others and signs of life",
        lambda plan: (plan.messages + plan.beats) * RECEIVE_US / 1e6,
        SERVER_SHARE,
        cores,
    ),
    Need("a server: memory for topics", lambda plan: plan.topics * TOPIC_IN_SERVER, SERVER_MEMORY, size),
    Need("a server: memory for connections", lambda plan: plan.clients * CONNECTION, SERVER_MEMORY, size),
    Need(
        "all servers connect to Redis again: time at the speed of its network",
        lambda plan: plan.servers * plan.topics * STATE / plan.engines / (10 * GIGABIT),
        SPREAD_SEC,
        seconds,
    ),
    Need(
        "the same: CPU of Redis",
        lambda plan: plan.servers * plan.topics * STATE_IN_REDIS_US / plan.engines / 1e6,
        SPREAD_SEC,
        seconds,
    ),
    Need("the same: CPU of a server", lambda plan: plan.topics * STATE_US / 1e6, SPREAD_SEC, seconds),
    Need(
        "all clients connect again: CPU of a server",
        lambda plan: plan.clients * CONNECT_US / 1e6,
        SPREAD_SEC,
        seconds,
    ),
]

PLANS = [
    Plan(3, 30_000, 1_000, 1_000),
    Plan(10, 100_000, 10_000, 5_000),
    Plan(100, 1_000_000, 100_000, 5_000),
    Plan(100, 1_000_000, 100_000, 5_000, engines=8),
    Plan(1_000, 10_000_000, 100_000, 5_000, engines=8),
    Plan(1_000, 10_000_000, 100_000, 5_000, engines=64),
]


def table(plans: Sequence[Plan]) -> str:
    """Return the table in Markdown, with what is beyond a limit in bold."""
    columns = [
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
    print(table([Plan(*own, chosen.engines)] if all(own) else PLANS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
