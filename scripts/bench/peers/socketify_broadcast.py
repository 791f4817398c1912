"""Peer: uWebSockets (C++) through socketify, with its own topics. It forwards each text unchanged; no JSON.

With "deflate", its shared compressor compresses for clients that offer it.
"""
# Its package is in the cache folder of the benchmark, which mypy does not see.
# mypy: disable-error-code="import-not-found"

import sys

from socketify import App, CompressOptions, OpCode, WebSocket

app = App()
deflates = sys.argv[2:] == ["deflate"]


def join(client: WebSocket) -> None:
    client.subscribe("bench")
    client.send("ready", OpCode.TEXT)


def publish(client: WebSocket, text: str, _opcode: OpCode) -> None:
    app.publish("bench", text, OpCode.TEXT, compress=deflates)
    client.send("ok", OpCode.TEXT)


if __name__ == "__main__":
    compression = CompressOptions.SHARED_COMPRESSOR if deflates else CompressOptions.DISABLED
    app.ws("/sub", {"open": join, "idle_timeout": 960, "compression": compression})
    app.ws("/pub", {"message": publish, "idle_timeout": 960})
    app.listen(int(sys.argv[1]))
    app.run()
