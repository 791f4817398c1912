"""The page of the sensors: a plot for each topic, with a break where the page was offline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.examples.pages import check_looks, wait_for_state
from tests.examples.programs import ExampleServer, Program, get, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

TOPICS = ["sensors.boiler", "sensors.cellar", "sensors.wind"]
# True if every plot looks so, with "#" for a column that has a pixel.
PLOTS = """pattern => [...document.querySelectorAll("canvas")].every(canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const drawn = Array.from({ length: canvas.width }, (_, x) =>
        Array.from({ length: canvas.height }, (_, y) => data[4 * (y * canvas.width + x) + 3]).some(Boolean) ? "#" : " "
    );
    return new RegExp(pattern).test(drawn.join(""));
})"""
LINE, BROKEN_LINE = "##", "#   +#"


@pytest.fixture(autouse=True)
def programs(server: ExampleServer, site_port: int) -> Iterator[None]:
    with (
        Program("http.server 8000", "Serving HTTP", port=site_port),
        Program("sensors.sensor", PUBSUB_URL=server.url),
    ):
        yield


def test_a_gap_is_a_break_in_the_line(open_page: Callable[[str], Page], server: ExampleServer) -> None:
    page = open_page("/sensors/")
    page.wait_for_function("document.querySelectorAll('.value').length === 3")
    assert sorted(page.locator("h2").all_inner_texts()) == TOPICS
    page.wait_for_function(PLOTS, arg=LINE)  # one reading is not yet a line that can break
    assert not page.evaluate(PLOTS, BROKEN_LINE)
    page.context.set_offline(True)
    wait_for_state(page, "connecting")
    missed = {topic: newest(server, topic) + 2 for topic in TOPICS}
    wait_until(lambda: all(newest(server, topic) > seq for topic, seq in missed.items()))
    page.context.set_offline(False)
    wait_for_state(page, "open")
    page.wait_for_function(PLOTS, arg=BROKEN_LINE)
    check_looks(page)


def newest(server: ExampleServer, topic: str) -> int:
    return int(get(f"{server.url}/topics/{topic}")["seq"])
