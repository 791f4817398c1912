"""The settings that can change while the server runs: read into parts, then put in force, all of them or none."""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

from aiohttp import web

from pubsub.auth.api_keys import ApiKeys
from pubsub.auth.jwks import KeySet
from pubsub.auth.keys import pem_keys, secret_keys
from pubsub.auth.rates import Rates
from pubsub.auth.trust import Trust
from pubsub.http.app_keys import BROKER, CERTIFICATE, SERVICES
from pubsub.http.identities import IDENTITIES
from pubsub.http.origins import ORIGINS
from pubsub.http.tls import load_certificate
from pubsub.protocol.answers import TopicRule
from pubsub.rules_reader import read_rules
from pubsub.settings import LIVE, Settings, listed

FILES: Final = ("topic_rules_file", "jwt_public_key_file", "tls_cert_file", "tls_key_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The live settings, ready for use: whatever is wrong with them has been found.

    ``digests``: of the files that they name, by setting.
    """

    api_keys: ApiKeys
    trust: Trust
    source: KeySet | None
    rates: Rates | None
    origins: frozenset[str]
    rules: Sequence[TopicRule]
    tls: ssl.SSLContext | None
    digests: Mapping[str, bytes]


class InForce:
    """The settings in force, and their parts. One object for the life of the server."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self.settings = settings
        self.parts = parts


IN_FORCE: Final = web.AppKey("in_force", InForce)


def read_parts(settings: Settings, before: InForce | None = None) -> Parts:
    """Make the parts; those ``before`` stay if they would be equal and have a state. Raises ValueError, OSError."""
    source = same_source(settings, before.parts.source if before else None)
    return Parts(
        api_keys=ApiKeys(settings.api_keys),
        trust=read_trust(settings, source),
        source=source,
        rates=before.parts.rates if before and same_rates(settings, before.settings) else make_rates(settings),
        origins=frozenset(listed(settings.allowed_origins)),
        rules=read_rules(settings.topic_rules_file) if settings.topic_rules_file else (),
        tls=load_certificate(settings.tls_cert_file, settings.tls_key_file) if settings.tls_cert_file else None,
        digests={name: digest(path) for name in FILES if (path := getattr(settings, name))},
    )


def same_source(settings: Settings, source: KeySet | None) -> KeySet | None:
    """The keys that are fetched by URL: ``source``, unless the settings want another one, or none."""
    url, algorithms = settings.jwt_jwks_url, listed(settings.jwt_algorithms)
    if source is not None and (source.url, source.algorithms) == (url, algorithms):
        return source
    return KeySet(url, algorithms) if url else None


def read_trust(settings: Settings, source: KeySet | None) -> Trust:
    algorithms = listed(settings.jwt_algorithms)
    keys = secret_keys(settings.jwt_secret, algorithms)
    if settings.jwt_public_key_file:
        keys += pem_keys(Path(settings.jwt_public_key_file).read_bytes(), algorithms)
    trust = Trust(keys=keys, source=source, audience=listed(settings.jwt_audience), issuer=listed(settings.jwt_issuer))
    if trust:
        import jwt  # noqa: F401 - 0.2 s and 8 MiB: now, not when the first client comes
    return trust


def same_rates(one: Settings, other: Settings) -> bool:
    return (one.rate_limit_msgs_per_sec, one.rate_limit_burst) == (
        other.rate_limit_msgs_per_sec,
        other.rate_limit_burst,
    )


def make_rates(settings: Settings) -> Rates | None:
    if not settings.rate_limit_msgs_per_sec:
        return None
    return Rates(settings.rate_limit_msgs_per_sec, settings.rate_limit_burst, time.monotonic)


def digest(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


def put_in_force(app: web.Application, parts: Parts) -> None:
    """Have everything obey the parts from now on, in one step that cannot fail.

    Connections whose credentials are no longer accepted are not closed here.
    """
    identities, broker = app[IDENTITIES], app[BROKER]
    identities.api_keys = parts.api_keys
    identities.tokens.trust = parts.trust
    identities.rates = parts.rates
    app[SERVICES].rules.ask(identities.identify_message if parts.trust else None, parts.rates)
    app[ORIGINS].allowed = parts.origins
    broker.rules.replace(parts.rules)
    broker.idle.review(broker.topics)
    app[CERTIFICATE].context = parts.tls


def with_live(before: Settings, wanted: Settings) -> Settings:
    """The settings ``before`` with the live ones as ``wanted``. TLS cannot begin or end while the server listens."""
    found = replace(before, **{name: getattr(wanted, name) for name in LIVE})
    if bool(before.tls_cert_file) != bool(wanted.tls_cert_file):
        found = replace(found, tls_cert_file=before.tls_cert_file, tls_key_file=before.tls_key_file)
    return found


def differences(before: Settings, after: Settings) -> list[str]:
    """The names of the settings that differ, in the order of their definition."""
    return [each.name for each in fields(Settings) if getattr(before, each.name) != getattr(after, each.name)]
