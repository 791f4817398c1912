"""The parts of the server that handlers reach through their Application."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from pubsub.core.broker import Broker
from pubsub.core.dead_letters import DeadLetters
from pubsub.http.tls import Certificate
from pubsub.sse.streams import Streams
from pubsub.websocket.connections import Connections
from pubsub.websocket.services import Services

BROKER: Final = web.AppKey("broker", Broker)
CERTIFICATE: Final = web.AppKey("certificate", Certificate)
CONNECTIONS: Final = web.AppKey("connections", Connections)
DEAD_LETTERS: Final = web.AppKey("dead_letters", DeadLetters)
SERVICES: Final = web.AppKey("services", Services)
STREAMS: Final = web.AppKey("streams", Streams)
