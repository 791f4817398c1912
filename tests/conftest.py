"""Every test that needs an event loop runs on uvloop and on asyncio's own; no setting comes from the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

import uvloop

from tests.harness import is_setting

for name in [name for name in os.environ if is_setting(name)]:
    del os.environ[name]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
