"""Who makes an HTTP request, and whether they may: origins, keys and tokens, rates, the rights to each REST route.

Rights to topics are not decided here: handlers and sessions ask the Identity for them.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final, NoReturn

from aiohttp import web
from aiohttp.typedefs import Handler

from pubsub.auth.api_keys import ApiKeys
from pubsub.auth.identity import Identity
from pubsub.auth.permissions import EVERYTHING
from pubsub.auth.rates import Rates, TokenBuckets
from pubsub.auth.tokens import Outcome, Tokens
from pubsub.protocol.errors import Forbidden, RateLimited, Unauthorized

log = logging.getLogger(__name__)

# Wrong keys and tokens from one address: so many at once and so many a second get 401 and a line in the log, the rest
# 429, and that later. The right ones always pass at once: behind a proxy all clients have one address, and nobody may
# lock the others out. First messages are counted together, as if from one.
FAILURE_BURST: Final = 60
FAILURES_PER_SEC: Final = 1.0
FAILURE_PAUSE: Final = 1.0  # seconds

ANYONE: Final = Identity(client_id="", subscribes=EVERYTHING, publishes=EVERYTHING, sees_all=True, admin=True)
IDENTITY: Final = web.RequestKey("identity", Identity)

WITHOUT_IDENTITY: Final = {"/health", "/ws"}  # the second has its own rules, in websocket.py
# Routes that show each only what it may subscribe to. Any other GET is for who sees all, and the rest for admins.
FOR_EVERY_TOKEN: Final = {"/topics", "/topics/{name}", "/stats"}
FOREIGN_SITES: Final = {"cross-site", "same-site"}  # of Sec-Fetch-Site, which says it where a browser hides the origin
READING: Final = {"GET", "HEAD", "OPTIONS"}


class Access:
    """What the server asks of an HTTP request. ``tokens`` is None where it takes none."""

    def __init__(
        self, *, api_keys: ApiKeys, tokens: Tokens | None, rates: Rates | None, allowed_origins: Sequence[str]
    ) -> None:
        self.tokens = tokens
        self._api_keys = api_keys
        self._rates = rates
        self._allowed_origins = frozenset(allowed_origins)
        self._failures = TokenBuckets(FAILURES_PER_SEC, FAILURE_BURST, time.monotonic)

    @property
    def rest_is_open(self) -> bool:
        """Whether REST serves who brings nothing: as long as there are no API keys, tokens or no tokens."""
        return not self._api_keys

    def check_origin(self, request: web.Request) -> None:
        """A page of a foreign site must not act for whoever reads it. Raises Forbidden."""
        origin = request.headers.get("Origin")
        if origin is None:
            foreign = request.headers.get("Sec-Fetch-Site") in FOREIGN_SITES
        else:
            foreign = origin not in self._allowed_origins and not is_own_origin(
                origin, request.headers.get("Host", ""), secure=request.secure
            )
        if foreign:
            raise Forbidden("Origin: not allowed here (ALLOWED_ORIGINS)")

    def check_host(self, request: web.Request) -> None:
        """A page whose name was made to mean this machine (DNS rebinding) is of its own origin. Raises Forbidden.

        That origin is http: for https it would need a certificate. No other page comes over loopback by a name of the
        Internet, but through a proxy that does not end TLS; then the name must be listed.
        """
        host = request.headers.get("Host", "")
        if (
            request.headers.get("Origin", "").startswith("http:")
            and came_over_loopback(request)
            and not is_local_name(host)
            and self._allowed_origins.isdisjoint((f"https://{host}", f"http://{host}"))
        ):
            raise Forbidden("Host: not a name of this machine (ALLOWED_ORIGINS)")

    async def identify(self, request: web.Request) -> Identity:
        """Who makes a REST request. Raises Unauthorized, RateLimited."""
        try:
            if self._api_keys and (key := request.headers.get("X-API-Key")):
                return self._api_keys.identify(key)
            if (self._api_keys or self.tokens) and (token := bearer_token(request)):
                return await self._identify_token(token)
        except Unauthorized as failure:
            await self._refuse(request, failure)
        if self.rest_is_open:
            return ANYONE
        raise Unauthorized("expected an API key in X-API-Key, or a token in Authorization: Bearer")

    async def identify_client(self, request: web.Request) -> Identity | None:
        """Who opens a WebSocket; None where nothing says so, or need. Raises Unauthorized, RateLimited."""
        if self.tokens is None:
            return None
        token = bearer_token(request)
        if token is None:
            token = request.query.get("token")
        if token is None:
            return None
        try:
            return await self._identify_token(token)
        except Unauthorized as failure:
            await self._refuse(request, failure)

    async def _identify_token(self, token: str) -> Identity:
        if self.tokens is None:
            raise Unauthorized("token: none is accepted here")
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.tokens.identify(token, lambda outcome: None if answer.done() else answer.set_result(outcome))
        outcome = await answer
        if isinstance(outcome, Unauthorized):
            raise outcome
        return outcome

    async def _refuse(self, request: web.Request, failure: Unauthorized) -> NoReturn:
        if wait := self._count_failure(network_of(request.remote), failure):
            await asyncio.sleep(FAILURE_PAUSE)
            raise RateLimited(wait) from None
        raise failure

    def identify_message(self, token: str, answer: Callable[[Outcome], None]) -> None:
        """Tokens.identify for a token that came in a message."""
        assert self.tokens is not None, "only a server with tokens asks for them"

        def pass_on(outcome: Outcome) -> None:
            if isinstance(outcome, Unauthorized) and self._count_failure("a first message", outcome):
                asyncio.get_running_loop().call_later(FAILURE_PAUSE, answer, outcome)
            else:
                answer(outcome)

        self.tokens.identify(token, pass_on)

    def _count_failure(self, source: str, failure: Unauthorized) -> float:
        """0, or the seconds until the source may fail again."""
        wait = self._failures.take(source)
        if not wait:
            log.warning("Not authenticated: %(source)s: %(reason)s", {"source": source, "reason": str(failure)})
        return wait

    def count(self, request: web.Request, identity: Identity) -> None:
        """Raises RateLimited for a client over its rate. Who has no name is known by the network."""
        if self._rates is not None:
            self._rates.count(identity.client_id or f"address {network_of(request.remote)}")


ACCESS: Final = web.AppKey("access", Access)


@web.middleware
async def check_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The one place where a REST request is let through."""
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else ""
    access = request.app[ACCESS]
    if request.method not in READING:
        access.check_origin(request)
    if path != "/health" and (access.tokens is None if path == "/ws" else access.rest_is_open):
        access.check_host(request)  # who must bring a key or token is known by that
    if path not in WITHOUT_IDENTITY:
        request[IDENTITY] = identity = await access.identify(request)
        access.count(request, identity)
        check_role(identity, request.method, path)
    return await handler(request)


