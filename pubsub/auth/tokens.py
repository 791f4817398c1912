"""Tokens (JWT): which keys are trusted, for which algorithms, and whom a token names. No I/O.

PyJWT and cryptography are imported when there are keys: they cost a server without tokens nothing. The rules are
those of RFC 8725; the one about algorithms is that each key has its own, whatever a token says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from msgspec import Struct

from pubsub.auth.identity import Identity
from pubsub.auth.permissions import EVERYTHING, make_rights
from pubsub.protocol.errors import Unauthorized
from pubsub.protocol.requests import MAX_CLIENT_ID

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MAX_TOKEN_BYTES: Final = 8192  # what a header may have at most
MAX_KEYS: Final = 64  # of a set: more than any provider rotates among
MIN_SECRET_BYTES: Final = 32  # RFC 7518, 3.2
MIN_RSA_BITS: Final = 2048  # RFC 7518, 3.3
# Seconds by which another clock may be ahead at `nbf` and `iat`. `exp` has none: a client renews in time, and a token
# that is accepted must not be one that ends the connection at once.
LEEWAY: Final = 5

ALGORITHMS: Final = ("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA")
_PUBLIC: Final = ALGORITHMS[3:]
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class TrustedKey(Struct, frozen=True, kw_only=True):
    """``kid`` is None where the key has no name: then it is tried whatever a token calls its own."""

    key: Any
    algorithms: tuple[str, ...]
    kid: str | None = None


class UnknownKey(Unauthorized):
    """The token names a key that is not there, or not yet."""


class KeySource(Protocol):
    """Keys that come and go."""

    keys: Sequence[TrustedKey]

    def refresh(self, then: Callable[[], None]) -> bool:
        """Fetch the keys anew and call ``then``, later; False, and nothing, where that is not to be done now."""
        ...


class Claims(Struct, frozen=True):
    """The claim ``pubsub``."""

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    admin: bool = False


Outcome = Identity | Unauthorized


class Tokens:
    """Says whom a token names. ``audience`` and ``issuer``: any of them will do; none of them is none asked for."""

    def __init__(
        self,
        *,
        keys: Iterable[TrustedKey],
        source: KeySource | None = None,
        audience: Sequence[str] = (),
        issuer: Sequence[str] = (),
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        import jwt  # noqa: F401 - 0.2 s and 8 MiB: at the start, not when the first client comes

        self._keys = tuple(keys)
        self._source = source
        self._audience = list(audience) or None
        self._issuer = list(issuer) or None
        self._now = now
        self._monotonic = monotonic

    def identify(self, token: str, answer: Callable[[Outcome], None]) -> None:
        """Call ``answer`` with the token's Identity, or with why it has none: at once, or once its key was fetched."""
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
        """Raises Unauthorized, which says why and shows nothing of the token; UnknownKey where its key is not there."""
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
        except (jwt.PyJWTError, UnicodeError, OverflowError):  # the last for an exp beyond all floats
            raise Unauthorized("token: not a JWT that can be read") from None

    def _claims(self, token: str, header: dict[str, Any]) -> dict[str, Any]:
        """The claims of a token that one of the keys has signed."""
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
        """The keys that a token with this header may be signed with."""
        algorithm, kid = header.get("alg"), header.get("kid")
        keys = [*self._keys, *(self._source.keys if self._source else ())]
        return [each for each in keys if algorithm in each.algorithms and (None in (kid, each.kid) or each.kid == kid)]

    def _may_come(self, header: dict[str, Any]) -> bool:
        """Whether the source may have the key after a refresh."""
        if self._source is None or header.get("alg") not in _PUBLIC:
            return False
        kid, known = header.get("kid"), {each.kid for each in self._source.keys}
        return kid not in known if kid is not None else not known

    def _identity_of(self, claims: dict[str, Any]) -> Identity:
        client_id = claims["sub"]
        # It goes into a header, and into JSON, which can't hold a lone surrogate.
        if not 1 <= len(client_id) <= MAX_CLIENT_ID or not client_id.isprintable():
            raise Unauthorized(f"token: sub: expected 1 to {MAX_CLIENT_ID} printable characters")
        left = float(claims["exp"]) - self._now()
        if left <= 0:
            raise Unauthorized("token: expired")
        try:
            granted = msgspec.convert(claims.get("pubsub", {}), Claims)
            return Identity(
                client_id=client_id,
                subscribes=EVERYTHING if granted.admin else make_rights(granted.subscribe),
                publishes=make_rights(granted.publish),
                sees_all=granted.admin,
                admin=granted.admin,
                expires=self._monotonic() + left,
            )
        except ValueError as error:  # msgspec's own is one of them
            raise Unauthorized(f"token: pubsub: {error}") from None


