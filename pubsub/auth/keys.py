"""The keys that sign tokens, read from secrets, PEM files and JWK sets. No I/O.

PyJWT and cryptography are imported only if there are keys. The rules are those of RFC 8725: each key has its own
algorithms, whatever a token says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

MAX_KEYS: Final = 64  # in a set: more than any provider rotates
MIN_SECRET_BYTES: Final = 32  # RFC 7518, 3.2
MIN_RSA_BITS: Final = 2048  # RFC 7518, 3.3

ALGORITHMS: Final = ("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA")
PUBLIC: Final = ALGORITHMS[3:]  # those of public keys
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class TrustedKey(Struct, frozen=True, kw_only=True, eq=False):
    """A key with its algorithms. ``kid`` is None if it has no name: then it is tried for every token."""

    key: Any
    algorithms: tuple[str, ...]
    kid: str | None = None

    def replaces(self, other: TrustedKey, algorithm: str) -> bool:
        """True if it verifies the tokens that ``other`` verifies with ``algorithm``: it is the same key, read again."""
        return self.kid == other.kid and algorithm in self.algorithms and bool(self.key == other.key)


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
