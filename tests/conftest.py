"""A test that needs an event loop runs on uvloop and on asyncio's own; no setting comes from the environment.

Marked ``@on_one_loop`` (tests/harness.py) it runs on uvloop alone, as users have it: a table of cases that no loop can
change, or a server that is a process of its own. Without the mark stay the cases where the loop can matter: transports,
flow control, timers, TLS, memory, shutdown, partial reads; and of each such table a few tests beside it.

asyncio's runs in its debug mode: callbacks from a wrong thread, what was never awaited and what was never closed fail.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Mapping

import hypothesis
import uvloop

from tests.harness import is_setting

for name in [name for name in os.environ if is_setting(name)]:
    del os.environ[name]

# The tests start some 200 processes: one that must not keep bytecode spends 0.1 s on compiling the package once more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No test trusts the machine's CA certificates, which aiohttp reads in 40 ms when it is imported.
os.environ["SSL_CERT_FILE"] = os.devnull


# No test is judged by its time: on a busy machine a deadline says nothing of what is tested.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": new_debug_loop}


def new_debug_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def pytest_collection_finish() -> None:
    """Take the tests themselves, 150,000 objects that stay, from what the garbage collector goes through."""
    gc.collect()
    gc.freeze()
