"""``python -m pubsub``: the commands. Each reads its flags and hands over; what only one of them needs it imports."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Final

import pubsub
from pubsub.settings_reader import read_settings, read_settings_apart

HEALTH_WAIT: Final = 5.0  # seconds

USAGE: Final = """\
usage: pubsub COMMAND [--help] [flags]

A WebSocket publish/subscribe server with REST topic management.

  serve    run the server
  client   talk to a server: subscribe, publish, manage topics
  health   exit status 0 when a server is well, 1 when not
  bench    load a server of your own, and measure it
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    command, *flags = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if command == "--version":
        print(pubsub.__version__)
        return 0
    if command not in COMMANDS:
        print(f"pubsub: got {command!r}, expected one of {', '.join(COMMANDS)}\n\n{USAGE}", file=sys.stderr, end="")
        return 2
    return COMMANDS[command](flags)


def run_serve(flags: list[str]) -> int:
    from pubsub.app import serve
    from pubsub.logs import set_up_logs

    settings = read_settings_apart(flags)
    set_up_logs(settings.least_level, settings.log_format)
    try:
        with asyncio.Runner(loop_factory=fastest_loop()) as runner:
            runner.run(serve(settings))
    except OSError as error:
        print(f"pubsub: can't listen on {settings.host} port {settings.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it runs; None is asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def run_client(flags: list[str]) -> int:
    from pubsub.console import run_console

    parser = argparse.ArgumentParser("pubsub client", description="Talk to a server. Type help for the commands.")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the server (default: %(default)s)")
    parser.add_argument("--client", help="your name (default: one that is made up)")
    chosen = parser.parse_args(flags)
    return run_console(url=chosen.url, client_id=chosen.client)


def run_health(flags: list[str]) -> int:
    import http.client
    import urllib.error
    import urllib.request

    parser = argparse.ArgumentParser("pubsub health", description="Exit status 0 when a server is well, 1 when not.")
    parser.add_argument("--url", help="the server (default: the one that the settings HOST and PORT would start)")
    url = parser.parse_args(flags).url or read_settings([]).own_url
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=HEALTH_WAIT) as response:
            print(response.read().decode())
    except urllib.error.HTTPError as error:
        print(f"{url}: {error.status} {error.read().decode(errors='replace')}", file=sys.stderr)
        return 1
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    return 0


def run_bench(flags: list[str]) -> int:
    from pubsub import bench

    return bench.run_bench(flags, fastest_loop())


COMMANDS: Final[dict[str, Callable[[list[str]], int]]] = {
    "serve": run_serve,
    "client": run_client,
    "health": run_health,
    "bench": run_bench,
}

if __name__ == "__main__":
    sys.exit(main())
