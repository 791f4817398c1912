"""The choice of an engine by the scheme of JOURNAL_URL. Only the chosen engine is imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from pubsub.core.journal import JournalError

if TYPE_CHECKING:
    from pubsub.core.clock import Clock
    from pubsub.journals.shared.engine import Engine

REDIS: Final = "pubsub.journals.redis"
# The module of each scheme, which has a function make_engine(url: str, clock: Clock) -> Engine.
MODULES: Final[Mapping[str, str]] = MappingProxyType({
    "redis": REDIS,
    "rediss": REDIS,
    "redis+sentinel": REDIS,
    "rediss+sentinel": REDIS,
    "redis+unix": REDIS,
    "unix": "pubsub.journals.workers",
})  # fmt: skip


def make_engine(url: str, clock: Clock) -> Engine:
    """Make the engine that a URL names, without connecting. Raises JournalError if the URL is invalid.

    Several engines that share the topics are URLs of one scheme, separated by commas.
    """
    scheme = url.partition(":")[0].strip().lower()
    if scheme not in MODULES:
        schemes = ", ".join(f"{each}:" for each in MODULES)
        raise JournalError(f"JOURNAL_URL: expected a URL that begins with one of {schemes}; got {scheme!r}")
    try:
        module = import_module(MODULES[scheme])
    except ImportError as error:
        raise JournalError(f"JOURNAL_URL: {scheme}: needs a package that is not installed: {error}") from error
    return cast("Engine", module.make_engine(url, clock))
