"""Identities of HTTP requests: by API key or token, with the failures and the rates that are counted for them.

Nothing here decides about a route or a topic: access control, handlers and sessions ask the Identity.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address, IPv6Network
from typing import Final, NoReturn

from aiohttp import web

from pubsub.auth.api_keys import ApiKeys
from pubsub.auth.identity import Identity
from pubsub.auth.permissions import EVERYTHING
from pubsub.auth.rates import Rates, TokenBuckets
from pubsub.auth.tokens import Outcome, Tokens
from pubsub.auth.trust import Proof
from pubsub.http.addresses import address_of
from pubsub.http.waiting import answered
from pubsub.protocol.errors import RateLimited, Unauthorized

log = logging.getLogger(__name__)

# Wrong keys and tokens from one address: so many at once and so many a second get 401 and a line in the log, the rest
# 429, and that later. The right ones always pass at once: behind a proxy all clients have one address, and nobody may
# lock the others out. First messages are counted together, as if from one.
FAILURE_BURST: Final = 60
FAILURES_PER_SEC: Final = 1.0
FAILURE_PAUSE: Final = 1.0  # seconds

ANYONE: Final = Identity(client_id="", subscribes=EVERYTHING, publishes=EVERYTHING, sees_all=True, admin=True)
IDENTITY: Final = web.RequestKey("identity", Identity)


class Identities:
    """Identifies clients by what their requests bring. Its parts may be replaced at any time.

    ``failures``: wrong keys and tokens. ``rates`` is None if there is no limit of requests.
    """

    def __init__(self, *, api_keys: ApiKeys, tokens: Tokens, rates: Rates | None) -> None:
        self.api_keys = api_keys
        self.tokens = tokens
        self.rates = rates
        self._failures = TokenBuckets(FAILURES_PER_SEC, FAILURE_BURST, time.monotonic)
        self.failures = 0

    @property
    def rest_is_open(self) -> bool:
        """True if REST serves clients without credentials: as long as there are no API keys, tokens or no tokens."""
        return not self.api_keys

    async def identify(self, request: web.Request) -> Identity:
        """The client of a REST request. Raises Unauthorized, RateLimited."""
        try:
            if self.api_keys and (key := request.headers.get("X-API-Key")):
                return self.api_keys.identify(key)
            if (self.api_keys or self.tokens) and (token := bearer_token(request)):
                return await self._identify_token(token)
        except Unauthorized as failure:
            await self._refuse(request, failure)
        if self.rest_is_open:
            return ANYONE
        raise Unauthorized("expected an API key in X-API-Key, or a token in Authorization: Bearer")

    async def identify_client(self, request: web.Request) -> Identity | None:
        """The client that opens a WebSocket. Raises Unauthorized, RateLimited.

        None where the server takes no tokens, or the handshake has none: then the first message must bring it.
        """
        if not self.tokens:
            return None
        token = bearer_token(request)
        if token is None:
            token = request.query.get("token")
        return None if token is None else await self._identify_or_refuse(request, token)

    async def identify_reader(self, request: web.Request) -> Identity:
        """The client of a stream of events: by key or token, as over REST, or by a token in the URL.

        A server that takes tokens serves nobody without one, or without a key. Raises Unauthorized, RateLimited.
        """
        token = request.query.get("token")
        if token is not None and self.tokens and not has_credentials(request):
            return await self._identify_or_refuse(request, token)
        identity = await self.identify(request)
        if identity is ANYONE and self.tokens:
            raise Unauthorized("expected a token in Authorization: Bearer, or in the query as token")
        return identity

    async def _identify_token(self, token: str) -> Identity:
        if not self.tokens:
            raise Unauthorized("token: none is accepted here")
        return await answered(partial(self.tokens.identify, token))

    async def _identify_or_refuse(self, request: web.Request, token: str) -> Identity:
        try:
            return await self._identify_token(token)
        except Unauthorized as failure:
            await self._refuse(request, failure)

    async def _refuse(self, request: web.Request, failure: Unauthorized) -> NoReturn:
        if wait := self._count_failure(network_of(address_of(request)), failure):
            await asyncio.sleep(FAILURE_PAUSE)
            raise RateLimited(wait) from None
        raise failure

    def identify_message(self, token: str, answer: Callable[[Outcome], None]) -> None:
        """Tokens.identify for a token that came in a message."""

        def pass_on(outcome: Outcome) -> None:
            if isinstance(outcome, Unauthorized) and self._count_failure("a first message", outcome):
                asyncio.get_running_loop().call_later(FAILURE_PAUSE, answer, outcome)
            else:
                answer(outcome)

        self.tokens.identify(token, pass_on)

    @property
    def streams_are_open(self) -> bool:
        """True if streams serve clients without credentials."""
        return self.rest_is_open and not self.tokens

    def proves(self, proof: Proof | bytes | None) -> bool:
        """True if the key or token of an identity would be accepted now too."""
        if isinstance(proof, Proof):
            return self.tokens.trust.accepts(proof)
        return proof is not None and self.api_keys.accepts(proof)

    def check_proof(self, identity: Identity) -> None:
        """Raise Unauthorized if a client's key or token was revoked while it waited."""
        if not self.proves(identity.proof):
            raise Unauthorized("key or token: no longer accepted")

    def _count_failure(self, source: str, failure: Unauthorized) -> float:
        """0, or the seconds until the source may fail again."""
        self.failures += 1
        wait = self._failures.take(source)
        if not wait:
            log.warning("Not authenticated: %(source)s: %(reason)s", {"source": source, "reason": str(failure)})
        return wait

    def count(self, request: web.Request, identity: Identity, client_id: str = "") -> None:
        """Count a request. Raises RateLimited for a client over its rate. ``client_id``: the name that it claims."""
        if self.rates is not None:
            self.rates.count(client_id or _owner_of(request, identity))

    def count_list(self, request: web.Request, identity: Identity, size: int) -> None:
        """Count the messages of a list. Raises RateLimited, LimitExceeded."""
        if self.rates is not None:
            self.rates.count_list(_owner_of(request, identity), size)


IDENTITIES: Final = web.AppKey("identities", Identities)


def _owner_of(request: web.Request, identity: Identity) -> str:
    """The client of a rate. One without a name is known by its network."""
    return identity.client_id or f"address {network_of(address_of(request))}"


def network_of(address: str) -> str:
    """The address; of IPv6 the half that tells networks apart, since a client there has all that begin like it."""
    if ":" not in address:
        return address
    found = IPv6Address(address.partition("%")[0])
    return str(found.ipv4_mapped or IPv6Network((found, 64), strict=False))


def has_credentials(request: web.Request) -> bool:
    """True if the header fields have a key or a token."""
    return "X-API-Key" in request.headers or bearer_token(request) is not None


def bearer_token(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
