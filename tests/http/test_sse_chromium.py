"""EventSource in Chromium: it receives, resumes by its own Last-Event-ID, reads across origins, and stops when told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.credentials import SECRET, make_token
from tests.harness import ForkedServer, ServerProcess, free_port
from tests.http.test_chromium import browser, fetch, open_page, site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser", "site"]

# Notes each event of an EventSource as [name, data, lastEventId].
FOLLOW = """url => {
    window.source?.close();
    window.source = new EventSource(url);
    window.got = [];
    const note = event => window.got.push([event.type, JSON.parse(event.data), event.lastEventId]);
    source.onmessage = note;
    source.addEventListener("info", note);
}"""
STARTED = "got.some(([type, data]) => data.msg === 'subscribed')"
CLOSED = "source.readyState === EventSource.CLOSED"


class Relay:
    """A TCP relay to the server, which cuts its connections when a test asks for it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=self._copy, args=(source, sink))
                self._threads.append(thread)
                thread.start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                sink.sendall(received)
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        while self._open:
            each = self._open.pop()
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def server(site: int) -> Iterator[ServerProcess]:
    with run_server(site) as running:
        yield running


@pytest.fixture
def page(browser: Browser, site: int, server: ServerProcess) -> Iterator[Page]:
    page = open_page(browser, f"http://127.0.0.1:{site}")
    yield page
    page.close()


def run_server(site: int, *flags: str, **environment: str) -> ServerProcess:
    origin = f"http://127.0.0.1:{site}"
    return ForkedServer("--allowed-origins", origin, "--reconnect-spread-sec", "0", *flags, environment=environment)


def follow(page: Page, url: str) -> None:
    page.evaluate(FOLLOW, url)
    wait_for(page, STARTED)


def wait_for(page: Page, condition: str) -> None:
    page.wait_for_function(f"() => {condition}")


def received(page: Page, count: int) -> list[Any]:
    """Wait for so many events; return their payloads."""
    events = "got.filter(([type]) => type === 'message')"
    wait_for(page, f"{events}.length >= {count}")
    found: list[Any] = page.evaluate(f"() => {events}.map(([, data]) => data.message.payload)")
    return found


def infos(page: Page) -> list[str]:
    found: list[str] = page.evaluate("() => got.filter(([type]) => type === 'info').map(([, data]) => data.msg)")
    return found


def create(page: Page, server: ServerProcess, name: str, options: str = "") -> None:
    body = f'{{"name":"{name}"{options}}}'
    assert fetch(page, f"{server.url}/topics", "POST", body=body)["status"] == 201


def publish(page: Page, server: ServerProcess, topic: str, *payloads: int) -> None:
    for payload in payloads:
        answer = fetch(page, f"{server.url}/topics/{topic}/messages", "POST", body=f'{{"payload":{payload}}}')
        assert answer["status"] == 200


def test_an_event_source_of_another_origin_gets_each_event(page: Page, server: ServerProcess) -> None:
    create(page, server, "orders")
    follow(page, f"{server.url}/topics/orders/events")
    publish(page, server, "orders", 1, 2)
    assert received(page, 2) == [1, 2]
    (_, start, first), *events = page.evaluate("() => got")
    assert first == f"{start['epoch']}:0"
    assert [last for _, _, last in events] == [f"{start['epoch']}:1", f"{start['epoch']}:2"]


@pytest.mark.parametrize("path", ["/topics/cut.a/events", "/events?topic=cut.a&topic=cut.b", "/topics/cut.*/events"])
def test_an_event_source_that_is_cut_off_misses_nothing(page: Page, server: ServerProcess, path: str) -> None:
    for topic in ("cut.a", "cut.b"):
        create(page, server, topic)
    with Relay(server.port) as relay:
        follow(page, f"http://127.0.0.1:{relay.port}{path}")
        publish(page, server, "cut.a", 1, 2)
        assert received(page, 2) == [1, 2]
        relay.cut()
        publish(page, server, "cut.a", 3, 4)
        assert received(page, 4) == [1, 2, 3, 4]
        relay.cut()  # nothing was published meanwhile
        wait_for(page, "got.filter(([, data]) => data.msg === 'recovered').length >= 2")
        publish(page, server, "cut.a", 5)
        assert received(page, 5) == [1, 2, 3, 4, 5]
        assert set(infos(page)) == {"subscribed", "recovered"}
        assert page.evaluate("() => got.every(([, data]) => data.recovered !== false)")
        page.evaluate("() => source.close()")
    for topic in ("cut.a", "cut.b"):
        assert fetch(page, f"{server.url}/topics/{topic}", "DELETE")["status"] == 200


def test_an_event_source_goes_on_after_a_restart(page: Page, site: int, tmp_path: Path) -> None:
    port = free_port()
    flags = ("--port", str(port), "--data-dir", str(tmp_path))
    with ExitStack() as servers:
        first = servers.enter_context(run_server(site, *flags))
        create(page, first, "orders", ',"durable":true')
        follow(page, f"{first.url}/topics/orders/events")
        publish(page, first, "orders", 1, 2)
        assert received(page, 2) == [1, 2]
        assert first.stop() == 0
        second = servers.enter_context(run_server(site, *flags))
        publish(page, second, "orders", 3)
        assert received(page, 3) == [1, 2, 3]
        first_info, *between, last_info = infos(page)  # it may have tried again while the first one shut down
        assert (first_info, set(between), last_info) == ("subscribed", {"draining"}, "recovered")


def test_an_event_source_that_an_operator_disconnects_stays_away(page: Page, server: ServerProcess) -> None:
    create(page, server, "stopped")
    follow(page, f"{server.url}/topics/stopped/events?client_id=alice")
    assert fetch(page, f"{server.url}/clients/alice", "DELETE")["body"]["connections"] == 1
    wait_for(page, CLOSED)
    assert infos(page) == ["subscribed", "disconnected"]


def test_the_end_of_its_topic_stops_an_event_source(page: Page, server: ServerProcess) -> None:
    create(page, server, "ended")
    follow(page, f"{server.url}/topics/ended/events")
    assert fetch(page, f"{server.url}/topics/ended", "DELETE")["status"] == 200
    wait_for(page, CLOSED)
    assert infos(page) == ["subscribed", "topic_deleted"]


def test_the_end_of_its_token_stops_an_event_source(page: Page, site: int) -> None:
    with run_server(site, JWT_SECRET=SECRET) as server:
        create(page, server, "orders")
        token = make_token(subscribe=["orders"], exp=time.time() + 1)
        follow(page, f"{server.url}/topics/orders/events?token={token}")
        wait_for(page, CLOSED)
        assert page.evaluate("() => got.at(-1)[1].error.code") == "UNAUTHORIZED"


def test_an_event_source_of_a_foreign_origin_gets_nothing(browser: Browser, site: int, server: ServerProcess) -> None:
    foreign = open_page(browser, f"http://localhost:{site}")
    foreign.evaluate(FOLLOW, f"{server.url}/events?topic=>")
    wait_for(foreign, CLOSED)
    assert foreign.evaluate("() => got") == []
    foreign.close()
