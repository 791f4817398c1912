"""``python -m pubsub health``: exit status 0 or 1, for a container's health check and for people."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from certificate import write_certificate

import pubsub.__main__
from pubsub.http.health import STATE
from tests.harness import REPOSITORY, ForkedServer, clean_environment, free_port, on_one_loop, run_server


async def health(*flags: str) -> int:
    """Run the command; return its exit status."""
    return await asyncio.to_thread(pubsub.__main__.main, ["health", *flags])


@pytest.mark.parametrize("slash", ["", "/"])
@on_one_loop
async def test_a_server_that_is_well(slash: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with run_server() as server:
        await server.create("orders")
        assert await health("--url", server.url + slash) == 0
        report = json.loads(capsys.readouterr().out)
        assert report.items() >= {"topics": 1, "subscribers": 0}.items()


@on_one_loop
async def test_a_server_that_shuts_down(capsys: pytest.CaptureFixture[str]) -> None:
    async with run_server() as server:
        server.app[STATE].draining = True
        assert await health("--url", server.url) == 1
        assert "draining" in capsys.readouterr().err


@on_one_loop
async def test_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert await health("--url", url) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert url in line


@pytest.mark.parametrize("answer", [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\n"], ids=["silence", "no HTTP", "half"])
@on_one_loop
async def test_somebody_else_is_there(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.cli.health.HEALTH_WAIT", 0.3)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        assert await health("--url", f"http://127.0.0.1:{port}") == 1


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://127.0.0.1:x", "ftp://127.0.0.1/"])
@on_one_loop
async def test_an_impossible_url(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await health("--url", url) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_certificate_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cert_file, key_file = map(str, write_certificate(tmp_path, "own"))
    with ForkedServer("--tls-cert-file", cert_file, "--tls-key-file", key_file) as server:
        url = server.url.replace("http:", "https:")
        assert pubsub.__main__.main(["health", "--url", url]) == 1
        assert "self-signed certificate" in capsys.readouterr().err
        assert pubsub.__main__.main(["health", "--url", url, "--ca", cert_file]) == 0
    with pytest.raises(SystemExit) as ended:
        pubsub.__main__.main(["health", "--url", url, "--ca", key_file])
    assert ended.value.code == 2
    assert f"--ca: got '{key_file}', " in capsys.readouterr().err


@pytest.mark.parametrize("place", ["flag", "environment", "file"])
@on_one_loop
async def test_the_command_finds_the_server_that_the_settings_would_start(place: str, tmp_path: Path) -> None:
    async with run_server() as server:
        flags = ["--url", server.url] if place == "flag" else []
        environment = clean_environment() | {"PYTHONPATH": str(REPOSITORY)}
        if place == "environment":
            environment |= {"PORT": str(server.port), "HOST": "0.0.0.0"}
        elif place == "file":
            (tmp_path / ".env").write_text(f"PORT={server.port}\n")

        def run() -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "pubsub", "health", *flags]
            return subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30, check=False
            )

        well = await asyncio.to_thread(run)
        assert (well.returncode, well.stderr) == (0, "")
        assert json.loads(well.stdout)["topics"] == 0
    gone = await asyncio.to_thread(run)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert str(server.port) in gone.stderr
    assert "Traceback" not in gone.stderr
