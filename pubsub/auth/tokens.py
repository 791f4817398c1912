"""Tokens (JWT): trusted keys with their algorithms, and the identity of a token. No I/O.

PyJWT and cryptography are imported only if there are keys. The rules are those of RFC 8725: each key has its own
algorithms, whatever a token says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from msgspec import Struct

from pubsub.auth.identity import FilteredIdentity, Identity
from pubsub.auth.permissions import EVERYTHING, RightFilters, make_filters, make_rights
from pubsub.protocol.errors import BadRequest, Unauthorized
from pubsub.protocol.requests import MAX_CLIENT_ID

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MAX_TOKEN_BYTES: Final = 8192  # the most bytes of a header
MAX_KEYS: Final = 64  # in a set: more than any provider rotates
MIN_SECRET_BYTES: Final = 32  # RFC 7518, 3.2
MIN_RSA_BITS: Final = 2048  # RFC 7518, 3.3
# Seconds by which the issuer's clock may be ahead for `nbf` and `iat`. `exp` has no such leeway: an accepted token must
# not end the connection at once.
LEEWAY: Final = 5

ALGORITHMS: Final = ("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA")
_PUBLIC: Final = ALGORITHMS[3:]
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class TrustedKey(Struct, frozen=True, kw_only=True):
    """A key with its algorithms. ``kid`` is None if it has no name: then it is tried for every token."""

    key: Any
    algorithms: tuple[str, ...]
    kid: str | None = None


class UnknownKey(Unauthorized):
    """The token names a key that is unknown, or not fetched yet."""


class KeySource(Protocol):
    """A set of keys that changes."""

    keys: Sequence[TrustedKey]

    def refresh(self, then: Callable[[], None]) -> bool:
        """Fetch the keys again, then call ``then``. Returns False, and does nothing, if it is too early."""
        ...


class Claims(Struct, frozen=True):
    """The claim ``pubsub``."""

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    admin: bool = False
    filters: dict[str, str] = {}


Outcome = Identity | Unauthorized


class Tokens:
    """Find the identity of a token. ``audience`` and ``issuer``: the accepted values; empty if any is accepted.

    ``check_filter`` raises BadRequest for the text of a filter that is not valid; without it no filter is.
    """

    def __init__(
        self,
        *,
        keys: Iterable[TrustedKey],
        source: KeySource | None = None,
        audience: Sequence[str] = (),
        issuer: Sequence[str] = (),
        check_filter: Callable[[str], object] | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        import jwt  # noqa: F401 - 0.2 s and 8 MiB: at the start, not when the first client comes

        self._keys = tuple(keys)
        self._source = source
        self._audience = list(audience) or None
        self._issuer = list(issuer) or None
        self._check_filter = check_filter
        self._now = now
        self._monotonic = monotonic

    def identify(self, token: str, answer: Callable[[Outcome], None]) -> None:
        """Call ``answer`` with the token's Identity or with Unauthorized: at once, or after its key was fetched."""
        outcome = self._outcome(token)
        waits = isinstance(outcome, UnknownKey) and self._source is not None
        if not waits or not self._source.refresh(lambda: answer(self._outcome(token))):  # type: ignore[union-attr]
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
            return self._identity_of(self._claims(token, header))
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

    def _claims(self, token: str, header: dict[str, Any]) -> dict[str, Any]:
        """The claims of a token, if one of the keys has signed it."""
        import jwt

        fitting = self._fitting(header)
        for trusted in fitting:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    trusted.key,
                    algorithms=trusted.algorithms,
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=LEEWAY,
                    options={"require": ["exp", "sub"]},
                )
            except jwt.InvalidSignatureError:
                continue
            return claims
        if self._may_come(header):
            raise UnknownKey("token: kid: not a key that is trusted here")
        if not fitting:
            raise Unauthorized("token: alg: not an algorithm of a key that is trusted here")
        raise jwt.InvalidSignatureError

    def _fitting(self, header: dict[str, Any]) -> list[TrustedKey]:
        """The keys that may have signed a token with this header."""
        algorithm, kid = header.get("alg"), header.get("kid")
        keys = [*self._keys, *(self._source.keys if self._source else ())]
        return [each for each in keys if algorithm in each.algorithms and (None in (kid, each.kid) or each.kid == kid)]

    def _may_come(self, header: dict[str, Any]) -> bool:
        """True if the source may have the key after a refresh."""
        if self._source is None or header.get("alg") not in _PUBLIC:
            return False
        kid, known = header.get("kid"), {each.kid for each in self._source.keys}
        return kid not in known if kid is not None else not known

    def _identity_of(self, claims: dict[str, Any]) -> Identity:
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
        Tokens(keys=[trusted], audience=audience, issuer=issuer, check_filter=check_filter).verify(token)
    except Unauthorized as failure:
        raise ValueError(str(failure)) from None
    return token


