"""The meanings of the fields and the examples of the calls that the dashboard makes. They are part of those of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

TIME: Final = "2025-08-25T10:00:01Z"

MEANINGS: Final[Mapping[str, str]] = {
    "search": "Only those that have this text in their name, in either case.",
    "sort": "The field by which the rows are sorted.",
    "order": "`asc` or `desc`.",
    "page": "The number of the page, from 1.",
    "found": "The number of all rows that match, on all pages.",
    "p50_ms": "The median, in milliseconds; null if nothing was measured.",
    "p99_ms": "The 99th percentile, in milliseconds; null if nothing was measured.",
    "May.publish": "It may publish to some topic.",
    "May.change": "It may create, delete and disconnect.",
    "Arrivals.connected": "Connections that were opened.",
    "Arrivals.recovered": "Subscriptions that resumed and missed nothing.",
    "Arrivals.told": "Subscriptions that resumed and were told of a gap.",
    "Series.at": "The moments, in Unix time.",
    "Series.published": "Messages that topics accepted, in a second.",
    "Series.delivered": "Events that were written to sockets, in a second.",
    "Series.delivered_bytes": "Bytes of these events, in a second.",
    "Series.lost": "Events that subscribers did not get, in a second.",
    "Series.loop_lag_ms": "The 99th percentile of the lag of the event loop, in milliseconds.",
    "Series.memory_bytes": "The resident memory; 0 if the system does not tell.",
    "Series.connections": "The number of open connections.",
    "Series.queued": "The number of messages that wait for subscribers.",
    "Overview.state": "`degraded`: durable topics cannot be stored.",
    "Overview.reason": "The reason for `degraded`.",
    "Overview.version": "The version of the server.",
    "Overview.started": "The time of the start of the server.",
    "Overview.may": "The rights of the client that asks.",
    "Overview.topics": "The number of topics.",
    "Overview.subscribers": "The number of connections with a subscription.",
    "Overview.connections": "The number of open connections.",
    "Overview.lagging": "The number of connections whose sockets accept no data.",
    "Overview.queued": "The number of messages that wait for them.",
    "Overview.lost": "Events that subscribers did not get in the last 15 minutes, by reason.",
    "Overview.ended": "Connections that ended in the last 15 minutes, by reason.",
    "Overview.arrivals": "The clients of the last deployment.",
    "Overview.series": "The last 15 minutes.",
    "CommitTimes.count": "The number of group commits.",
    "CommitTimes.failures": "The number of commits that failed.",
    "CommitTimes.mean_ms": "Their mean time, in milliseconds.",
    "Storage.durable_topics": "The number of durable topics.",
    "Storage.memory_topics": "The number of topics in memory.",
    "Storage.failure": "The reason why durable topics cannot be stored; empty if they can.",
    "Storage.files": "The size of each file of the journal, in bytes.",
    "Storage.free_bytes": "The space that is left on its disk.",
    "Storage.waiting_bytes": "Bytes of publishes that wait for the disk.",
    "Storage.commits": "The group commits; null without a journal.",
    "SettingList.settings": "The settings, in the order of the documentation.",
    "SettingRow.name": "The name of the setting.",
    "SettingRow.value": "The value in force.",
    "SettingRow.default": "The value without a setting.",
    "SettingRow.meaning": "The meaning, in one sentence.",
    "SettingRow.live": "It can change while the server runs.",
    "SettingRow.masked": "It is a secret, and its value is masked.",
    "TokenTest.topic": "A topic for which the rights are wanted; empty for none.",
    "TopicRights.subscribe": "It may subscribe.",
    "TopicRights.publish": "It may publish.",
    "TopicRights.because": "The right that covers the topic, or the lack of one, in words.",
    "TopicRights.filters": "The filters of the token that each event of the topic has to match.",
    "TokenReport.accepted": "True if a client could connect with it.",
    "TokenReport.reason": "The reason if it is not accepted.",
    "TokenReport.expires_in_sec": "Seconds until it expires.",
    "TokenReport.admin": "It may change everything.",
    "TokenReport.subscribe": "The names and patterns to which it may subscribe.",
    "TokenReport.publish": "The names and patterns to which it may publish.",
    "TokenReport.filters": "The filters of the token, by name or pattern.",
    "TokenReport.rights": "The rights to the topic that was asked for.",
}

EXAMPLES: Final[Mapping[str, Any]] = {
    "RankedTopics": {"topics": [], "found": 0},
    "RankedClients": {"clients": [], "found": 0},
    "Overview": {
        "state": "ok", "version": "1.0.0", "started": TIME, "uptime_sec": 3600,
        "may": {"publish": True, "change": True},
        "topics": 2, "subscribers": 3, "connections": 5, "lagging": 0, "queued": 0, "lost": {},
        "ended": {"closed_by_client": 4}, "arrivals": {"connected": 5, "recovered": 3, "told": 0},
        "series": {
            "at": [1756116001, 1756116006], "published": [0.0, 12.4], "delivered": [0.0, 37.2],
            "delivered_bytes": [0.0, 5580.0], "lost": [0.0, 0.0], "p50_ms": [None, 0.18], "p99_ms": [None, 0.91],
            "loop_lag_ms": [0.24, 0.31], "memory_bytes": [47185920, 47185920], "connections": [5, 5], "queued": [0, 0],
        },
    },
    "Storage": {
        "durable_topics": 1, "memory_topics": 1, "failure": "", "free_bytes": 81604378624, "waiting_bytes": 0,
        "files": {"journal.db": 4194304, "journal.db-wal": 1048576},
        "commits": {"count": 812, "failures": 0, "mean_ms": 1.9, "p50_ms": 1.4, "p99_ms": 8.2},
    },
    "SettingList": {
        "settings": [
            {
                "name": "PORT", "value": 9000, "default": 8080, "live": False, "masked": False,
                "meaning": "port to listen on; 0 takes a free one and logs it; a Unix socket has none",
            }
        ],
    },
    "TokenTest": {"token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl", "topic": "orders"},
    "TokenReport": {
        "accepted": False, "reason": "token: expired", "client_id": "", "expires_in_sec": 0, "admin": False,
        "subscribe": [], "publish": [], "filters": {}, "rights": None,
    },
}  # fmt: skip
