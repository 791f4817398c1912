"""``python -m pubsub``: the commands. Each reads its flags and hands over; what only one of them needs it imports."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import pubsub
from pubsub.settings_reader import read_settings, read_settings_apart
from pubsub.system.programs import fastest_loop, without_ca_certificates

if TYPE_CHECKING:
    import socket

    from pubsub.settings import Settings

USAGE: Final = """\
usage: pubsub COMMAND [--help] [flags]

A WebSocket publish/subscribe server with REST topic management.

  serve     run the server
  client    talk to a server: subscribe, publish, manage topics
  pub       publish a message, or each line of standard input
  sub       print the events of topics, a line each
  topics    list the topics
  presence  list the clients in a topic
  health    exit status 0 if a server is healthy, 1 if not
  token     make a token for development, signed with JWT_SECRET
  key       make an API key, with its entry for API_KEYS
  journal   look at the durable topics on disk
  outbox    hand committed rows of PostgreSQL to a server
  verify    check a deployment of your own, through its proxy
  bench     load a server of your own, and measure it
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
    from pubsub.settings import SettingsError
    from pubsub.system.activation import ActivationError, take_sockets
    from pubsub.system.logs import hold_standard_streams, set_up_logs
    from pubsub.system.malloc import keep_freed

    keep_freed()
    hold_standard_streams()
    faulthandler.enable(2)  # systemd ends a server that hangs by SIGABRT: it writes where
    try:
        handed_over = take_sockets(os.environ)  # before there is a child process, which must not get the variables
    except ActivationError as error:
        print(f"pubsub: {error}", file=sys.stderr)
        return 2
    try:
        settings = read_settings_apart(flags)
    except SettingsError as error:
        print(*error.mistakes, sep="\n", file=sys.stderr)
        return 2
    set_up_logs(settings.least_level, settings.log_format)
    read_again = partial(read_settings_apart, flags)
    return (
        run_server(settings, handed_over, read_again)
        if settings.workers == 1
        else run_workers(settings, handed_over, read_again)
    )


def run_workers(settings: Settings, handed_over: Sequence[socket.socket], read_again: Callable[[], Settings]) -> int:
    """Run several processes that serve; the exit status."""
    from pubsub.workers.supervisor import supervise

    try:
        return supervise(settings, handed_over, read_again)
    except OSError as error:
        print(f"pubsub: {error}", file=sys.stderr)
        return 1


def run_server(settings: Settings, handed_over: Sequence[socket.socket], read_again: Callable[[], Settings]) -> int:
    """Run the server in this process; the exit status."""
    with without_ca_certificates():
        from pubsub.app import serve
    from pubsub.core.journal import JournalError
    from pubsub.rules_reader import RulesError

    try:
        with asyncio.Runner(loop_factory=fastest_loop()) as runner:
            runner.run(serve(settings, handed_over, read_again))
    except (JournalError, RulesError, OSError) as error:
        print(f"pubsub: {error}", file=sys.stderr)
        return 1
    return 0


def run_client(flags: list[str]) -> int:
    from pubsub.client.credentials import read_credentials
    from pubsub.client.flags import add_server_flags

    parser = argparse.ArgumentParser("pubsub client", description="Talk to a server. Type help for the commands.")
    parser.add_argument("--client", help="your client id (default: that of the token, or a random one)")
    add_server_flags(parser)
    chosen = parser.parse_args(flags)
    credentials = read_credentials(parser, chosen)
    if chosen.client and credentials.client_id not in ("", chosen.client):
        parser.error(f"--client: got {chosen.client!r}, but the token is that of {credentials.client_id!r}")
    from pubsub.console.session import run_console  # which imports aiohttp: --help and a wrong flag do without

    return run_console(base=chosen.url, client_id=chosen.client, credentials=credentials)


def run_pub(flags: list[str]) -> int:
    from pubsub.cli import pub

    return pub.run_pub(flags)


def run_sub(flags: list[str]) -> int:
    from pubsub.cli import sub

    return sub.run_sub(flags, fastest_loop())


def run_topics(flags: list[str]) -> int:
    from pubsub.cli import topics

    return topics.run_topics(flags, fastest_loop())


def run_presence(flags: list[str]) -> int:
    from pubsub.cli import presence

    return presence.run_presence(flags, fastest_loop())


def run_health(flags: list[str]) -> int:
    from pubsub.cli import health

    return health.run_health(flags)


def run_token(flags: list[str]) -> int:
    from pubsub.cli import token

    return token.run_token(flags)


def run_key(flags: list[str]) -> int:
    from pubsub.cli import key

    return key.run_key(flags)


def run_journal(flags: list[str]) -> int:
    from pubsub.cli import journal

    return journal.run_journal(flags, lambda: read_settings([]).data_dir)


def run_outbox(flags: list[str]) -> int:
    from pubsub.cli import outbox

    return outbox.run_outbox(flags, fastest_loop())


def run_verify(flags: list[str]) -> int:
    from pubsub import verify

    return verify.run_verify(flags, fastest_loop())


def run_bench(flags: list[str]) -> int:
    from pubsub import bench

    return bench.run_bench(flags, fastest_loop())


COMMANDS: Final[dict[str, Callable[[list[str]], int]]] = {
    "serve": run_serve,
    "client": run_client,
    "pub": run_pub,
    "sub": run_sub,
    "topics": run_topics,
    "presence": run_presence,
    "health": run_health,
    "token": run_token,
    "key": run_key,
    "journal": run_journal,
    "outbox": run_outbox,
    "verify": run_verify,
    "bench": run_bench,
}

if __name__ == "__main__":
    sys.exit(main())
