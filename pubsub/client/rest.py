"""REST calls of a client, for topics, rules and traces. It must never try a call again by itself."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from pubsub.client.address import ANSWER_WAIT_SEC, connect_error
from pubsub.client.credentials import Credentials
from pubsub.client.errors import Unreachable
from pubsub.client.outcomes import Presence, Published, TopicDetails, TopicSummary
from pubsub.client.refusals import refusal_over_http
from pubsub.client.rest_messages import outcomes_of
from pubsub.protocol import answers
from pubsub.protocol.answers import Purged, Redriven, RuleList, TopicRule, Trace, TracedConnection
from pubsub.protocol.calls import MAX_PAGE, NewMessage
from pubsub.protocol.replies import encode

__all__ = ["Redriven", "RestClient", "TopicRule", "Trace", "TracedConnection", "open_http"]

Answer = TypeVar("Answer")

NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=None)
"""aiohttp's own time limits lose a cancellation that comes at the same moment. asyncio's are used instead."""

LARGE_BODY: Final = 2**20  # bytes


class _Topic(msgspec.Struct):
    name: str
    subscribers: int = 0


class _Topics(msgspec.Struct):
    topics: list[_Topic]
    missing: list[str] = []


class _Page(msgspec.Struct):
    topics: list[TopicSummary]
    next: str | None
    missing: list[str] = []


def open_http(credentials: Credentials) -> aiohttp.ClientSession:
    """Make an HTTP session that sends ``credentials`` with every request; the caller closes it."""
    return aiohttp.ClientSession(
        timeout=NO_LIMIT,
        headers=credentials.headers,
        connector=aiohttp.TCPConnector(ssl=credentials.tls or True),
    )


class RestClient:
    """The topics of the server at ``base``. Every call raises Refused or Unreachable.

    ``headers`` gives those that each call has beside those of the session. ``timeout``: seconds for a call.
    ``missing``: of several servers, those that did not answer when the topics were last listed.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base: URL,
        headers: Callable[[], Awaitable[Mapping[str, str]]] | None = None,
        timeout: float = ANSWER_WAIT_SEC,
    ) -> None:
        self.missing: list[str] = []
        self._timeout = timeout
        self._http = http
        self._headers = headers
        self._topics_url = base / "topics"
        self._rules_url = base / "rules"
        self._clients_url = base / "clients"

    async def list_topics(self) -> dict[str, int]:
        """Fetch all topics: the number of subscribers by the name of the topic."""
        found = _decode(await self._call("GET", self._topics_url), _Topics, "a list of topics")
        self.missing = found.missing
        return {topic.name: topic.subscribers for topic in found.topics}

    async def find_topics(self, prefix: str) -> list[TopicSummary]:
        """Fetch the topics whose name begins with ``prefix``, sorted by name, page by page."""
        found: list[TopicSummary] = []
        missing: set[str] = set()
        after: str | None = ""
        while after is not None:
            query: dict[str, str | int] = {"prefix": prefix, "after": after, "limit": MAX_PAGE}
            page = _decode(await self._call("GET", self._topics_url.with_query(query)), _Page, "a page of topics")
            found += page.topics
            missing.update(page.missing)
            after = page.next
        self.missing = sorted(missing)
        return found

    async def describe(self, topic: str) -> TopicDetails:
        return _decode(await self._call("GET", self._url_of(topic)), TopicDetails, "a topic")

    async def presence(self, topic: str) -> Presence:
        """Fetch the clients of a topic with the option ``presence``."""
        return _decode(await self._call("GET", self._url_of(topic) / "presence"), Presence, "a list of clients")

    async def list_rules(self) -> list[TopicRule]:
        return _decode(await self._call("GET", self._rules_url), RuleList, "a list of rules").rules

    async def trace(self, client_id: str, topic: str, seq: int) -> Trace:
        """Fetch the fate of a message at the connections of a client."""
        url = self._clients_url.joinpath(quote(client_id, safe=""), "trace", encoded=True)
        return _decode(await self._call("GET", url.with_query(topic=topic, seq=seq)), Trace, "a trace")

    async def create(self, topic: str, options: Mapping[str, object]) -> None:
        await self._call("POST", self._topics_url, {"name": topic, **options})

    async def delete(self, topic: str) -> None:
        await self._call("DELETE", self._url_of(topic))

    async def publish(self, topic: str, messages: Sequence[NewMessage]) -> list[Published]:
        """Publish messages in this order, all of them or none: at most 1,000, which have ids."""
        body = await self._call("POST", self._url_of(topic) / "messages", encode(messages))
        return outcomes_of(_decode(body, answers.Published, "the outcomes of messages"), topic, messages)

    async def purge(self, topic: str) -> int:
        """Have the kept messages of a topic forgotten; return their number."""
        body = await self._call("DELETE", self._url_of(topic) / "messages")
        return _decode(body, Purged, "a number of messages").messages

    async def redrive(self, topic: str, *, after: int, limit: int) -> Redriven:
        """Have the messages of dead letters published again: of up to ``limit`` letters after the ``seq`` ``after``."""
        body = await self._call("POST", self._url_of(topic) / "redrive", {"after": after, "limit": limit})
        return _decode(body, Redriven, "the outcome of a redrive")

    def _url_of(self, topic: str) -> URL:
        return self._topics_url.joinpath(quote(topic, safe=""), encoded=True)

    async def _call(self, method: str, url: URL, body: Mapping[str, object] | bytes | None = None) -> bytes:
        """Make a call, with ``body`` as JSON, which bytes are already."""
        headers = {} if self._headers is None else dict(await self._headers())
        data = None if body is None else _payload(body if isinstance(body, bytes) else encode(body))
        if data is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.request(method, url, data=data, headers=headers, allow_redirects=False) as response,
            ):
                text = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(connect_error(url, error)) from None
        if response.status < 300:
            return text
        retry_after = response.headers.get("Retry-After")
        raise refusal_over_http(response.status, text, reason=response.reason or "", retry_after=retry_after)


def _payload(text: bytes) -> bytes | io.BytesIO:
    """Return a body as aiohttp wants it: a large one in pieces."""
    return text if len(text) <= LARGE_BODY else io.BytesIO(text)


def _decode(body: bytes, kind: type[Answer], expected: str) -> Answer:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreachable(f"expected {expected}, but the server's answer is none: {error}") from None
