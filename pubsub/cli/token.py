"""``pubsub token``: a token for development, signed with the first JWT_SECRET."""

from __future__ import annotations

import argparse
import sys

from pubsub.auth.keys import secret_keys
from pubsub.auth.tokens import sign
from pubsub.filters.filters import Filters
from pubsub.settings import listed
from pubsub.settings_reader import read_settings


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("pubsub token", description="Make a token, signed with the first JWT_SECRET.")
    parser.add_argument("--sub", required=True, help="the client's id")
    parser.add_argument("--subscribe", action="append", default=[], metavar="PATTERN", help="may be given again")
    parser.add_argument("--publish", action="append", default=[], metavar="PATTERN", help="may be given again")
    parser.add_argument("--admin", action="store_true", help="may create and delete topics and read everything")
    parser.add_argument(
        "--filter", action="append", default=[], metavar="PATTERN=CEL", help="only these events; may be given again"
    )
    parser.add_argument("--ttl", type=float, default=3600, metavar="SECONDS", help="default: %(default)s")
    return parser


def run_token(flags: list[str]) -> int:
    chosen = make_parser().parse_args(flags)
    settings = read_settings([])
    if not settings.jwt_secret:
        print("pubsub token: JWT_SECRET is not set, expected a secret of at least 32 bytes", file=sys.stderr)
        return 2
    try:
        token = sign(
            secret_keys(settings.jwt_secret, listed(settings.jwt_algorithms))[0],
            sub=chosen.sub,
            subscribe=chosen.subscribe,
            publish=chosen.publish,
            admin=chosen.admin,
            filters=read_filters(chosen.filter),
            check_filter=Filters().compile,
            ttl=chosen.ttl,
            audience=listed(settings.jwt_audience),
            issuer=listed(settings.jwt_issuer),
        )
    except ValueError as error:
        print(f"pubsub token: {error}", file=sys.stderr)
        return 2
    print(token)
    return 0


def read_filters(entries: list[str]) -> dict[str, str]:
    """Filters by name or pattern. Raises ValueError for an entry without one, and for two filters of the same."""
    filters: dict[str, str] = {}
    for entry in entries:
        pattern, separator, text = entry.partition("=")
        if not separator or pattern in filters:
            raise ValueError(f"--filter: expected PATTERN=CEL, each pattern once, got {entry!r}")
        filters[pattern] = text
    return filters
