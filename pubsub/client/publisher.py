"""Publishes over REST, from code without an event loop: Django, Flask, Celery, scripts.

It must never leave an outcome open without saying so: after AnswerTimeout a message may be in its topic (and after
ServerFault, where the answer was not to be read); after every other error it is not.
"""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from pubsub.client.errors import AnswerTimeout, Conflict, PubsubError, TokenError
from pubsub.client.http_connections import HttpConnections
from pubsub.client.origin import read_origin
from pubsub.client.outcomes import Published
from pubsub.client.rest_messages import (
    Chunk,
    find_id,
    get_message,
    make_message,
    post_to,
    read_published,
    split,
)
from pubsub.client.retries import Retries
from pubsub.client.timed_socket import Deadline
from pubsub.protocol.calls import NewMessage
from pubsub.protocol.replies import encode

__all__ = ["Publisher"]


class Publisher:
    """``Publisher("http://127.0.0.1:8080").publish("orders", {"amount": 5})``

    Make one for the process and share it: threads may use it at the same time, and it may be made before a fork, as
    gunicorn and Celery do. It keeps its connections between calls, and opens none before the first one.

    ``url``: of the server, or of its Unix socket (``unix:/run/pubsub.sock``). ``token``: a JWT, or a function that
    returns one and is called for each attempt. ``tls``: the certificates to trust; by default those of the system.

    ``timeout``: seconds for a whole call with all its attempts; the resolver of names has a limit of its own.
    ``retries``: further attempts after a lost connection, and after an answer that says "later" (429, 502, 503), with
    growing pauses and with the same id. Where the first attempt had been served, a topic with ``dedup_sec`` has the
    message once, and another topic has it twice; with ``retries=0`` nothing is ever sent twice.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        token: str | Callable[[], str] | None = None,
        timeout: float = 10,
        retries: int = 5,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Raises ValueError."""
        if not timeout > 0 or retries < 0:
            raise ValueError(f"expected timeout above 0 and retries of at least 0, got {timeout} and {retries}")
        self._connections = HttpConnections(read_origin(url, tls))
        self._timeout = timeout
        self._retries = Retries(self._connections, _Credentials(api_key, token).headers, retries)
        weakref.finalize(self, self._connections.close_idle)  # at the exit of the interpreter at the latest

    def publish(
        self,
        topic: str,
        payload: Any,
        *,
        id: str | None = None,
        ttl_sec: float | None = None,
        expect_seq: int | None = None,
    ) -> Published:
        """Publish a message, and return once it is in the topic.

        ``id``: a UUID; a new one by default. ``expect_seq``: publish only if this is the ``seq`` of the topic, or else
        raise Conflict. Raises PubsubError.
        """
        message = make_message(payload, id=id, ttl_sec=ttl_sec, expect_seq=expect_seq)
        deadline = Deadline(self._timeout)
        answer = self._retries.send(post_to(topic, encode(message)), deadline)
        try:
            return read_published(answer.reply, topic, [message])[0]
        except Conflict as conflict:
            if answer.after_unknown and expect_seq is not None and conflict.seq > expect_seq:
                return self._find_own(topic, message, expect_seq + 1, conflict, deadline)
            raise

    def publish_many(self, topic: str, payloads: Iterable[Any], *, ttl_sec: float | None = None) -> list[Published]:
        """Publish messages in this order, all of them or none.

        More than 1,000 of them, or more than 1 MiB, take several requests, of which each is all or nothing. Raises
        PubsubError, with ``index``: the payloads before that one are published.
        """
        chunks = list(split(make_message(payload, ttl_sec=ttl_sec) for payload in payloads))
        deadline = Deadline(self._timeout)
        published: list[Published] = []
        for chunk in chunks:
            try:
                published += self._publish_chunk(topic, chunk, deadline)
            except PubsubError as error:
                error.index = len(published)
                raise
        return published

    def close(self) -> None:
        """Close the kept connections. A later call opens new ones."""
        self._connections.close_idle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def _publish_chunk(self, topic: str, chunk: Chunk, deadline: Deadline) -> list[Published]:
        answer = self._retries.send(post_to(topic, chunk.body), deadline)
        return read_published(answer.reply, topic, chunk.messages)

    def _find_own(self, topic: str, message: NewMessage, seq: int, conflict: Conflict, deadline: Deadline) -> Published:
        """Return the outcome of an earlier attempt, if that has taken this ``seq``.

        Raises ``conflict`` if another message has it, and AnswerTimeout if the history does not tell.
        """
        try:
            found = find_id(self._retries.send(get_message(topic, seq), deadline).reply, seq)
        except PubsubError as error:
            raise AnswerTimeout(f"the message may be the one with seq {seq}, or not be published: {error}") from error
        if found != message.id:
            raise conflict
        return Published(topic, found, seq, duplicate=True)


class _Credentials:
    """The headers that say who publishes."""

    def __init__(self, api_key: str | None, token: str | Callable[[], str] | None) -> None:
        """Raises ValueError."""
        self._fixed = {"Content-Type": "application/json"}
        if api_key:
            self._fixed["X-API-Key"] = _checked("api_key", api_key)
        self._token = token if callable(token) else None
        if isinstance(token, str):
            self._fixed["Authorization"] = f"Bearer {_checked('token', token)}"

    def headers(self) -> Mapping[str, str]:
        """Return the headers for one attempt. Raises TokenError."""
        if self._token is None:
            return self._fixed
        try:
            return self._fixed | {"Authorization": f"Bearer {_checked('token', self._token())}"}
        except Exception as error:
            raise TokenError(f"the token function raised {type(error).__name__}, or returned no token") from error


def _checked(name: str, secret: str) -> str:
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ValueError(f"{name}: expected printable ASCII characters without blanks")
    return secret