def sign(
    trusted: TrustedKey,
    *,
    sub: str,
    subscribe: Sequence[str],
    publish: Sequence[str],
    admin: bool,
    ttl: float,
    audience: Sequence[str],
    issuer: Sequence[str],
) -> str:
    """A token of our own, by a secret, for development. Raises ValueError for what :class:`Tokens` would not take."""
    import jwt

    if not isfinite(ttl):
        raise ValueError("ttl: expected a number of seconds")
    now = time.time()
    claims: dict[str, Any] = {
        "sub": sub,
        "iat": int(now),
        "exp": int(now + ttl),
        "pubsub": {"subscribe": list(subscribe), "publish": list(publish), "admin": admin},
    }
    claims |= {"aud": audience[0]} if audience else {}
    claims |= {"iss": issuer[0]} if issuer else {}
    token = jwt.encode(claims, trusted.key, algorithm=trusted.algorithms[0])
    try:
        Tokens(keys=[trusted], audience=audience, issuer=issuer).verify(token)
    except Unauthorized as failure:
        raise ValueError(str(failure)) from None
    return token


def secret_keys(text: str, allowed: Sequence[str]) -> list[TrustedKey]:
    """The secrets of ``JWT_SECRET``, parted by commas; each for the algorithms that it is long enough for."""
    found = []
    for number, secret in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        size = len(secret.encode())
        if size < MIN_SECRET_BYTES:
            raise ValueError(f"secret {number}: expected at least {MIN_SECRET_BYTES} bytes, got {size}")
        fitting = [name for name, least in _SECRET_BYTES.items() if size >= least]
        found.append(trusted_key(secret.encode(), fitting, allowed, f"secret {number}"))
    return found


def pem_keys(text: bytes, allowed: Sequence[str]) -> list[TrustedKey]:
    """The public keys of a PEM file, one after the other. Raises ValueError."""
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
    """The keys of a JWK set (RFC 7517) that can be used here; ValueError where there is none."""
    import jwt

    try:
        listed = msgspec.json.decode(text, type=_KeySet).keys
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("not a JWK set") from None
    keys = []
    for described in listed[:MAX_KEYS]:
        if described.get("kty") == "oct" or described.get("use", "sig") != "sig":
            continue  # a secret that everyone can read is none
        try:
            jwk = jwt.PyJWK(described | {"alg": None})  # what it says of itself is checked below
            own = algorithms_of(jwk.key)
            named = [described["alg"]] if "alg" in described else own
            fitting = [name for name in own if name in named]
            keys.append(trusted_key(jwk.key, fitting, allowed, "", kid=described.get("kid")))
        except (jwt.PyJWTError, ValueError, TypeError, LookupError, AttributeError):
            continue  # providers list keys of kinds to come
    if not keys:
        raise ValueError("no key in it can be used")
    return keys


class _KeySet(Struct, frozen=True):
    keys: list[dict[str, Any]]


def algorithms_of(key: Any) -> list[str]:
    """What a public key is for. Raises ValueError where that is nothing that is accepted here."""
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
    """A key for those of its algorithms that are allowed; raises ValueError where that is none."""
    algorithms = tuple(name for name in fitting if not allowed or name in allowed)
    if not algorithms:
        raise ValueError(f"{where}: good for {', '.join(fitting)}, but only {', '.join(allowed)} allowed")
    return TrustedKey(key=key, algorithms=algorithms, kid=kid if isinstance(kid, str) else None)
