"""Tokens (JWT): their verification, and the identity that they give. No I/O.

PyJWT is imported only where there are tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Final

import msgspec
from msgspec import Struct

from pubsub.auth.identity import FilteredIdentity, Identity
from pubsub.auth.keys import TrustedKey
from pubsub.auth.permissions import EVERYTHING, RightFilters, make_filters, make_rights
from pubsub.auth.trust import Proof, Trust, make_proof
from pubsub.protocol.errors import BadRequest, Unauthorized
from pubsub.protocol.requests import MAX_CLIENT_ID

MAX_TOKEN_BYTES: Final = 8192  # the most bytes of a header
# Seconds by which the issuer's clock may be ahead for `nbf` and `iat`. `exp` has no such leeway: an accepted token must
# not end the connection at once.
LEEWAY: Final = 5


class UnknownKey(Unauthorized):
    """The token names a key that is unknown, or not fetched yet."""


class Claims(Struct, frozen=True):
    """The claim ``pubsub``."""

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    admin: bool = False
    filters: dict[str, str] = {}


Outcome = Identity | Unauthorized


class Tokens:
    """Find the identity of a token. ``trust`` may be replaced at any time; it counts for tokens that wait, too.

    ``check_filter`` raises BadRequest for the text of a filter that is not valid; without it no filter is.
    """

    def __init__(
        self,
        trust: Trust,
        *,
        check_filter: Callable[[str], object] | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trust = trust
        self._check_filter = check_filter
        self._now = now
        self._monotonic = monotonic

    def __bool__(self) -> bool:
        """True if the server takes tokens."""
        return bool(self.trust)

    def identify(self, token: str, answer: Callable[[Outcome], None]) -> None:
        """Call ``answer`` with the token's Identity or with Unauthorized: at once, or after its key was fetched."""
        outcome, source = self._outcome(token), self.trust.source
        if (
            source is None
            or not isinstance(outcome, UnknownKey)
            or not source.refresh(lambda: answer(self._outcome(token)))
        ):
            answer(outcome)

    def _outcome(self, token: str) -> Outcome:
        try:
            return self.verify(token)
        except Unauthorized as failure:
            return failure

    def verify(self, token: str) -> Identity:
        """Verify a token. Raises Unauthorized, which shows nothing of the token; UnknownKey if its key is unknown."""
        import jwt

        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthorized(f"token: expected at most {MAX_TOKEN_BYTES} bytes")
        try:
            header = jwt.get_unverified_header(token)
            return self._identity_of(*self._claims(token, header))
        except jwt.ExpiredSignatureError:
            raise Unauthorized("token: expired") from None
        except jwt.ImmatureSignatureError:
            raise Unauthorized("token: not valid yet") from None
        except jwt.InvalidAudienceError:
            raise Unauthorized("token: aud: meant for someone else") from None
        except jwt.InvalidIssuerError:
            raise Unauthorized("token: iss: not an issuer that is trusted here") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthorized(f"token: {error.claim}: required, but missing") from None
        except jwt.InvalidSignatureError:
            raise Unauthorized("token: the signature is not that of a key that is trusted here") from None
        except (jwt.PyJWTError, UnicodeError, OverflowError):  # OverflowError: an exp that is no float
            raise Unauthorized("token: not a JWT that can be read") from None

    def _claims(self, token: str, header: dict[str, Any]) -> tuple[dict[str, Any], Proof]:
        """The claims of a token, if one of the keys has signed it."""
        import jwt

        fitting = self.trust.fitting(header)
        for trusted in fitting:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    trusted.key,
                    algorithms=trusted.algorithms,
                    audience=self.trust.audience or None,
                    issuer=self.trust.issuer or None,
                    leeway=LEEWAY,
                    options={"require": ["exp", "sub"]},
                )
            except jwt.InvalidSignatureError:
                continue
            return claims, proof_of(trusted, header, claims)
        if self.trust.may_come(header):
            raise UnknownKey("token: kid: not a key that is trusted here")
        if not fitting:
            raise Unauthorized("token: alg: not an algorithm of a key that is trusted here")
        raise jwt.InvalidSignatureError

    def _identity_of(self, claims: dict[str, Any], proof: Proof) -> Identity:
        client_id = claims["sub"]
        # It goes into a header, and into JSON, which cannot have a lone surrogate.
        if not 1 <= len(client_id) <= MAX_CLIENT_ID or not client_id.isprintable():
            raise Unauthorized(f"token: sub: expected 1 to {MAX_CLIENT_ID} printable characters")
        left = float(claims["exp"]) - self._now()
        if left <= 0:
            raise Unauthorized("token: expired")
        try:
            granted = msgspec.convert(claims.get("pubsub", {}), Claims)
            described = {
                "client_id": client_id,
                "subscribes": EVERYTHING if granted.admin else make_rights(granted.subscribe),
                "publishes": make_rights(granted.publish),
                "sees_all": granted.admin,
                "admin": granted.admin,
                "expires": self._monotonic() + left,
                "proof": proof,
            }
            if not granted.filters:
                return Identity(**described)
            return FilteredIdentity(**described, filters=self._checked(granted.filters))
        except ValueError as error:  # msgspec's error is a ValueError
            raise Unauthorized(f"token: pubsub: {error}") from None

    def _checked(self, filters: dict[str, str]) -> RightFilters:
        """The filters of a token. A filter that does not compile makes the token invalid: it would hide too little."""
        made = make_filters(tuple(sorted(filters.items())))
        for number, text in enumerate(filters.values(), 1):
            try:
                if self._check_filter is None:
                    raise BadRequest("filter: none is accepted here")
                self._check_filter(text)
            except BadRequest as failure:
                raise Unauthorized(f"token: pubsub.filters: entry {number}: {failure}") from None
        return made


def proof_of(key: TrustedKey, header: Mapping[str, Any], claims: Mapping[str, Any]) -> Proof:
    """The proof of a token that ``key`` has signed. An issuer that is no text is never one that is asked for."""
    issuer, audience = claims.get("iss"), claims.get("aud") or ()
    return make_proof(
        key,
        header["alg"],
        issuer if isinstance(issuer, str) else None,
        (audience,) if isinstance(audience, str) else tuple(audience),
    )


def sign(
    trusted: TrustedKey,
    *,
    sub: str,
    subscribe: Sequence[str],
    publish: Sequence[str],
    admin: bool,
    filters: Mapping[str, str],
    check_filter: Callable[[str], object],
    ttl: float,
    audience: Sequence[str],
    issuer: Sequence[str],
) -> str:
    """Sign a token with a secret, for development. Raises ValueError for a token that :class:`Tokens` would refuse."""
    import jwt

    if not isfinite(ttl):
        raise ValueError("ttl: expected a number of seconds")
    now = time.time()
    rights: dict[str, Any] = {"subscribe": list(subscribe), "publish": list(publish), "admin": admin}
    rights |= {"filters": dict(filters)} if filters else {}
    claims: dict[str, Any] = {"sub": sub, "iat": int(now), "exp": int(now + ttl), "pubsub": rights}
    claims |= {"aud": audience[0]} if audience else {}
    claims |= {"iss": issuer[0]} if issuer else {}
    token = jwt.encode(claims, trusted.key, algorithm=trusted.algorithms[0])
    try:
        trust = Trust(keys=[trusted], audience=audience, issuer=issuer)
        Tokens(trust, check_filter=check_filter).verify(token)
    except Unauthorized as failure:
        raise ValueError(str(failure)) from None
    return token
