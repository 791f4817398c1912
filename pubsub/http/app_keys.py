"""The parts of the server that handlers reach through their Application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from pubsub.core.broker import Broker
from pubsub.core.dead_letters import DeadLetters
from pubsub.http.tls import Certificate
from pubsub.sse.streams import Streams
from pubsub.websocket.connections import Connections
from pubsub.websocket.services import Services

if TYPE_CHECKING:
    from pubsub.cluster.cluster import Cluster  # which a server alone never imports

BROKER: Final = web.AppKey("broker", Broker)
CERTIFICATE: Final = web.AppKey("certificate", Certificate)
CLUSTER: Final[web.AppKey[Cluster]] = web.AppKey("cluster")  # where several servers share their topics
CONNECTIONS: Final = web.AppKey("connections", Connections)
DEAD_LETTERS: Final = web.AppKey("dead_letters", DeadLetters)
SERVICES: Final = web.AppKey("services", Services)
STREAMS: Final = web.AppKey("streams", Streams)