def secret_keys(text: str, allowed: Sequence[str]) -> list[TrustedKey]:
    """The secrets of ``JWT_SECRET``, separated by commas; each for the algorithms that allow its length."""
    found = []
    for number, secret in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        size = len(secret.encode())
        if size < MIN_SECRET_BYTES:
            raise ValueError(f"secret {number}: expected at least {MIN_SECRET_BYTES} bytes, got {size}")
        fitting = [name for name, least in _SECRET_BYTES.items() if size >= least]
        found.append(trusted_key(secret.encode(), fitting, allowed, f"secret {number}"))
    return found


def pem_keys(text: bytes, allowed: Sequence[str]) -> list[TrustedKey]:
    """The public keys of a PEM file. Raises ValueError."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    begin = b"-----BEGIN "
    blocks = [begin + block for block in text.split(begin)[1:]]
    if not blocks or len(blocks) > MAX_KEYS or not all(block.startswith(begin + b"PUBLIC KEY") for block in blocks):
        raise ValueError(f"expected 1 to {MAX_KEYS} public keys in PEM, each between BEGIN and END PUBLIC KEY")
    keys = []
    for number, block in enumerate(blocks, 1):
        key = load_pem_public_key(block)
        keys.append(trusted_key(key, algorithms_of(key), allowed, f"key {number}"))
    return keys


def jwks_keys(text: bytes, allowed: Sequence[str]) -> list[TrustedKey]:
    """The usable keys of a JWK set (RFC 7517). Raises ValueError if there is none."""
    import jwt

    try:
        listed = msgspec.json.decode(text, type=_KeySet).keys
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("not a JWK set") from None
    keys = []
    for described in listed[:MAX_KEYS]:
        if described.get("kty") == "oct" or described.get("use", "sig") != "sig":
            continue  # a published secret is no secret
        try:
            jwk = jwt.PyJWK(described | {"alg": None})  # its own claims are checked below
            own = algorithms_of(jwk.key)
            named = [described["alg"]] if "alg" in described else own
            fitting = [name for name in own if name in named]
            keys.append(trusted_key(jwk.key, fitting, allowed, "", kid=described.get("kid")))
        except (jwt.PyJWTError, ValueError, TypeError, LookupError, AttributeError):
            continue  # providers may list keys of unknown kinds
    if not keys:
        raise ValueError("no key in it can be used")
    return keys


class _KeySet(Struct, frozen=True):
    keys: list[dict[str, Any]]


def algorithms_of(key: Any) -> list[str]:
    """The algorithms of a public key. Raises ValueError if none of them is accepted."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    match key:
        case RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            return ["RS256", "RS384", "RS512"]
        case EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return [_CURVES[key.curve.name]]
        case Ed25519PublicKey():
            return ["EdDSA"]
    raise ValueError(f"expected RSA of at least {MIN_RSA_BITS} bits, EC on P-256, P-384 or P-521, or Ed25519")


def trusted_key(
    key: Any, fitting: Sequence[str], allowed: Sequence[str], where: str, *, kid: object = None
) -> TrustedKey:
    """A key with those of its algorithms that are allowed. Raises ValueError if there is none."""
    algorithms = tuple(name for name in fitting if not allowed or name in allowed)
    if not algorithms:
        raise ValueError(f"{where}: good for {', '.join(fitting)}, but only {', '.join(allowed)} allowed")
    return TrustedKey(key=key, algorithms=algorithms, kid=kid if isinstance(kid, str) else None)
