"""``pubsub key``: a new API key, and its entry for API_KEYS."""

from __future__ import annotations

import argparse
import secrets
import sys


def run_key(flags: list[str]) -> int:
    from pubsub.auth.api_keys import ROLES, ApiKeys, digest_of

    parser = argparse.ArgumentParser("pubsub key", description="Make an API key, and its entry for API_KEYS.")
    parser.add_argument("--name", default="service", help="whose it is (default: %(default)s)")
    parser.add_argument("--role", choices=ROLES, default="publish", help="default: %(default)s")
    chosen = parser.parse_args(flags)
    key = secrets.token_urlsafe(32)
    entry = f"{chosen.name}:{chosen.role}:sha256:{digest_of(key).hex()}"
    try:
        ApiKeys(entry)
    except ValueError as error:
        print(f"pubsub key: --name: {error}", file=sys.stderr)
        return 2
    print(f"key:      {key}\nAPI_KEYS: {entry}")
    return 0
