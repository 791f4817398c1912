"""The load generator, ``python -m pubsub bench``: loads a server of the user's own, and measures it.

It must never import the server: it knows the protocol alone, as any client does.

The topic and the errors are those of the Python client. The load itself has connections and frames of its own: a
delivery costs 0.12 µs so, and a publish 2 µs. The client needs 1.5 and 16 µs, which would be measured with the server.
It also mends losses, and here they have to be seen.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pubsub.bench.plan import Plan, read_plan
from pubsub.bench.report import remark, report, show_progress
from pubsub.bench.run import Run
from pubsub.client import Refused, Unreachable
from pubsub.client.rest import RestClient, open_http

__all__ = ["run_bench"]

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
KILLED: Final = 128  # added to the number of the signal that ended a program, it is the exit status


def run_bench(flags: list[str], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None) -> int:
    """Load and measure a server; return the exit status, which ``--help`` explains."""
    plan = read_plan(flags)
    _allow_many_descriptors()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(_bench(plan))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return KILLED + signal.SIGINT


def _allow_many_descriptors() -> None:
    """Raise the limit of open files as far as the system allows: each client needs one."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _bench(plan: Plan) -> int:
    run = Run(plan)
    signals = _stop_at_signals(run)
    try:
        async with open_http(plan.credentials) as http:
            await _measure(run, RestClient(http, plan.base))
    except (Refused, Unreachable) as error:
        remark("; ".join([str(error), *run.faults]))
        return 1
    result = run.result()
    if not result.published and not signals:
        remark("; ".join(result.faults))
        return 1
    report(plan, result, interrupted=bool(signals))
    if signals:
        return KILLED + signals[0]
    return 0 if result.is_flawless else 1


def _stop_at_signals(run: Run) -> list[signal.Signals]:
    """End the run at the first signal as after its time, at the second at once; the topic is deleted at both."""
    received: list[signal.Signals] = []
    task = asyncio.current_task()
    assert task is not None, "a coroutine that runs has a task"

    def receive(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            run.stop()
        else:
            task.cancel()

    for number in SIGNALS:
        with suppress(NotImplementedError):  # on Windows the first Ctrl-C ends the run at once
            asyncio.get_running_loop().add_signal_handler(number, receive, number)
    return received


async def _measure(run: Run, rest: RestClient) -> None:
    """Create the topic, run, delete the topic; raises Refused and Unreachable."""
    await rest.create(run.plan.topic, {})
    progress = asyncio.create_task(show_progress(run))
    try:
        await run.connect()
        await run.measure()
    finally:
        progress.cancel()
        run.close()
        await _delete_topic(run, rest)


async def _delete_topic(run: Run, rest: RestClient) -> None:
    try:
        await rest.delete(run.plan.topic)
    except (Refused, Unreachable) as error:
        run.faults.append(f"the topic {run.plan.topic} could not be deleted: {error}")
