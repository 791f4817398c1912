"""Every setting once: its name, default, range and reason. How they are read is settings_reader's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

DAY = 86_400

Mode = Literal["release", "debug"]
LogLevel = Literal["debug", "info", "warn", "error"]
LogFormat = Literal["text", "json"]


def _setting(default: Any, meaning: str, **rules: Any) -> Any:
    """``rules`` are pydantic's (``ge``, ``gt``, ``le``, ``min_length``), and ``alias``: another name for it."""
    return field(default=default, metadata={"meaning": meaning, "rules": rules})


def _seconds(default: float, meaning: str) -> Any:
    return _setting(default, meaning, gt=0, le=DAY)


def _seconds_or_none(default: float, meaning: str) -> Any:
    return _setting(default, meaning, ge=0, le=DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Run the server. Each flag is also read from the environment and from a file .env: --ping-period-sec as
    PING_PERIOD_SEC. Sizes are in bytes, times in seconds (fractions allowed)."""

    host: str = _setting("0.0.0.0", "address to listen on; :: is IPv6 and IPv4", min_length=1)
    port: int = _setting(8080, "port to listen on; 0 takes a free one and logs it", ge=0, le=65_535)
    mode: Mode = _setting(
        "release", "debug logs every request and message; GIN_MODE is accepted for it", alias="gin_mode"
    )
    log_level: Literal["debug", "info", "warn", "error", ""] = _setting(
        "", "the least that is logged; empty is debug in debug mode, else info"
    )
    log_format: LogFormat = _setting("text", "text, or json: one object a line")
    ring_buffer_size: int = _setting(100, "messages that a topic keeps for replay", ge=0, le=1_000_000)
    subscriber_queue_size: int = _setting(
        100, "messages that wait for a subscriber whose socket takes none", ge=1, le=1_000_000
    )
    ping_period_sec: float = _seconds(30, "time between two heartbeats to a WebSocket client")
    pong_wait_sec: float = _seconds(60, "time without a sign of life after which a client is dropped")
    write_wait_sec: float = _seconds(
        10, "time that a client with a full queue may take nothing before it is a slow consumer"
    )
    read_timeout_sec: float = _seconds(15, "time for a request's head and body, and for a message once begun")
    write_timeout_sec: float = _seconds(15, "time in which a client must take some of an HTTP response")
    idle_timeout_sec: float = _seconds(60, "time that an HTTP connection may be idle between requests")
    shutdown_timeout_sec: float = _seconds(10, "time for goodbyes after SIGTERM; who is late is cut off")
    drain_sec: float = _seconds_or_none(
        0, "time to go on serving after SIGTERM with /health at 503, for a load balancer to notice"
    )
    reconnect_spread_sec: float = _seconds_or_none(5, "time over which clients are told to come back after a shutdown")
    max_message_bytes: int = _setting(
        1_048_576, "the largest message and the largest request body", ge=1024, le=1 << 30
    )

    @property
    def least_level(self) -> LogLevel:
        """The log level that counts."""
        return self.log_level or ("debug" if self.mode == "debug" else "info")

    @property
    def own_url(self) -> str:
        """Where a server with these settings is reached from its own machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"
