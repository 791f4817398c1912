"""``pubsub health``: exit status 0 if a server is healthy, 1 if it is not."""

from __future__ import annotations

import argparse
import http.client
import ssl
import sys
import urllib.error
import urllib.request
from typing import Final

from pubsub.settings_reader import read_settings

HEALTH_WAIT: Final = 5.0  # seconds


def run_health(flags: list[str]) -> int:
    parser = argparse.ArgumentParser("pubsub health", description="Exit status 0 when a server is well, 1 when not.")
    parser.add_argument("--url", help="the server (default: the one that the settings HOST and PORT would start)")
    url = parser.parse_args(flags).url
    own = url is None
    url = url or read_settings([]).own_url
    # Its own certificate need not be one for 127.0.0.1, and there is nobody between.
    tls = ssl._create_unverified_context() if own else None
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=HEALTH_WAIT, context=tls) as response:
            print(response.read().decode())
    except urllib.error.HTTPError as error:
        print(f"{url}: {error.status} {error.read().decode(errors='replace')}", file=sys.stderr)
        return 1
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    return 0
