"""Fixtures of the examples: one server, and one browser to which localhost:8080 and localhost:8000 are free ports.

They are those of all tests of this folder in a process, because a browser takes a second to start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.examples.programs import SITE, ExampleServer
from tests.harness import PATIENCE, free_port
from tests.http.test_chromium import CHROMIUM, FLAGS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="package")
def site_port() -> int:
    return free_port()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleServer]:
    with ExampleServer(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture(scope="package")
def browser(server: ExampleServer, site_port: int) -> Iterator[Browser]:
    if CHROMIUM is None:
        assert os.environ.get("CI") != "true", "needs chromium: apt-get install chromium"
        pytest.skip("needs chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # here, because not every test process must load it

    hosts = f"MAP localhost:8080 127.0.0.1:{server.port},MAP localhost:8000 127.0.0.1:{site_port}"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, f"--host-resolver-rules={hosts}"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Open a page as another visitor: nothing is shared with the other pages. An error of its script fails the test."""
    contexts, errors = [], []

    def open_page(path: str) -> Page:
        context = browser.new_context()
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{SITE}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
