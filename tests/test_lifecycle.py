"""The server's lifecycle step by step; tests/test_shutdown.py has the clients' view of a shutdown."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web

from pubsub.app import create_app
from pubsub.http.app_keys import BROKER
from pubsub.http.health import STATE
from pubsub.http.listener import Listener
from pubsub.lifecycle import (
    close_clients,
    close_journal,
    end_publishes,
    leave_objects,
    listen,
    run,
    shut_down,
    start_without_collections,
    stop_on_signals,
    warn_of_open_doors,
)
from pubsub.listening import ListenError, log_addresses, open_sockets
from pubsub.settings import Settings
from tests.harness import PATIENCE, RawClient, make_settings, new_id, on_one_loop, run_server


def listener_on(*sockets: socket.socket) -> Listener:
    return cast(Listener, SimpleNamespace(sockets=sockets))


# Addresses to listen on


@on_one_loop
async def test_host_and_port_are_listened_on() -> None:
    (sock,) = await open_sockets(make_settings())
    assert sock.getsockname()[0] == "127.0.0.1"
    sock.close()


@on_one_loop
async def test_sockets_that_were_handed_over_take_their_place(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert list(await open_sockets(make_settings(host="192.0.2.1"), [sock])) == [sock]
    assert caplog.messages == ["Sockets taken over from systemd: 1; HOST and PORT do not count"]


@pytest.mark.parametrize("host", ["192.0.2.1", "unix:missing/pubsub.sock"])
@on_one_loop
async def test_a_place_that_can_not_be_listened_on_is_named_with_the_reason(host: str) -> None:
    place = host if host.startswith("unix:") else f"{host} port 7"
    with pytest.raises(ListenError, match=rf"can't listen on {place}: \w+") as refused:
        await open_sockets(make_settings(host=host, port=7))
    assert isinstance(refused.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("scheme", "unix_scheme"), [("http", "unix"), ("https", "https+unix")], ids=["without TLS", "with TLS"]
)
def test_each_address_is_logged(
    scheme: str, unix_scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.chdir(tmp_path)
    name = new_id()
    with (
        socket.create_server(("127.0.0.1", 0)) as ipv4,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as ipv6,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        unix.bind("s")
        abstract.bind(f"\0{name}")
        log_addresses([ipv4, ipv6, unix, abstract], scheme)
        assert caplog.messages == [
            f"Listening on {scheme}://127.0.0.1:{ipv4.getsockname()[1]}",
            f"Listening on {scheme}://[::1]:{ipv6.getsockname()[1]}",
            f"Listening on {unix_scheme}:s",
            f"Listening on {unix_scheme}:@{name}",
        ]


@on_one_loop
async def test_each_address_that_others_reach_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(make_settings())
    with (
        socket.create_server(("127.0.0.1", 0)) as own,
        socket.create_server(("0.0.0.0", 0)) as ipv4,
        socket.create_server(("::", 0), family=socket.AF_INET6) as ipv6,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        warn_of_open_doors(app, [own, unix])
        assert not caplog.messages
        warn_of_open_doors(app, [own, ipv4, ipv6, unix])
    assert [message.split(" may ")[0] for message in caplog.messages] == ["Anyone who reaches 0.0.0.0, ::"] * 2


# The collector, and signals


@pytest.fixture
def collector() -> Iterator[None]:
    """Give the collector its state back."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@on_one_loop
async def test_a_server_that_cannot_listen_leaves_the_others(collector: None) -> None:
    ended: list[bool] = []

    async def note(_: web.Application) -> None:
        ended.append(True)

    def create(settings: Settings) -> web.Application:
        app = create_app(settings)
        app.on_cleanup.append(note)
        return app

    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = make_settings(port=taken.getsockname()[1])
        with pytest.raises(ListenError, match=r"port \d+: Address already in use$"):
            await run(create, settings, (), lambda: settings)
    assert ended


def test_the_collector_waits_for_the_end_of_the_start_and_passes_over_what_it_made(collector: None) -> None:
    before = gc.get_threshold()
    with start_without_collections():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold() > before


