"""The engine of a shared journal that stands on Redis or Valkey. Nothing of it is imported without JOURNAL_URL."""

from __future__ import annotations

import secrets

from pubsub.core.clock import Clock
from pubsub.journals.redis.address import parse_address
from pubsub.journals.redis.connection import check_tls
from pubsub.journals.redis.engine import RedisEngine
from pubsub.journals.redis.spread import SpreadEngine
from pubsub.journals.shared.engine import Engine


def make_engine(url: str, clock: Clock) -> Engine:
    """Make the engine for JOURNAL_URL, without connecting. Raises JournalError for an invalid URL or file of TLS."""
    server = secrets.token_hex(8)
    address = parse_address(url)
    check_tls(address)
    engines = [RedisEngine(part, clock, server) for part in address.parts]
    return engines[0] if len(engines) == 1 else SpreadEngine(engines)
