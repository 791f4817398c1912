"""The order board: state and stream without a hole, over the death of the server and of the application."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.examples.pages import check_looks, wait_for_texts
from tests.examples.programs import ExampleServer, Program, get, post
from tests.harness import PATIENCE, free_port

if TYPE_CHECKING:
    from playwright.sync_api import Page


def start_board(server: str, port: int, folder: Path) -> Program:
    return Program("orders.board", "Running on", port=port, PUBSUB_URL=server, ORDERS_DB=str(folder / "orders.db"))


def test_two_pages_show_each_change(
    open_page: Callable[[str], Page], server: ExampleServer, site_port: int, tmp_path: Path
) -> None:
    with start_board(server.url, site_port, tmp_path):
        add(site_port, "tea")
        first, second = open_page("/orders/index.html"), open_page("/orders/index.html")
        for page in (first, second):
            wait_for_texts(page, "#orders span", "tea")  # the loaded state
        first.focus("#what")
        first.keyboard.type("<b>cups</b>")
        first.keyboard.press("Enter")
        second.wait_for_selector("#order-2")
        second.focus("#order-1 button")
        second.keyboard.press("Enter")
        for page in (first, second):
            wait_for_texts(page, "#orders span", "tea", "<b>cups</b>")
            wait_for_texts(page, "#orders em", "paid", "new")
        assert second.evaluate("document.activeElement.closest('li').id") == "order-1"
        check_looks(first)


def test_a_change_is_published_once_over_kills(tmp_path: Path) -> None:
    """Orders change while the server is away. Then the application is killed again and again, once it has published."""
    port, board_port = free_port(), free_port()
    with start_board(f"http://127.0.0.1:{port}", board_port, tmp_path):
        for what in ("tea", "cups"):
            add(board_port, what)
    with ExampleServer(tmp_path, port) as server:
        for count in (3, 4, 5):
            with start_board(server.url, board_port, tmp_path):
                add(board_port, "more")
                assert published(server, count) == [(no, 1) for no in range(1, count + 1)]
        assert get(f"{server.url}/topics/orders")["seq"] == 5


def add(port: int, what: str) -> None:
    post(f"http://127.0.0.1:{port}/api/orders", json.dumps({"what": what}))


def published(server: ExampleServer, count: int) -> list[tuple[int, int]]:
    """Wait for so many messages of the topic; return the number and the version of each order."""
    found = []
    with urllib.request.urlopen(f"{server.url}/topics/orders/events?last_n=1000", timeout=PATIENCE) as stream:
        for line in stream:
            if line.startswith(b"data:") and (event := json.loads(line[5:]))["type"] == "event":
                found.append((event["message"]["payload"]["no"], event["message"]["payload"]["version"]))
                if len(found) == count:
                    break
    return found
