"""The JavaScript client in Chromium: cuts, blocked WebSockets, offline and online, a hidden page, back and forward."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import ForkedServer, ServerProcess, free_port
from tests.http.test_chromium import FLAGS, WHOLE_CHROMIUM, browser, open_page, site
from tests.http.test_sse_chromium import Relay, create, publish, run_server, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser", "site"]

# Makes `client`, notes its states in `changes` and the payloads of a topic in `got`.
FOLLOW = """async ([url, script, topic, options, timeout]) => {
    const { Client } = await import(script);
    Math.random = () => 0.01;
    window.changes = [];
    window.got = [];
    window.client = new Client(url, {answerTimeout: timeout, onState: (change) => changes.push(change)});
    window.sub = client.subscribe(topic, options, (item) => got.push(item.payload ?? item));
    await sub.ready;
}"""


class Firewall(Relay):
    """A relay that closes a connection which asks for a WebSocket, as long as it ``blocks``."""

    blocks = True

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                if self.blocks and b"upgrade: websocket" in received.lower():
                    break
                sink.sendall(received)
            sink.shutdown(socket.SHUT_RDWR)
            source.shutdown(socket.SHUT_RDWR)


class SilentRelay(Relay):
    """A relay that discards everything while it is ``silent``."""

    silent = False

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                if not self.silent:
                    sink.sendall(received)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def server(site: int) -> Iterator[ServerProcess]:
    with run_server(site) as running:
        yield running


@pytest.fixture
def page(browser: Browser, site: int) -> Iterator[Page]:
    page = open_page(browser, f"http://127.0.0.1:{site}")
    yield page
    page.evaluate("() => window.client?.close()")
    page.close()


def follow(page: Page, url: str, topic: str, script: str = "", timeout: float = 10, **options: Any) -> None:
    page.evaluate(FOLLOW, [url, f"{script or url}/client.js", topic, options, timeout])


def received(page: Page, *payloads: Any) -> None:
    """Wait for so many items, and compare."""
    wait_for(page, f"got.length >= {len(payloads)}")
    assert page.evaluate("() => got") == [*payloads]


def states(page: Page) -> list[str]:
    found: list[str] = page.evaluate("() => changes.map(({state}) => state)")
    return found


def test_a_page_of_another_origin_misses_nothing_over_cuts(page: Page, server: ServerProcess) -> None:
    create(page, server, "cuts")
    with Relay(server.port) as relay:
        follow(page, f"http://127.0.0.1:{relay.port}", "cuts")
        assert not page.evaluate("() => client.streams")
        publish(page, server, "cuts", 1)
        received(page, 1)
        relay.cut()
        publish(page, server, "cuts", 2, 3)
        received(page, 1, 2, 3)
        page.evaluate("() => client.publish('cuts', 4)")
        received(page, 1, 2, 3, 4)
        assert states(page)[-1] == "open"


def test_a_page_of_the_server_needs_no_url(browser: Browser, server: ServerProcess) -> None:
    page = open_page(browser, f"{server.url}/health")
    create(page, server, "own")
    page.evaluate("async () => { const {Client} = await import('/client.js'); window.client = new Client(); }")
    assert page.evaluate("async () => (await client.publish('own', 1)).seq") == 1
    assert page.evaluate("async () => (await client.topics('own')).length") == 1
    page.close()


def test_a_page_that_blocks_web_sockets_uses_streams_and_returns(page: Page, server: ServerProcess) -> None:
    create(page, server, "blocked")
    with Firewall(server.port) as firewall:
        url = f"http://127.0.0.1:{firewall.port}"
        follow(page, url, "blocked")
        assert page.evaluate("() => client.streams")
        publish(page, server, "blocked", 1)
        page.evaluate("() => client.publish('blocked', 2)")
        received(page, 1, 2)
        firewall.cut()
        publish(page, server, "blocked", 3)
        received(page, 1, 2, 3)
        assert page.evaluate("() => client.streams")
        firewall.blocks = False
        firewall.cut()
        publish(page, server, "blocked", 4)
        received(page, 1, 2, 3, 4)
        assert not page.evaluate("() => client.streams")


def test_many_subscriptions_over_streams_leave_connections_for_publishes(page: Page, server: ServerProcess) -> None:
    """A browser opens six connections to a server over HTTP/1.1."""
    for number in range(10):
        create(page, server, f"many.{number}")
    with Firewall(server.port) as firewall:
        follow(page, f"http://127.0.0.1:{firewall.port}", "many.0", server.url)
        page.evaluate(
            """async () => {
                const subs = Array.from({length: 9}, (_, i) =>
                    client.subscribe(`many.${i + 1}`, {}, (item) => got.push(item.payload)));
                for (const sub of subs) await sub.ready;
                await Promise.all(Array.from({length: 10}, (_, i) => client.publish(`many.${i}`, i)));
            }"""
        )
        wait_for(page, "got.length >= 10")
        assert sorted(page.evaluate("() => got")) == list(range(10))


def test_offline_and_online_are_noticed_at_once(page: Page, server: ServerProcess) -> None:
    create(page, server, "offline")
    follow(page, server.url, "offline")
    publish(page, server, "offline", 1)
    received(page, 1)
    page.evaluate("() => { Math.random = () => 1000; }")  # no attempt comes by itself
    page.context.set_offline(True)
    wait_for(page, "client.state === 'connecting'")
    assert page.evaluate("() => changes.at(-1).error.message") == "offline"
    page.context.set_offline(False)
    publish(page, server, "offline", 2)
    received(page, 1, 2)


def test_a_page_that_is_shown_again_connects_at_once(page: Page, site: int) -> None:
    flags = ("--allowed-origins", f"http://127.0.0.1:{site}", "--port", str(free_port()))
    with ExitStack() as servers:
        first = servers.enter_context(ForkedServer(*flags))
        create(page, first, "orders")
        follow(page, first.url, "orders")
        page.evaluate("() => { Math.random = () => 1000; }")
        first.process.kill()
        first.process.wait()
        wait_for(page, "client.state === 'connecting'")
        second = servers.enter_context(ForkedServer(*flags))
        create(page, second, "orders")
        publish(page, second, "orders", 1)
        assert page.evaluate("() => changes.at(-1).retrySec") > 10
        page.evaluate("() => document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))")
        wait_for(page, "got.length >= 2")
        assert page.evaluate("() => [got[0].reason, got[1]]") == ["created_again", 1]


def test_a_half_open_connection_is_found_when_the_page_is_shown(page: Page, server: ServerProcess) -> None:
    """The relay swallows everything, as the network does after a sleep; no close event comes."""
    create(page, server, "sleep")
    with SilentRelay(server.port) as relay:
        follow(page, f"http://127.0.0.1:{relay.port}", "sleep", server.url, timeout=1)
        relay.silent = True
        page.evaluate("() => document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))")
        wait_for(page, "changes.some(({error}) => error?.message === 'no sign of life')")
        relay.silent = False
        publish(page, server, "sleep", 1)
        received(page, 1)


def test_the_position_survives_a_reload(page: Page, server: ServerProcess) -> None:
    create(page, server, "reload")
    follow(page, server.url, "reload", persist="position")
    publish(page, server, "reload", 1)
    received(page, 1)
    page.reload()
    publish(page, server, "reload", 2)
    follow(page, server.url, "reload", persist="position")
    received(page, 2)


def test_a_page_without_local_storage_goes_on(page: Page, server: ServerProcess) -> None:
    create(page, server, "storage")
    denied = "get() { throw new DOMException('denied', 'SecurityError'); }"
    page.evaluate(f"() => Object.defineProperty(window, 'localStorage', {{{denied}}})")
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    follow(page, server.url, "storage", persist="position")
    publish(page, server, "storage", 1)
    received(page, 1)
    assert any("denied" in text for text in errors)


def test_back_and_forward_find_the_page_as_it_was(browser: Browser, site: int, server: ServerProcess) -> None:
    """A page with an open connection would not stay in the back/forward cache."""
    disabled = ["--disable-back-forward-cache"]  # by playwright
    if WHOLE_CHROMIUM is None:
        assert os.environ.get("CI") != "true", "needs chromium: apt-get install chromium"
        pytest.skip("the other one has no such cache: apt-get install chromium")
    other = browser.browser_type.launch(executable_path=WHOLE_CHROMIUM, args=FLAGS, ignore_default_args=disabled)
    page = open_page(other, f"http://127.0.0.1:{site}")
    create(page, server, "back")
    follow(page, server.url, "back")
    page.goto(f"http://127.0.0.1:{site}/other")
    publish(page, server, "back", 1)
    page.go_back(wait_until="commit")
    received(page, 1)
    assert states(page) == ["open", "open"]
    other.close()