def check_role(identity: Identity, method: str, path: str) -> None:
    """Raises Forbidden."""
    reads = method in READING and (identity.sees_all or path in FOR_EVERY_TOKEN)
    if not reads and not identity.admin:
        raise Forbidden("not allowed with this key or token")


def network_of(address: str | None) -> str:
    """Of IPv6 the half that tells networks apart: who has one address there has all that begin like it."""
    if not address or ":" not in address:
        return address or ""
    found = IPv6Address(address.partition("%")[0])
    return str(found.ipv4_mapped or IPv6Network((found, 64), strict=False))


def bearer_token(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def came_over_loopback(request: web.Request) -> bool:
    own_end = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return isinstance(own_end, tuple) and is_loopback(own_end[0])


def is_loopback(host: str) -> bool:
    """Whether an address, or ``localhost``, is reached from this machine alone; also one of IPv4 within IPv6."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_local_name(host: str) -> bool:
    """Whether nobody can make this name (or address) of a server mean another one: it does not stand in public DNS."""
    name = re.sub(r":[0-9]*\Z", "", host).strip("[]").rstrip(".").lower()
    return "." not in name or name.endswith(".localhost") or is_address(name)


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_own_origin(origin: str, host: str, *, secure: bool) -> bool:
    """Whether a page of ``origin`` came from where the request goes to: the same host and port, to the letter.

    The scheme must be https where that is certain; behind a proxy that ends TLS it is not known.
    """
    return origin == f"https://{host}" or (origin == f"http://{host}" and not secure)
