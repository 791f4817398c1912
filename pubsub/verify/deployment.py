"""The deployment under test: calls with the user's credentials, and topics that are deleted at the end.

It must never touch a topic that it has not created.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any, Final

import msgspec

from pubsub.client import Client
from pubsub.client.credentials import Credentials
from pubsub.client.errors import PubsubError
from pubsub.client.refusals import text_of
from pubsub.verify import advice
from pubsub.verify.http import Address, Answer, Request, exchange
from pubsub.verify.outcomes import CheckFailed, CheckSkipped
from pubsub.verify.websocket import WebSocket, open_websocket

CLEANING_SEC: Final = 5.0
_REFUSALS: Final = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_WITHOUT_SERVER: Final = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}


class Deployment:
    """See the module. ``prefix`` begins the names of all topics and clients; ``size`` is that of a large message."""

    def __init__(self, address: Address, credentials: Credentials, size: int) -> None:
        self.address = address
        self.credentials = credentials
        self.size = size
        self.prefix = f"verify.{secrets.token_hex(6)}"
        self._topics: set[str] = set()

    # REST

    async def call(self, method: str, path: str, body: Any = None, **fields: str) -> Answer:
        """Make a call on a connection of its own. ``fields``: as ``accept_encoding``. Raises OSError, ServerFault."""
        return await self.send(method, path, b"" if body is None else msgspec.json.encode(body), **fields)

    async def send(self, method: str, path: str, body: bytes, **fields: str) -> Answer:
        """Make a call with any bytes as its body. A rate of the server is waited for."""
        own = {name.replace("_", "-").title(): value for name, value in fields.items()}
        request = Request(method, path, {"Connection": "close"} | self.credentials.headers | own, body)
        while (answer := await exchange(self.address, request)).status == HTTPStatus.TOO_MANY_REQUESTS:
            wait = answer.fields.get("Retry-After", "")
            if not wait.isdecimal():
                break
            await asyncio.sleep(int(wait))
        return answer

    async def create_topic(self, name: str, **options: Any) -> str:
        """Create a topic; return its whole name. Raises CheckFailed; CheckSkipped without the right."""
        topic = f"{self.prefix}.{name}"
        self._topics.add(topic)
        answer = await self.call("POST", "/topics", {"name": topic, **options})
        if answer.status in _REFUSALS and text_of(answer.body):
            raise CheckSkipped(
                f"these credentials may not create topics ({text_of(answer.body)}): give an API key of the role admin "
                "(--api-key), or a token with admin (--token)"
            )
        expect(answer, 201, "POST /topics")
        return topic

    async def publish(self, topic: str, payloads: list[Any]) -> None:
        """Publish messages over REST. Raises CheckFailed."""
        messages = [{"payload": each} for each in payloads]
        expect(await self.call("POST", f"/topics/{topic}/messages", messages), 200, "POST /topics/…/messages")

    async def clean(self) -> list[str]:
        """Delete all topics that may exist; return those that may still be there."""
        topics = sorted(self._topics)
        deletions = await asyncio.gather(*map(self._is_deleted, topics))
        return [topic for topic, deleted in zip(topics, deletions, strict=True) if not deleted]

    async def _is_deleted(self, topic: str) -> bool:
        try:
            async with asyncio.timeout(CLEANING_SEC):
                answer = await self.call("DELETE", f"/topics/{topic}")
        except (OSError, PubsubError):  # TimeoutError is one of the first
            return False
        return answer.status in {HTTPStatus.OK, HTTPStatus.NOT_FOUND, *_REFUSALS}

    # WebSockets

    def client_id(self, name: str) -> str:
        """Return the id of a client: with a token, it is always that of the token."""
        return self.credentials.client_id or f"{self.prefix}-{name}"

    def websocket(self, name: str, fields: Mapping[str, str] = {}) -> AbstractAsyncContextManager[WebSocket]:
        """Open a WebSocket of a client. Raises HandshakeRefused, ServerFault, OSError."""
        return open_websocket(self.address, self.client_id(name), self.credentials, fields)

    def client(self, name: str) -> Client:
        """Make a client of the SDK, which is told at once that it cannot connect."""
        return Client(
            str(self.address.url),
            client_id=self.client_id(name),
            token=self.credentials.token or None,
            api_key=self.credentials.api_key or None,
            tls=self.credentials.tls,
            connect_timeout=0,
        )


def expect(answer: Answer, status: int, what: str, body: Any = None) -> None:
    """Check the status of an answer, and its JSON if ``body`` is one. Raises CheckFailed; CheckSkipped at a limit."""
    check_limits(answer)
    if answer.status != status:
        raise CheckFailed(f"{what}: expected status {status}, got {describe(answer)}", advice_for(answer))
    if body is not None and decode(answer) != body:
        raise CheckFailed(f"{what}: expected {msgspec.json.encode(body).decode()}, got {shown(answer.body)}",
                          advice.ANSWERS_KEPT)  # fmt: skip


def check_limits(answer: Answer) -> None:
    """Raises CheckSkipped where a limit or a rate of the server is reached."""
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS and is_error(answer):
        raise CheckSkipped(f"a limit of the server: {text_of(answer.body)}")


def decode(answer: Answer) -> Any:
    """Decode the JSON of an answer; None if it is none."""
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError):
        return None


def is_error(answer: Answer) -> bool:
    """Return True if an answer is an error as this server writes them."""
    return bool(text_of(answer.body))


def describe(answer: Answer) -> str:
    text = text_of(answer.body)
    return f"{answer.status}: {text}" if text else f"{answer.status}, not from the server: {shown(answer.body)}"


def advice_for(answer: Answer) -> str:
    """Return the advice for a status that was not expected."""
    if is_error(answer):
        return ""
    if answer.status in _WITHOUT_SERVER:
        return advice.UPSTREAM
    if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return advice.BODY_LIMIT
    if answer.status == HTTPStatus.UNAUTHORIZED:
        return advice.PROXY_PASSWORD
    return advice.URL if answer.status < 400 or answer.status == HTTPStatus.NOT_FOUND else ""


def shown(body: bytes) -> str:
    text = body[:200].decode(errors="replace")
    return repr(" ".join(text.split())[:80])
