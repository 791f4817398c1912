"""The page of the sensors: a plot for each topic, which goes on after a restart of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.examples.pages import check_looks, wait_for_state
from tests.examples.programs import ExampleServer, Program

if TYPE_CHECKING:
    from playwright.sync_api import Page

DRAWN = """() => [...document.querySelectorAll("canvas")].every(canvas => canvas.width > 0
    && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(value => value > 0))"""


@pytest.fixture(autouse=True)
def programs(server: ExampleServer, site_port: int) -> Iterator[None]:
    with (
        Program("http.server 8000", "Serving HTTP", port=site_port),
        Program("sensors.sensor", PUBSUB_URL=server.url),
    ):
        yield


def test_the_plots_go_on_after_a_restart(open_page: Callable[[str], Page], server: ExampleServer) -> None:
    page = open_page("/sensors/")
    page.wait_for_function("document.querySelectorAll('.value').length === 3")
    page.wait_for_function(DRAWN)
    server.stop()
    wait_for_state(page, "connecting")
    server.start()
    wait_for_state(page, "open")
    shown = page.inner_text(".value")
    page.wait_for_function("shown => document.querySelector('.value').textContent !== shown", arg=shown)
    assert sorted(page.locator("h2").all_inner_texts()) == ["sensors.boiler", "sensors.cellar", "sensors.wind"]
    check_looks(page)
