"""An example of each body and of each message of the wire contract, by the name of its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

TIME: Final = "2025-08-25T10:00:01Z"
EPOCH: Final = "9f2c61d0ab"
MESSAGE: Final = {"id": "550e8400-e29b-41d4-a716-446655440000", "payload": {"order_id": "ORD-123", "amount": 99.5}}
EVENT: Final = {"type": "event", "topic": "orders", "message": MESSAGE, "seq": 42, "ts": TIME}
OPTIONS: Final = {
    "history": 100, "ttl_sec": None, "durable": False, "dedup_sec": None, "overflow": "drop_oldest", "sender": False,
    "presence": False, "dead_letter": None,
}  # fmt: skip
TOPIC: Final = {
    "name": "orders", "epoch": EPOCH, "seq": 42, "messages": 42, "subscribers": 3, "bytes": 2210, "options": OPTIONS,
}  # fmt: skip
CLIENTS: Final = [{"client_id": "alice", "connections": 1}, {"client_id": "bob", "connections": 2}]
CONNECTION: Final = {
    "client_id": "alice", "transport": "websocket", "connected_sec": 12, "subscriptions": ["orders", "room.*"],
    "queued": 0, "dropped": 0, "bytes_in": 412, "bytes_out": 9120, "stalled_sec": 0, "round_trip_ms": 3,
}  # fmt: skip
ENDED: Final = {
    "client_id": "alice", "transport": "websocket", "connected_at": "2025-08-25T09:00:00Z", "ended_at": TIME,
    "ending": "slow_consumer", "code": 1013, "reason": "slow consumer", "dropped": 7,
}  # fmt: skip

EXAMPLES: Final[Mapping[str, Any]] = {
    # Bodies of REST calls
    "NewTopic": {"name": "orders", "history": 1000, "durable": True, "dedup_sec": 300},
    "NewMessage": MESSAGE,
    "Redrive": {"after": 0, "limit": 100},
    "TopicCreated": {"status": "created", "topic": "orders"},
    "TopicDeleted": {"status": "deleted", "topic": "orders"},
    "TopicList": {"topics": [{"name": "orders", "subscribers": 3}]},
    "TopicPage": {"topics": [TOPIC], "next": None},
    "TopicDescription": TOPIC,
    "KeptMessages": {"topic": "orders", "epoch": EPOCH, "messages": [EVENT], "complete": True},
    "Published": {"status": "published", "topic": "orders", "seq": 42, "id": MESSAGE["id"]},
    "Purged": {"status": "purged", "topic": "orders", "messages": 42},
    "Redriven": {"status": "redriven", "letters": 3, "messages": 7, "skipped": 0},
    "RuleList": {"rules": [{"pattern": "room.*", "create": True, "delete_idle_sec": 3600, "options": {"history": 50}}]},
    "TopicClients": {"topic": "room.1", "count": 2, "clients": CLIENTS},
    "Stats": {"topics": {"orders": {"messages": 42, "subscribers": 3}}},
    "Health": {"uptime_sec": 3600, "topics": 2, "subscribers": 5},
    "ClientPage": {"clients": [CONNECTION], "next": None},
    "EndedPage": {"clients": [ENDED], "next": None},
    "ClientDescription": {"client_id": "alice", "connections": [CONNECTION], "next": None, "ended": [ENDED]},
    "SlowList": {
        "slow": [{"client_id": "bob", "topic": "orders", "queued": 100, "lag_sec": 4, "lag_bytes": 22100}],
    },
    "Trace": {
        "client_id": "alice", "topic": "orders", "message": MESSAGE["id"], "seq": 42, "published_at": TIME,
        "connections": [
            {
                "outcome": "dropped", "detail": "7 messages from seq 40 to 46 were lost: the queue was full",
                "subscribed_at": "2025-08-25T09:59:00Z", "connected_at": "2025-08-25T09:58:59Z",
            }
        ],
    },
    "ClientDisconnected": {"status": "disconnected", "client_id": "alice", "connections": 2},
    "ErrorAnswer": {"error": "topic not found"},
    # The dashboard
    "RankedTopics": {"topics": [TOPIC], "found": 1},
    "RankedClients": {"clients": [CONNECTION], "found": 1},
    "Overview": {
        "run": "9f2c61d0", "state": "ok", "version": "1.0.0", "started": "2025-08-25T09:00:00Z", "uptime_sec": 3601,
        "may": {"publish": True, "change": True}, "topics": 2, "subscribers": 5, "connections": 6, "lagging": 0,
        "queued": 0, "lost": {"overflow": 7}, "ended": {"closed_by_client": 3},
        "arrivals": {"moved": 5, "new": 1, "recovered": 5, "told": 0},
        "series": {
            "at": [1756112400], "published": [1.5], "delivered": [4.5], "delivered_bytes": [990.0], "lost": [0.0],
            "p50_ms": [0.4], "p99_ms": [1.2], "loop_lag_ms": [0.1], "memory_bytes": [50_000_000], "connections": [6],
            "queued": [0],
        },
    },
    "Storage": {
        "durable_topics": 1, "memory_topics": 1, "failure": "", "files": {"journal.db": 40_960},
        "free_bytes": 50_000_000_000, "waiting_bytes": 0,
        "commits": {"count": 42, "failures": 0, "mean_ms": 0.9, "p50_ms": 0.8, "p99_ms": 2.1},
    },
    "SettingList": {
        "settings": [
            {
                "name": "LOG_LEVEL", "value": "info", "default": "", "meaning": "the lowest level that is logged",
                "live": True, "masked": False,
            }
        ],
    },
    "TokenTest": {"token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl", "topic": "orders"},
    "TokenReport": {"accepted": False, "reason": "token: expired"},
    # Requests over the WebSocket
    "Subscribe": {"type": "subscribe", "topic": "orders", "client_id": "alice", "last_n": 10, "request_id": "s1"},
    "Unsubscribe": {"type": "unsubscribe", "topic": "orders", "client_id": "alice", "request_id": "u1"},
    "Publish": {"type": "publish", "topic": "orders", "message": MESSAGE, "request_id": "p1"},
    "Ping": {"type": "ping", "request_id": "i1"},
    "History": {"type": "history", "topic": "orders", "after": 41, "limit": 1, "request_id": "h1"},
    "Auth": {"type": "auth", "token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl", "request_id": "a1"},
    "Presence": {"type": "presence", "topic": "room.1", "request_id": "c1"},
    # Messages of the server
    "Event": EVENT,
    "Ack": {"type": "ack", "request_id": "u1", "topic": "orders", "status": "ok", "ts": TIME},
    "PublishAck": {"type": "ack", "request_id": "p1", "topic": "orders", "status": "ok", "seq": 42, "ts": TIME},
    "SubscribeAck": {
        "type": "ack", "request_id": "s1", "topic": "orders", "status": "ok", "epoch": EPOCH, "seq": 42, "ts": TIME,
    },
    "PatternAck": {
        "type": "ack", "request_id": "s2", "topic": "orders.*", "status": "ok",
        "topics": {"orders.eu": {"epoch": "4be0c7a911", "seq": 12}}, "ts": TIME,
    },
    "Error": {
        "type": "error", "request_id": "p2", "ts": TIME,
        "error": {"code": "TOPIC_NOT_FOUND", "message": "Topic 'payments' does not exist"},
    },
    "Pong": {"type": "pong", "request_id": "i1", "ts": TIME},
    "HistoryReply": {
        "type": "history", "request_id": "h1", "topic": "orders", "epoch": EPOCH, "messages": [EVENT],
        "complete": True, "ts": TIME,
    },
    "PresenceReply": {
        "type": "presence", "request_id": "c1", "topic": "room.1", "count": 2, "clients": CLIENTS, "ts": TIME,
    },
    "DeadLetter": {
        "reason": "overflow", "topic": "orders", "client_id": "alice", "from_seq": 42, "to_seq": 42, "count": 1,
        "messages": [EVENT],
    },
}  # fmt: skip

# Values of parameters.
VALUES: Final[Mapping[str, Any]] = {"name": "orders", "client_id": "alice", "file": "app.js"}