def test_at_the_end_the_collector_passes_over_all(collector: None) -> None:
    leave_objects()
    assert gc.get_freeze_count() > 10_000


def test_the_collector_works_again_after_a_start_that_fails() -> None:
    with pytest.raises(ListenError), start_without_collections():
        raise ListenError(1, "in use")
    assert gc.isenabled()


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_stops_and_the_second_ends(
    first: signal.Signals, second: signal.Signals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ended = asyncio.Event()
    statuses: list[int] = []

    def end(status: int) -> None:
        statuses.append(status)
        ended.set()

    monkeypatch.setattr(os, "_exit", end)
    loop = asyncio.get_running_loop()
    stop = stop_on_signals()
    try:
        os.kill(os.getpid(), first)
        await stop.wait()
        assert not statuses
        os.kill(os.getpid(), second)
        await ended.wait()
        assert statuses == [128 + second]
        assert caplog.messages == [f"{first.name}: shutting down"]
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGINT)


# The end


class Journal:
    """A durable journal that calls back when ``done`` is called."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.closed = False

    def call_after(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Replace the durable journal of every Broker."""
    journal = Journal()
    monkeypatch.setattr("pubsub.core.broker.Broker.durable_journal", journal, raising=False)
    return journal


@on_one_loop
async def test_without_durable_topics_there_is_no_journal_to_wait_for_or_close() -> None:
    app = create_app(make_settings())
    await end_publishes(app, within=1000)
    await close_journal(app)
    assert not app[STATE].journal_closed


async def test_publishes_on_their_way_to_the_disk_are_waited_for(journal: Journal) -> None:
    app = app_with(journal)
    waiting = asyncio.ensure_future(end_publishes(app, within=1000))
    await asyncio.sleep(0)
    assert not waiting.done()
    journal.waiting[0]()
    await waiting


async def test_a_disk_that_does_not_answer_is_not_waited_for_any_longer(journal: Journal) -> None:
    await end_publishes(app_with(journal), within=0.01)
    assert len(journal.waiting) == 1


async def test_a_journal_that_was_closed_is_known_as_such(journal: Journal) -> None:
    app = app_with(journal)
    await close_journal(app)
    assert journal.closed
    assert app[STATE].journal_closed


def app_with(journal: Journal) -> web.Application:
    """Make an Application; only its journal and its state matter here."""
    app = create_app(make_settings())
    assert app[BROKER].durable_journal is cast(object, journal)
    return app


async def test_closing_the_clients_again_finds_none() -> None:
    async with run_server() as server:
        client = await RawClient.connect(server.port)
        closing = asyncio.ensure_future(close_clients(server.app))
        assert await client.close_code() == 1001
        client.close()
        await closing
        assert server.connections == 0
        await close_clients(server.app)
        assert (server.app[STATE].draining, server.app[STATE].closing) == (True, True)


@pytest.mark.parametrize("is_closed", [True, False])
async def test_a_journal_that_does_not_close_does_not_keep_the_process(
    is_closed: bool, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread that waits for the disk would keep the process alive."""
    caplog.set_level("INFO")
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    monkeypatch.setattr(journal, "call_after", lambda callback: callback())
    if not is_closed:
        monkeypatch.setattr(journal, "close", lambda: (_ for _ in ()).throw(TimeoutError))
    settings = make_settings(shutdown_timeout_sec=PATIENCE)
    app = create_app(settings)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = await listen(runner, settings)
    await shut_down(app, runner, listener)
    assert caplog.messages[-1] == "Shutdown complete"
    assert statuses == ([] if is_closed else [0])
    assert all(sock.fileno() < 0 for sock in listener.sockets)


async def test_health_says_draining_before_the_port_is_closed() -> None:
    settings = make_settings(drain_sec=1000)
    app = create_app(settings)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = await listen(runner, settings)
    ending = asyncio.ensure_future(shut_down(app, runner, listener))
    client = await RawClient.connect_tcp(listener.sockets[0].getsockname()[1])
    status, health = await client.request("GET", "/health")
    assert (status, health["status"]) == (503, "draining")
    assert not app[STATE].closing
    ending.cancel()
    client.close()
    listener.close()
    await runner.cleanup()
