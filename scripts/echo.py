"""The server with an echo in place of publish/subscribe, for test suites of RFC 6455.

``python scripts/echo.py --port 9001`` serves ``/ws`` with the server's own code, from the socket to the whole message.
It returns text as text and binary as binary. It sends no heartbeats, which such suites do not expect.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Final

from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent.parent))

from pubsub.app import create_app
from pubsub.http.app_keys import SERVICES
from pubsub.lifecycle import listen
from pubsub.listening import log_addresses
from pubsub.protocol.frames import BINARY, FIN, text_frame
from pubsub.settings import DAY, Settings
from pubsub.system.logs import set_up_logs
from pubsub.system.programs import fastest_loop
from pubsub.websocket.connection import Connection
from pubsub.websocket.session import Session

LARGEST_MESSAGE: Final = 16 << 20  # size of the largest cases of Autobahn's suite


class Echo(Session):
    """A session that returns each message to its client."""

    def receive(self, text: str) -> bool:
        self._replies.reply(text.encode())
        return False

    def receive_binary(self, payload: bytearray) -> None:
        assert isinstance(self._replies, Connection), "a session of the server replies through its connection"
        self._replies._reply_frame(bytes((FIN | BINARY,)) + text_frame(bytes(payload))[1:])


def create_echo(settings: Settings) -> web.Application:
    app = create_app(settings)
    app[SERVICES].session_type = Echo
    return app


async def serve(settings: Settings) -> None:
    """Serve until cancelled."""
    runner = web.AppRunner(create_echo(settings))
    await runner.setup()
    log_addresses((await listen(runner, settings)).sockets, "http")
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an echo at /ws.")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0: a free one, which the log names")
    chosen = parser.parse_args()
    set_up_logs("info", "text")
    settings = Settings(
        host="127.0.0.1",
        port=chosen.port,
        max_message_bytes=LARGEST_MESSAGE,
        ping_period_sec=DAY,
        pong_wait_sec=DAY,
        reconnect_spread_sec=0,
    )
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(serve(settings))


if __name__ == "__main__":
    main()
