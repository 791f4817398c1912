"""A web page in Chromium that calls REST from another origin: its access with and without ALLOWED_ORIGINS."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.credentials import API_KEYS
from tests.harness import PATIENCE, ForkedServer, ServerProcess, free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Without windows, extensions and profiles it takes a third of the CPU. The whole one does the same.
WHOLE_CHROMIUM = shutil.which("chromium")
CHROMIUM = shutil.which("chromium-headless-shell") or WHOLE_CHROMIUM
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage"]  # a container has neither namespaces nor room in /dev/shm
OPS = {"X-API-Key": "ops-key"}
BURST = 10
CALL = """async ([url, options]) => {
    try {
        const response = await fetch(url, options);
        const headers = Object.fromEntries(response.headers);
        return {status: response.status, body: await response.json(), headers};
    } catch (error) {
        return {error: String(error)};
    }
}"""
OPEN = """url => new Promise(resolve => {
    const socket = new WebSocket(url);
    socket.onopen = () => { socket.close(); resolve("open"); };
    socket.onerror = () => resolve("refused");
})"""


class EmptyPage(BaseHTTPRequestHandler):
    """The site of the page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>page</title>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        assert os.environ.get("CI") != "true", "needs chromium: apt-get install chromium"
        pytest.skip("needs chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # here, because not every test process must load it

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """Serve the site; yield its port. With ``127.0.0.1`` it is the allowed origin, with ``localhost`` another one."""
    with ThreadingHTTPServer(("127.0.0.1", free_port()), EmptyPage) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(site: int) -> Iterator[ServerProcess]:
    flags = ("--allowed-origins", f"http://127.0.0.1:{site}", "--rate-limit-msgs-per-sec", "0.01",
             "--rate-limit-burst", str(BURST))  # fmt: skip
    with ForkedServer(*flags, environment={"API_KEYS": API_KEYS}) as running:
        yield running


@pytest.fixture(scope="module")
def page(browser: Browser, site: int) -> Page:
    return open_page(browser, f"http://127.0.0.1:{site}")


def open_page(browser: Browser, url: str) -> Page:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(url)
    return page


def fetch(page: Page, url: str, method: str = "GET", **options: Any) -> Any:
    return page.evaluate(CALL, [url, {"method": method, **options}])


def test_a_page_of_a_listed_origin_calls_rest(page: Page, server: ServerProcess) -> None:
    """One call without a preflight, and three with one."""
    assert fetch(page, f"{server.url}/health")["status"] == 200
    json = {"Content-Type": "application/json"}
    created = fetch(page, f"{server.url}/topics", "POST", headers=OPS | json, body='{"name":"orders"}')
    assert (created["status"], created["body"]) == (201, {"status": "created", "topic": "orders"})
    topics = fetch(page, f"{server.url}/topics", headers=OPS)
    assert topics["body"] == {"topics": [{"name": "orders", "subscribers": 0}]}
    deleted = fetch(page, f"{server.url}/topics/orders", "DELETE", headers=OPS)
    assert deleted["body"] == {"status": "deleted", "topic": "orders"}
    assert page.evaluate(OPEN, f"ws://127.0.0.1:{server.port}/ws") == "open"


def test_a_page_of_a_listed_origin_reads_errors(page: Page, server: ServerProcess) -> None:
    refused = fetch(page, f"{server.url}/topics")
    assert refused["status"] == 401
    assert "X-API-Key" in refused["body"]["error"]
    assert fetch(page, f"{server.url}/nowhere", headers=OPS)["status"] == 404
    assert fetch(page, f"{server.url}/health", "DELETE", headers=OPS)["status"] == 405
    board = {"X-API-Key": "board-key"}
    assert fetch(page, f"{server.url}/topics/orders", "DELETE", headers=board)["status"] == 403
    last = [fetch(page, f"{server.url}/stats", headers=board) for _ in range(BURST)][-1]
    assert last["status"] == 429
    assert int(last["headers"]["retry-after"]) > 0


def test_a_page_of_another_origin_reads_nothing(browser: Browser, site: int, server: ServerProcess) -> None:
    page = open_page(browser, f"http://localhost:{site}")
    for path, method, headers in (("/health", "GET", {}), ("/topics", "GET", OPS), ("/topics", "POST", {})):
        answer = fetch(page, f"{server.url}{path}", method, headers=headers)
        assert answer == {"error": "TypeError: Failed to fetch"}
    assert page.evaluate(OPEN, f"ws://127.0.0.1:{server.port}/ws") == "refused"
