"""Peer: picows (Cython). It forwards each text unchanged; no JSON, no topics."""
# Its package is in the cache folder of the benchmark, which mypy does not see.
# mypy: disable-error-code="import-not-found", allow-subclassing-any

import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

subscribers: set[WSTransport] = set()


class Subscriber(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        subscribers.add(transport)
        transport.send(WSMsgType.TEXT, b"ready")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        subscribers.discard(transport)


class Publisher(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            text = frame.get_payload_as_bytes()
            for subscriber in subscribers:
                subscriber.send(WSMsgType.TEXT, text)
            transport.send(WSMsgType.TEXT, b"ok")


def listener_of(request: WSUpgradeRequest) -> WSListener:
    return Subscriber() if request.path == b"/sub" else Publisher()


async def main() -> None:
    server = await ws_create_server(listener_of, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
