"""What a run tells: a line a second and a table on standard error, one line of JSON on standard output."""

import asyncio
import os
import sys
from contextlib import suppress
from typing import Any, Final

import msgspec

from pubsub.bench.plan import Plan
from pubsub.bench.run import Result, Run, Stage
from pubsub.client.address import without_password
from pubsub.client.terminal import escape

BUSY: Final = 0.9
"""With this share of a core the client may be what was measured."""
_ERASE_TO_END: Final = "\x1b[K"


async def show_progress(run: Run) -> None:
    """A line a second, on a terminal always the same. Never returns."""
    deliveries = acknowledged = 0
    seconds = 0
    while True:
        if run.stage is Stage.CONNECTING:
            _show_passing(f"connected {run.connected:,} of {run.plan.subscribers:,} subscribers")
        elif run.stage is Stage.PUBLISHING:
            before = deliveries, acknowledged
            deliveries, acknowledged = run.deliveries, run.acknowledged
            if seconds:
                _show_passing(f"{seconds:3} s: {deliveries - before[0]:,} deliveries/s, {acknowledged - before[1]:,} "
                              f"publishes/s, {run.missed:,} missed")  # fmt: skip
            seconds += 1
        else:
            _show_passing("waiting for what is under way")
        await asyncio.sleep(1)


def _show_passing(text: str) -> None:
    if sys.stderr.isatty():
        _tell(f"\r{text}{_ERASE_TO_END}")
    else:
        _tell(f"{text}\n")


def remark(text: str) -> None:
    """For a person: a failure, or something odd."""
    start = f"\r{_ERASE_TO_END}" if sys.stderr.isatty() else ""
    _tell(f"{start}pubsub bench: {escape(text)}\n")


def _tell(text: str) -> None:
    """A standard error that nobody reads any more ends no run."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def report(plan: Plan, result: Result, *, interrupted: bool) -> None:
    start = f"\r{_ERASE_TO_END}" if sys.stderr.isatty() else ""
    _tell(start + table(plan, result, interrupted=interrupted))
    try:
        print(json_line(plan, result, interrupted=interrupted), flush=True)
    except BrokenPipeError:
        # What is still buffered goes nowhere, or Python complains about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(plan: Plan, result: Result, *, interrupted: bool) -> str:
    pace = f"{plan.rate:,} messages/s" if plan.rate else f"{plan.window:,} in flight"
    latencies = "   ".join(f"{name} {_spell(each)}" for name, each in result.latencies.items())
    lines = [
        f"{plan.subscribers:,} subscribers, {pace}, payloads of {plan.size:,} bytes, {result.seconds:.1f} s"
        + (" (interrupted)" if interrupted else ""),
        f"  publishes   {_per_second(result.acknowledged, result):>12,}/s  {result.acknowledged:>14,} acknowledged",
        f"  deliveries  {_per_second(result.deliveries, result):>12,}/s  {result.deliveries:>14,}",
        f"  latency     {latencies} (ms)",
        f"  lost {result.lost:,}, of which the server told {result.dropped:,}; duplicated {result.duplicated:,}; "
        f"disordered {result.disordered:,}",
        f"  client CPU  {result.client_cpu:.0%} of a core",
        *(f"  fault: {escape(each)}" for each in result.faults),
    ]
    if result.unsent:
        lines.append(f"  {result.unsent:,} messages were due and not sent: the server was too far behind")
    if result.client_cpu > BUSY:
        lines.append("  The client was the bottleneck: the server can do more than this.")
    return "\n".join(lines) + "\n"


def _spell(nanoseconds: int | None) -> str:
    return "-" if nanoseconds is None else f"{nanoseconds / 1e6:.2f}"


def _per_second(count: int, result: Result) -> int:
    return round(count / result.seconds) if result.seconds else 0


def json_line(plan: Plan, result: Result, *, interrupted: bool) -> str:
    told: dict[str, Any] = {
        "url": without_password(plan.base),
        "topic": plan.topic,
        "subscribers": plan.subscribers,
        "rate": plan.rate,
        "window": plan.window,
        "size": plan.size,
        "seconds": round(result.seconds, 3),
        "published": result.published,
        "acknowledged": result.acknowledged,
        "unsent": result.unsent,
        "deliveries": result.deliveries,
        "publishes_per_sec": _per_second(result.acknowledged, result),
        "deliveries_per_sec": _per_second(result.deliveries, result),
        "latency_ms": {name: None if each is None else round(each / 1e6, 3) for name, each in result.latencies.items()},
        "lost": result.lost,
        "duplicated": result.duplicated,
        "disordered": result.disordered,
        "dropped": result.dropped,
        "faults": result.faults,
        "client_cpu": round(result.client_cpu, 3),
        "client_was_bottleneck": result.client_cpu > BUSY,
        "interrupted": interrupted,
    }
    return msgspec.json.encode(told).decode()
