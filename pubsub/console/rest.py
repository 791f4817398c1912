"""The REST calls of the console: list, create and delete topics."""

from collections.abc import Mapping
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from pubsub.console.address import Unreachable, cause_of, without_password


class Refused(Exception):
    """The server answered no. ``status`` is HTTP's, the text is the server's."""

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


class Rest:
    """The topics of the server at ``base``. Every call raises ``Refused`` or ``Unreachable``."""

    def __init__(self, http: aiohttp.ClientSession, base: URL) -> None:
        self._http = http
        self._topics_url = base / "topics"

    async def list_topics(self) -> dict[str, int]:
        """The number of subscribers by the name of the topic."""
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
            raise Unreachable(f"cannot reach {without_password(url.origin())}: {cause_of(error)}") from None
        if response.ok:
            return text
        raise Refused(response.status, _error_of(text) or response.reason or "no reason given")


def _error_of(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Error).error
    except msgspec.DecodeError:
        return ""
