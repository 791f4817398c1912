"""FastAPI and Django with four workers: what any worker publishes reaches every page."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.examples.pages import check_looks, wait_for_state
from tests.examples.programs import ExampleServer, Program, post

if TYPE_CHECKING:
    from playwright.sync_api import Page

WORKERS = 4
NEWS = 40


@pytest.mark.parametrize(
    ("program", "ready"), [("fastapi_app", "Application startup complete"), ("gunicorn", "Booting worker")]
)
def test_news_of_any_worker_reaches_each_page(
    open_page: Callable[[str], Page], server: ExampleServer, site_port: int, program: str, ready: str
) -> None:
    with Program(program, ready, port=site_port, count=WORKERS, PUBSUB_URL=server.url):
        pages = [open_page("/fastapi/index.html") for _ in range(3)]
        for page in pages:
            wait_for_state(page, "open")
        with ThreadPoolExecutor(8) as threads:
            workers = set(threads.map(lambda number: tell(site_port, f"{program} {number}"), range(NEWS)))
        assert len(workers) > 1
        for page in pages:
            page.wait_for_function(f"document.querySelectorAll('#news li').length >= {NEWS}")
            texts = [text for text in page.locator("#news li span:first-child").all_inner_texts() if program in text]
            assert sorted(texts) == sorted(f"{program} {number}" for number in range(NEWS))
        check_looks(pages[0])


def tell(port: int, text: str) -> int:
    """Have some worker publish a text; return the number of its process."""
    return int(post(f"http://127.0.0.1:{port}/news", json.dumps({"text": text}))["worker"])
