"""Phases that start separate servers, one for each event loop: with TLS, and with a low limit of open files."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from certificate import write_certificate
from hang_up import open_websocket
from phases import MIB, Stage
from verdict import Figures
from victim import SETTINGS, Victim, until

LOOPS = ("uvloop", "asyncio")
SILENT_CLIENTS = 20  # they send nothing, so the server's timer must close them
ROUNDS = 5  # rounds of each thread that hangs up, in each way
FILES = 128
SILENT = 300  # connections in one batch, more than the server may open
SETTLE_SEC = 10.0
GROWTH = 24 * MIB  # of a server after all clients have left: fragmentation of the allocator, and buffers of TLS


async def hang_ups(stage: Stage) -> Figures:
    """TLS clients hang up in every way, beside good clients, silent clients and requests for the list of clients."""
    seconds = max(4.0, stage.seconds * 0.02)
    figures: Figures = {}
    for loop in LOOPS:
        async with a_server(stage, "hang_ups", loop, secure=True) as server:
            figures[f"{loop}_hang_ups"] = await play_hang_ups(stage, server, loop, seconds)
    return figures


async def play_hang_ups(stage: Stage, server: Victim, loop: str, seconds: float) -> int:
    silent = [await asyncio.to_thread(open_websocket, server.port) for _ in range(SILENT_CLIENTS)]
    opened, count = time.monotonic(), 0
    async with server.session() as http, http.ws_connect("/ws?client_id=good") as good:
        while time.monotonic() - opened < seconds:
            for way in ("close", "reset", "unwrap"):
                await hang_up_beside(stage, server, loop, way)
                count += 1
                await pong_of(good)
        patience = float(SETTINGS["PONG_WAIT_SEC"]) + 5
        left = await until(lambda: has_clients(server, 1), patience)
        stage.check("hang_ups", f"{loop}: silent clients are closed in time, good ones stay", left)
    for client in silent:
        client.close()
    return count


async def hang_up_beside(stage: Stage, server: Victim, loop: str, way: str) -> None:
    """Request the list of clients while other clients hang up."""
    program = str(Path(__file__).with_name("hang_up.py"))
    clients = await asyncio.create_subprocess_exec(sys.executable, program, str(server.port), way, str(ROUNDS))
    statuses = set()
    while clients.returncode is None:
        statuses.add((await server.ask("GET", "/clients?limit=1000"))[0])
    stage.check("hang_ups", f"{loop}: the request for all clients is answered meanwhile", statuses == {200}, statuses)


async def pong_of(client: aiohttp.ClientWebSocketResponse) -> None:
    await client.send_json({"type": "ping"})
    while (await asyncio.wait_for(client.receive_json(), 10))["type"] != "pong":
        pass


async def has_clients(server: Victim, count: int) -> bool:
    return len((await server.get("/clients"))["clients"]) == count


async def few_files(stage: Stage) -> Figures:
    """Silent connections flood a server that may open few files, with and without TLS: no memory of them stays."""
    seconds = max(2.0, stage.seconds * 0.01)
    figures: Figures = {}
    for loop in LOOPS:
        for secure in (False, True):
            name = f"{loop}{' TLS' if secure else ''}"
            async with a_server(stage, "few_files", loop, secure=secure, files=FILES) as server:
                figures[f"{name}_grown_mib"] = await play_few_files(stage, server, name, seconds)
    return figures


async def play_few_files(stage: Stage, server: Victim, name: str, seconds: float) -> float:
    async with server.session() as http, http.ws_connect("/ws?client_id=good") as good:
        await flood_silently(server.port)
        before, ends = rss_of(server), time.monotonic() + seconds
        while time.monotonic() < ends:
            await flood_silently(server.port)
            await pong_of(good)
            status, _ = await server.ask("GET", "/health")
            stage.check("few_files", f"{name}: a request is answered during the flood", status == 200, status)
        grown = await rest_of(server, before)
    allowed = f"{name}: at most {GROWTH / MIB:.0f} MiB more"
    stage.check("few_files", allowed, grown <= GROWTH, f"{grown / MIB:.1f} MiB")
    return grown / MIB


async def rest_of(server: Victim, before: int) -> int:
    """Return the memory that stays: up to 96 handshakes with 256 KiB each may still end after the last flood."""

    async def is_small() -> bool:
        return rss_of(server) - before <= GROWTH

    await until(is_small, SETTLE_SEC)
    return rss_of(server) - before


def rss_of(server: Victim) -> int:
    sample = server.sample()
    assert sample is not None, "the server runs"
    return sample.rss


async def flood_silently(port: int) -> None:
    """Connect all, send nothing, and close all."""
    sockets = [socket.socket() for _ in range(SILENT)]
    try:
        for sock in sockets:
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    finally:
        for sock in sockets:
            sock.close()


@asynccontextmanager
async def a_server(stage: Stage, phase: str, loop: str, *, secure: bool, files: int = 0) -> AsyncIterator[Victim]:
    """Run a server beside the one of the other phases; check its exit status, and that its log has no traceback."""
    folder = stage.victim.folder / f"{phase}-{loop}-{secure}"
    folder.mkdir()
    settings = {"LOG_LEVEL": "warn"}
    if secure:
        cert_file, key_file = write_certificate(folder, "localhost")
        settings |= {"TLS_CERT_FILE": str(cert_file), "TLS_KEY_FILE": str(key_file)}
    if loop == "asyncio":
        (folder / "uvloop.py").write_text("raise ImportError('this phase wants the loop of asyncio')")
    server = Victim(folder, stage.victim.core, stage.victim.secret, settings=settings, files=files)
    try:
        await server.start(guarded=False)
        yield server
        status = await server.end()
        stage.check(phase, f"{loop}: exit status 0", status == 0, status)
    finally:
        server.kill()
    faults = server.faults_logged()
    stage.check(phase, f"{loop}: no traceback in the log", not faults, "; ".join(faults[:3]))
