"""The dashboard in Chromium for tests: pages that must say nothing in the console, and clients for it to show."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import requests

from tests.credentials import HANDSHAKE
from tests.harness import PATIENCE, REPOSITORY, ServerProcess, masked_frame, new_id

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE: Final = REPOSITORY / ".venv/npm/node_modules/axe-core/axe.min.js"
PHONE: Final = {"width": 390, "height": 844}
HOSTILE: Final = "<img src=x onerror=window.hacked=1>"
LONGEST: Final = ".".join(["a" * 50] * 5)
NO_ANSWER: Final = ("Failed to load resource", "ERR_CONNECTION")  # the browser's own lines about calls that failed


@contextmanager
def dashboard(
    browser: Browser, server: ServerProcess, screen: str = "", *, with_clock: bool = False, **options: Any
) -> Iterator[Page]:
    """A screen in a context of its own. Nothing may be said in the console but of calls that were refused.

    ``with_clock``: the test can move the time of the page.
    """
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE * 1000)
    with browser.new_context(**options) as context:
        page, said = context.new_page(), list[str]()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        if with_clock:
            page.clock.install()
        page.goto(f"{server.url}/admin#/{screen}")
        yield page
        unexpected = [text for text in said if not any(each in text for each in NO_ANSWER)]
        assert not unexpected, unexpected
        assert page.evaluate("window.hacked") is None, "a name was shown as HTML"


def show(page: Page, screen: str) -> None:
    page.evaluate("hash => { location.hash = hash; }", f"#/{screen}")


def call(server: ServerProcess, method: str, path: str, body: Any = None, key: str = "") -> Any:
    headers = {"X-API-Key": key} if key else {}
    answer = requests.request(method, server.url + path, json=body, headers=headers, timeout=PATIENCE)
    assert answer.status_code < 300, answer.text
    return answer.json()


def create(server: ServerProcess, name: str, **options: Any) -> None:
    call(server, "POST", "/topics", {"name": name, **options})


def publish(server: ServerProcess, topic: str, *payloads: Any) -> None:
    call(server, "POST", f"/topics/{topic}/messages", [{"payload": payload} for payload in payloads])


@contextmanager
def subscriber(server: ServerProcess, client_id: str, topic: str) -> Iterator[socket.socket]:
    """A client that subscribes and then reads nothing. Its buffers are small: a queue fills soon."""
    with socket.socket() as client:
        client.settimeout(PATIENCE)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        fields = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
        path = f"/ws?client_id={quote(client_id)}"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n".encode())
        receive_until(client, b"\r\n\r\n")
        request = {"type": "subscribe", "topic": topic, "client_id": client_id, "request_id": new_id()}
        client.sendall(masked_frame(0x81, json.dumps(request).encode()))
        receive_until(client, b'"status":"ok"')
        yield client


def receive_until(client: socket.socket, end: bytes) -> None:
    received = b""
    while end not in received:
        received += (came := client.recv(4096))
        assert came, received


RULES: Final = ("wcag2a", "wcag2aa", "wcag21aa", "best-practice")


def faults(page: Page, rules: Sequence[str] = RULES) -> list[str]:
    """The serious faults that axe-core finds on the page."""
    if page.evaluate("!window.axe"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("rules => axe.run(document, {runOnly: rules})", rules)
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical", "moderate")
        for node in rule["nodes"]
    ]
