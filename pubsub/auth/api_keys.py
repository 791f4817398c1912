"""API keys of services, kept as digests only. No I/O."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final, Literal, get_args

from pubsub.auth.identity import Identity
from pubsub.auth.permissions import EVERYTHING, NOTHING
from pubsub.protocol.errors import Unauthorized
from pubsub.protocol.requests import MAX_CLIENT_ID

Role = Literal["admin", "publish", "read"]
ROLES: Final = get_args(Role)

_DIGEST: Final = "sha256:"


def identity_of_role(name: str, role: Role, digest: bytes) -> Identity:
    """The identity of an API key: ``read`` may read everything, ``publish`` also publish, ``admin`` do everything.

    Its proof stands for the whole entry: a key with another name or role is another one.
    """
    return Identity(
        client_id=name,
        subscribes=EVERYTHING,
        publishes=NOTHING if role == "read" else EVERYTHING,
        sees_all=True,
        admin=role == "admin",
        proof=digest_of(f"{name}:{role}:{digest.hex()}"),
    )


class ApiKeys:
    """The keys of ``API_KEYS``: ``name:role:key``, separated by commas; the key itself, or ``sha256:`` and its digest.

    Raises ValueError. Its text has the number of the entry and shows nothing of it.
    """

    def __init__(self, text: str) -> None:
        self._holders: dict[bytes, Identity] = {}
        for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), 1):
            try:
                digest, holder = _read_entry(entry)
                if digest in self._holders:
                    raise ValueError("the key is there twice")
            except ValueError as error:
                raise ValueError(f"entry {number}: {error}") from None
            self._holders[digest] = holder

    def __bool__(self) -> bool:
        return bool(self._holders)

    def identify(self, key: str) -> Identity:
        """Find the holder of a key. Raises Unauthorized. Every key takes the same time: it is compared with all."""
        asked = digest_of(key)
        found = [holder for digest, holder in self._holders.items() if hmac.compare_digest(digest, asked)]
        if not found:
            raise Unauthorized("API key: unknown")
        return found[0]

    def accepts(self, proof: bytes) -> bool:
        """True if there is an entry that gives its holder this proof."""
        return any(holder.proof == proof for holder in self._holders.values())


def digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _read_entry(entry: str) -> tuple[bytes, Identity]:
    name, _, rest = entry.partition(":")
    role, parted, key = rest.partition(":")
    if not parted:
        raise ValueError("expected name:role:key")
    if not 1 <= len(name) <= MAX_CLIENT_ID:
        raise ValueError(f"expected a name of 1 to {MAX_CLIENT_ID} characters")
    if role not in ROLES:
        raise ValueError(f"expected a role of {', '.join(ROLES)}")
    digest = _read_key(key)
    return digest, identity_of_role(name, role, digest)  # type: ignore[arg-type]  # it is one of them


def _read_key(key: str) -> bytes:
    if key.startswith(_DIGEST):
        if not re.fullmatch(r"[0-9A-Fa-f]{64}", key.removeprefix(_DIGEST)):
            raise ValueError(f"expected 64 hex digits after {_DIGEST}")
        return bytes.fromhex(key.removeprefix(_DIGEST))
    if not key.isascii() or not key.isprintable() or not key or " " in key:
        raise ValueError("expected a key of printable ASCII characters without blanks")
    return digest_of(key)
