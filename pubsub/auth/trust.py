"""The conditions under which a token is accepted, and the part of a token that they are about. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from msgspec import Struct

from pubsub.auth.keys import PUBLIC, TrustedKey


class KeySource(Protocol):
    """A set of keys that changes."""

    keys: Sequence[TrustedKey]

    def refresh(self, then: Callable[[], None]) -> bool:
        """Fetch the keys again, then call ``then``. Returns False, and does nothing, if it is too early."""
        ...


class Proof(Struct, frozen=True, gc=False):
    """The part of a token that decides whether it is accepted, beside its time."""

    key: TrustedKey
    algorithm: str
    issuer: str | None
    audience: tuple[str, ...]


# One object for the tokens of all clients that come from the same issuer.
make_proof = lru_cache(maxsize=256)(Proof)


class Trust(Struct, frozen=True, kw_only=True):
    """See the module. ``audience`` and ``issuer``: the accepted values. Without them any issuer is, and no audience."""

    keys: Sequence[TrustedKey] = ()
    source: KeySource | None = None
    audience: Sequence[str] = ()
    issuer: Sequence[str] = ()

    def __bool__(self) -> bool:
        """True if there can be an accepted token."""
        return bool(self.keys) or self.source is not None

    @property
    def all_keys(self) -> Sequence[TrustedKey]:
        return [*self.keys, *(self.source.keys if self.source else ())]

    def fitting(self, header: Mapping[str, Any]) -> list[TrustedKey]:
        """The keys that may have signed a token with this header."""
        algorithm, kid = header.get("alg"), header.get("kid")
        keys = [each for each in self.all_keys if algorithm in each.algorithms]
        return [each for each in keys if None in (kid, each.kid) or each.kid == kid]

    def may_come(self, header: Mapping[str, Any]) -> bool:
        """True if the source may have the key after a refresh."""
        if self.source is None or header.get("alg") not in PUBLIC:
            return False
        kid, known = header.get("kid"), {each.kid for each in self.source.keys}
        return kid not in known if kid is not None else not known

    def accepts(self, proof: Proof) -> bool:
        """True if a token that was accepted with this proof would be accepted now too."""
        issued = not self.issuer or proof.issuer in self.issuer
        meant = bool({*self.audience} & {*proof.audience}) if self.audience else not proof.audience
        return issued and meant and any(each.replaces(proof.key, proof.algorithm) for each in self.all_keys)
