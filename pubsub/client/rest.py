"""REST calls of a client, for topics and rules. It must never try a call again by itself."""

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from pubsub.client.address import ANSWER_WAIT_SEC, Unreachable, connect_error
from pubsub.client.credentials import Credentials
from pubsub.protocol.answers import Purged, RuleList, TopicRule

__all__ = ["Refused", "RestClient", "TopicRule", "error_of", "open_http"]

Answer = TypeVar("Answer")


class Refused(Exception):
    """The server refused a call. ``status`` is the HTTP status, the text is that of the server."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Topic(msgspec.Struct):
    name: str
    subscribers: int = 0


class _Topics(msgspec.Struct):
    topics: list[_Topic]


class _Error(msgspec.Struct):
    error: str


def open_http(credentials: Credentials) -> aiohttp.ClientSession:
    """Make an HTTP session that sends ``credentials`` with every request; the caller closes it."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=ANSWER_WAIT_SEC),
        headers=credentials.headers,
        connector=aiohttp.TCPConnector(ssl=credentials.tls or True),
    )


class RestClient:
    """The topics of the server at ``base``. Every call raises ``Refused`` or ``Unreachable``."""

    def __init__(self, http: aiohttp.ClientSession, base: URL) -> None:
        self._http = http
        self._topics_url = base / "topics"
        self._rules_url = base / "rules"

    async def list_topics(self) -> dict[str, int]:
        """Fetch all topics: the number of subscribers by the name of the topic."""
        body = await self._call("GET", self._topics_url)
        return {topic.name: topic.subscribers for topic in _decode(body, _Topics, "a list of topics").topics}

    async def list_rules(self) -> list[TopicRule]:
        return _decode(await self._call("GET", self._rules_url), RuleList, "a list of rules").rules

    async def create(self, topic: str, options: Mapping[str, object]) -> None:
        await self._call("POST", self._topics_url, {"name": topic, **options})

    async def delete(self, topic: str) -> None:
        await self._call("DELETE", self._url_of(topic))

    async def purge(self, topic: str) -> int:
        """Have the kept messages of a topic forgotten; return their number."""
        body = await self._call("DELETE", self._url_of(topic) / "messages")
        return _decode(body, Purged, "a number of messages").messages

    def _url_of(self, topic: str) -> URL:
        return self._topics_url.joinpath(quote(topic, safe=""), encoded=True)

    async def _call(self, method: str, url: URL, body: Mapping[str, object] | None = None) -> bytes:
        try:
            async with self._http.request(method, url, json=body, allow_redirects=False) as response:
                text = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(connect_error(url, error)) from None
        if response.status < 300:
            return text
        raise Refused(response.status, error_of(text) or response.reason or "no reason given")


def _decode(body: bytes, kind: type[Answer], expected: str) -> Answer:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise Unreachable(f"expected {expected}, but the server's answer is none: {error}") from None


def error_of(body: bytes) -> str:
    """Return the text of the server in the body of a refusal; empty if there is none."""
    try:
        return msgspec.json.decode(body, type=_Error).error
    except msgspec.DecodeError:
        return ""
