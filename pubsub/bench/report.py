"""The report of a run: progress and a table on standard error, a line of JSON on standard output. It never measures."""

import asyncio
import sys
from contextlib import suppress
from typing import Any, Final

import msgspec

from pubsub.bench.plan import Plan, Transport
from pubsub.bench.run import Result, Run, Stage
from pubsub.client.address import without_password
from pubsub.client.terminal import discard_output, escape

BUSY: Final = 0.9
"""Above this share of a core the client may have been the bottleneck."""
_ERASE_TO_END: Final = "\x1b[K"


async def show_progress(run: Run) -> None:
    """Show progress once a second, on a terminal in one line. Never returns."""
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
            _show_passing("waiting for messages in flight")
        await asyncio.sleep(1)


def _show_passing(text: str) -> None:
    if sys.stderr.isatty():
        _write(f"\r{text}{_ERASE_TO_END}")
    else:
        _write(f"{text}\n")


def remark(text: str) -> None:
    """Show a failure on standard error."""
    start = f"\r{_ERASE_TO_END}" if sys.stderr.isatty() else ""
    _write(f"{start}pubsub bench: {escape(text)}\n")


def _write(text: str) -> None:
    """Write to standard error; the run goes on if nobody reads it any more."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def report(plan: Plan, result: Result, *, interrupted: bool) -> None:
    start = f"\r{_ERASE_TO_END}" if sys.stderr.isatty() else ""
    _write(start + table(plan, result, interrupted=interrupted))
    try:
        print(json_line(plan, result, interrupted=interrupted), flush=True)
    except BrokenPipeError:
        discard_output(sys.stdout)


def table(plan: Plan, result: Result, *, interrupted: bool) -> str:
    pace = f"{plan.rate:,} messages/s" if plan.rate else f"{plan.window:,} in flight"
    latencies = "   ".join(f"{name} {_milliseconds(each)}" for name, each in result.latencies.items())
    lines = [
        f"{_describe_clients(plan)}, {pace}, payloads of {plan.size:,} bytes, {result.seconds:.1f} s"
        + (" (interrupted)" if interrupted else ""),
        f"  publishes   {_per_second(result.acknowledged, result):>12,}/s  {result.acknowledged:>14,} acknowledged",
        f"  deliveries  {_per_second(result.deliveries, result):>12,}/s  {result.deliveries:>14,}",
        f"  received    {result.received_bytes:>14,} bytes  {_each(result):>9,} a delivery, "
        f"{result.compressed:,} compressed",
        f"  latency     {latencies} (ms)",
        f"  lost {result.lost:,}, of which the server reported {result.dropped:,}; duplicated {result.duplicated:,}; "
        f"disordered {result.disordered:,}",
        f"  client CPU  {result.client_cpu:.0%} of a core",
        *(f"  fault: {escape(each)}" for each in result.faults),
    ]
    if result.unsent:
        lines.append(f"  {result.unsent:,} messages were due and not sent: the server was too far behind")
    if result.client_cpu > BUSY:
        lines.append("  The client was the bottleneck: the server can do more than this.")
    return "\n".join(lines) + "\n"


def _describe_clients(plan: Plan) -> str:
    transport = " over SSE" if plan.transport is Transport.SSE else " with compression" if plan.compress else ""
    filters = f" with {plan.filters:,} filters that differ in {plan.filters_by}" if plan.filters else ""
    patterns = f" and {plan.patterns:,} idle patterns" if plan.patterns else ""
    return f"{plan.subscribers:,} subscribers{transport}{filters}{patterns}"


def _milliseconds(nanoseconds: int | None) -> str:
    return "-" if nanoseconds is None else f"{nanoseconds / 1e6:.2f}"


def _each(result: Result) -> int:
    return round(result.received_bytes / result.deliveries) if result.deliveries else 0


def _per_second(count: int, result: Result) -> int:
    return round(count / result.seconds) if result.seconds else 0


def json_line(plan: Plan, result: Result, *, interrupted: bool) -> str:
    fields: dict[str, Any] = {
        "url": without_password(plan.base),
        "topic": plan.topic,
        "subscribers": plan.subscribers,
        "transport": plan.transport,
        "compress": plan.compress,
        "filters": plan.filters,
        "filters_by": plan.filters_by,
        "patterns": plan.patterns,
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
        "received_bytes": result.received_bytes,
        "compressed": result.compressed,
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
    return msgspec.json.encode(fields).decode()
