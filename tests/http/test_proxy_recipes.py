"""The recipes of docs/operation.md, run in the real proxies: REST, a WebSocket, and the client's real address."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from certificate import trusting, write_certificate

from tests.harness import PATIENCE, REPOSITORY, Client, ForkedServer, ServerProcess, free_port, on_one_loop

CLIENT = "127.0.0.2"  # an address of this machine (127.0.0.0/8) that neither the proxy nor the server uses
FORGED = {"X-Forwarded-For": "192.0.2.66", "X-Forwarded-Proto": "http", "Forwarded": "for=192.0.2.66;proto=http"}


def recipe(kind: str) -> str:
    text = (REPOSITORY / "docs/operation.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^```{kind}\n([\s\S]*?)^```$", text, re.MULTILINE)
    return str(found)


def replaced(text: str, *changes: tuple[str, str]) -> str:
    for before, after in changes:
        assert before in text, f"the recipe has no {before!r}"
        text = text.replace(before, after)
    return text


def nginx(folder: Path, port: int, server: int) -> list[str]:
    certificate, key = write_certificate(folder, "proxy")
    body = replaced(
        recipe("nginx"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("127.0.0.1:8080", f"127.0.0.1:{server}"),
        ("/etc/ssl/pubsub.crt", str(certificate)),
        ("/etc/ssl/pubsub.key", str(key)),
    )
    folders = "".join(
        f"{each}_temp_path {folder}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders}\n{body} }}"
    )
    return ["nginx", "-e", "stderr", "-c", str(config)]


def haproxy(folder: Path, port: int, server: int) -> list[str]:
    certificate, key = write_certificate(folder, "proxy")
    both = folder / "pubsub.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    config = folder / "haproxy.cfg"
    config.write_text(
        replaced(
            recipe("haproxy"),
            ("bind :443", f"bind 127.0.0.1:{port}"),
            ("127.0.0.1:8080", f"127.0.0.1:{server}"),
            ("/etc/ssl/pubsub.pem", str(both)),
        )
    )
    return ["haproxy", "-db", "-f", str(config)]


def caddy(folder: Path, port: int, server: int) -> list[str]:
    """Return the command of Caddy, without its own certificate request and without its admin port."""
    certificate, key = write_certificate(folder, "proxy")
    config = folder / "Caddyfile"
    config.write_text(
        "{\nadmin off\nauto_https disable_redirects\n}\n"
        + replaced(
            recipe("caddyfile"),
            ("pubsub.example.com {", f"https://127.0.0.1:{port} {{\ntls {certificate} {key}\n"),
            ("127.0.0.1:8080", f"127.0.0.1:{server}"),
        )
    )
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)]


@contextlib.contextmanager
def running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """Run the proxy; wait until it accepts connections."""
    with (folder / "log").open("w") as log:
        environment = {"PATH": PATH, "HOME": str(folder)}
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        end = time.monotonic() + PATIENCE
        while not accepts(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, "the proxy does not listen"
            time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait()


PATH = f"{os.environ['PATH']}:/usr/sbin"  # the folder of nginx and HAProxy, which is not in an ordinary user's PATH


def accepts(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ForkedServer("--trusted-proxies", "127.0.0.1", "--mode", "debug") as found:
        yield found


@pytest.mark.parametrize("make_command", [nginx, haproxy, caddy], ids=lambda make: make.__name__)
@on_one_loop
async def test_a_recipe_does_what_it_says(
    make_command: Callable[[Path, int, int], list[str]], server: ServerProcess, tmp_path: Path
) -> None:
    name = make_command.__name__
    if shutil.which(name, path=PATH) is None:
        assert os.environ.get("CI") != "true", f"needs {name}: apt-get install {name}"
        pytest.skip(f"needs {name}: apt-get install {name}")
    port = free_port()
    with running(make_command(tmp_path, port, server.port), port, tmp_path):
        await use(f"https://127.0.0.1:{port}", topic=name)
    server.read_log_until(f"{re.escape(CLIENT)} POST /topics: 403")
    assert f"{CLIENT} POST /topics: 201" in server.log
    assert "192.0.2.66" not in server.log


async def use(url: str, *, topic: str) -> None:
    """Create a topic, publish to it and receive the message, with forged fields in every request."""
    connector = aiohttp.TCPConnector(ssl=trusting(), local_addr=(CLIENT, 0))
    async with aiohttp.ClientSession(url, connector=connector, headers=FORGED) as http:
        for origin, status in ((url, 201), (url.replace("https", "http"), 403)):
            async with http.post("/topics", json={"name": topic}, headers={"Origin": origin}) as response:
                assert response.status == status, await response.text()
        async with http.ws_connect("/ws", autoping=False, headers={"Origin": url}) as websocket:
            client = Client(websocket)
            await client.subscribe(topic)
            await client.publish(topic, "hello")
            assert [each["message"]["payload"] for each in client.others] == ["hello"]
