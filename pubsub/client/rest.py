"""REST calls of a client: list, create and delete topics. It must never try a call again by itself."""

from collections.abc import Mapping
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from pubsub.client.address import ANSWER_WAIT_SEC, Unreachable, connect_error
from pubsub.client.credentials import Credentials


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

    async def list_topics(self) -> dict[str, int]:
        """Fetch all topics: the number of subscribers by the name of the topic."""
        body = await self._call("GET", self._topics_url)
        try:
            return {topic.name: topic.subscribers for topic in msgspec.json.decode(body, type=_Topics).topics}
        except msgspec.DecodeError as error:
            raise Unreachable(f"expected a list of topics, but the server's answer is none: {error}") from None

    async def create(self, topic: str, options: Mapping[str, object]) -> None:
        await self._call("POST", self._topics_url, {"name": topic, **options})

    async def delete(self, topic: str) -> None:
        await self._call("DELETE", self._topics_url.joinpath(quote(topic, safe=""), encoded=True))

    async def _call(self, method: str, url: URL, body: Mapping[str, object] | None = None) -> bytes:
        try:
            async with self._http.request(method, url, json=body, allow_redirects=False) as response:
                text = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(connect_error(url, error)) from None
        if response.status < 300:
            return text
        raise Refused(response.status, _error_of(text) or response.reason or "no reason given")


def _error_of(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Error).error
    except msgspec.DecodeError:
        return ""
