"""Fixtures for all tests: each async test runs on uvloop and on asyncio; no setting comes from the environment.

A test marked ``@on_one_loop`` (tests/harness.py) runs only on uvloop, the loop of users: a table of cases that no loop
can change, or a server in its own process. Tests without the mark cover subjects that a loop can change: transports,
flow control, timers, TLS, memory, shutdown, partial reads. A few such tests stand beside each table.

asyncio's loop runs in debug mode: a callback from a wrong thread, and an object not awaited or not closed, fail a test.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Generator, Mapping

import hypothesis
import pytest
import uvloop

from tests.harness import is_setting

for name in [name for name in os.environ if is_setting(name)]:
    del os.environ[name]

# The tests start about 200 processes: a process without a bytecode cache spends 0.1 s to compile the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell starts what it runs in the background with SIGINT ignored, and so would every process of a test be.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test uses the machine's CA certificates, which aiohttp loads in 40 ms at its import.
os.environ["SSL_CERT_FILE"] = os.devnull


# No deadline for an example: on a busy machine a deadline says nothing about the code under test.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": new_debug_loop}


def new_debug_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take long, so that none of them is the last one that runs."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude the tests themselves, 150,000 permanent objects, from the work of the garbage collector."""
    gc.disable()
    collected = yield
    gc.collect()
    gc.freeze()
    gc.enable()
    return collected
