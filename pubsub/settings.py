"""Defines every setting once: name, default, range and meaning. It reads none: settings_reader does."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

DAY = 86_400
ENV_FILE = ".env"
UNIX = "unix:"  # what HOST begins with where it is the path of a Unix socket


class SettingsError(ValueError):
    """Settings are not valid. ``mistakes``: a line for each, with its name, what came and what was expected."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


Mode = Literal["release", "debug"]
LogLevel = Literal["debug", "info", "warning", "warn", "error", "critical"]
LogFormat = Literal["text", "json"]


def _setting(default: Any, meaning: str, *, live: bool = False, secret: bool = False, **rules: Any) -> Any:
    """Define a setting. ``rules`` are pydantic's (``ge``, ``gt``, ``le``, ``min_length``); ``alias``: another name.

    ``live``: it can change while the server runs. ``secret``: it is never shown.
    """
    return field(default=default, metadata={"meaning": meaning, "rules": rules, "live": live, "secret": secret})


def _seconds(default: float, meaning: str) -> Any:
    return _setting(default, meaning, gt=0, le=DAY)


def _seconds_or_none(default: float, meaning: str) -> Any:
    return _setting(default, meaning, ge=0, le=DAY)


def _quota(meaning: str, *, live: bool = False) -> Any:
    return _setting(0, meaning, live=live, ge=0, le=1_000_000_000)


def _live(meaning: str, *, secret: bool = False) -> Any:
    """Define a text that can change while the server runs."""
    return _setting("", meaning, live=True, secret=secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Run the server. Each flag is also read from the environment and from a file .env: --ping-period-sec as
    PING_PERIOD_SEC. Sizes are in bytes, times in seconds (fractions allowed)."""

    env_file: str = _setting(
        ENV_FILE, "file with settings, a line NAME=value for each, which the environment overrides", min_length=1
    )
    host: str = _setting(
        "0.0.0.0", "address to listen on; :: is IPv6 and IPv4, unix:/run/pubsub.sock a Unix socket", min_length=1
    )
    port: int = _setting(
        8080, "port to listen on; 0 takes a free one and logs it; a Unix socket has none", ge=0, le=65_535
    )
    workers: int = _setting(
        1, "processes that serve the clients together: as many as there are cores; see docs/operation.md", ge=1, le=256
    )
    socket_mode: str = _setting("0660", "permissions of a Unix socket, in octal digits", min_length=1)
    mode: Mode = _setting("release", "debug logs every request and message; GIN_MODE is accepted too", alias="gin_mode")
    log_level: Literal[LogLevel, ""] = _setting(
        "", "the lowest level that is logged, debug to critical; empty is debug in debug mode, else info", live=True
    )
    log_format: LogFormat = _setting("text", "text, or json: one object on each line")
    ring_buffer_size: int = _setting(100, "messages that a topic keeps for replay", ge=0, le=1_000_000)
    subscriber_queue_size: int = _setting(
        100, "messages that wait for a subscriber whose socket accepts no data", ge=1, le=1_000_000
    )
    ping_period_sec: float = _seconds(30, "time between two heartbeats to a client")
    pong_wait_sec: float = _seconds(60, "a client that sends and reads nothing for this time is dropped")
    write_wait_sec: float = _seconds(
        10, "a client with a full queue that reads nothing for this time is a slow consumer"
    )
    read_timeout_sec: float = _seconds(15, "time for a request and for a message, from the first byte")
    write_timeout_sec: float = _seconds(15, "a client that reads nothing of a response for this time is cut off")
    idle_timeout_sec: float = _seconds(60, "time that an HTTP connection may be idle between requests")
    shutdown_timeout_sec: float = _seconds(10, "time to close all clients after SIGTERM; the rest are cut off")
    drain_sec: float = _seconds_or_none(
        0, "time for which the server still serves after SIGTERM, with /health at 503 for a load balancer"
    )
    reconnect_spread_sec: float = _seconds_or_none(5, "clients are told to reconnect within this time")
    max_message_bytes: int = _setting(
        1_048_576, "the largest message and the largest request body", ge=1024, le=1 << 30
    )
    compression: Literal["off", "on"] = _setting(
        "off", "on compresses events for WebSocket clients that offer it, and answers over HTTP"
    )
    compression_min_bytes: int = _setting(
        256, "the shortest event, and the shortest answer, that is compressed", ge=0, le=1 << 30
    )
    max_connections: int = _quota("WebSockets and streams in all; 0 is as many as open files allow")
    max_connections_per_client: int = _quota("WebSockets and streams of one client; 0 is no limit")
    max_subscriptions_per_connection: int = _quota("subscriptions of one connection, a pattern is one; 0 is no limit")
    max_topics: int = _quota("topics in all; 0 is no limit")
    max_filters_per_topic: int = _setting(
        256, "filters of subscriptions that differ, for one topic; 0 is no limit", ge=0, le=1_000_000_000
    )
    dead_letters_per_sec: int = _setting(
        100, "dead letters that a topic writes in a second; the other losses are counted in one more", ge=1, le=10_000
    )
    rate_limit_msgs_per_sec: float = _setting(
        0, "requests that a client may make in a second; 0 is no limit", live=True, ge=0, le=1_000_000
    )
    rate_limit_burst: int = _quota("requests that it may make at once; 0 is those of one second", live=True)
    metrics_topics: int = _setting(
        0, "topics that have metrics of their own, the oldest first; 0 is none", ge=0, le=10_000
    )
    trace_keep_sec: float = _seconds_or_none(600, "time for which connections that have ended are remembered")
    topic_rules_file: str = _live(
        "file with rules for topics by pattern, in JSON: options, creation at first use, deletion when idle"
    )
    data_dir: str = _setting("./data", "directory of durable topics; created with the first one", min_length=1)
    journal_url: str = _setting(
        "", "engine of the topics that several servers share: redis://…, rediss://…, redis+sentinel://…"
    )
    journal_wait_sec: float = _seconds(5, "a publish for which that engine has no answer after this time is refused")
    api_keys: str = _live("API keys for REST: name:role:key, separated by commas; see docs/security.md", secret=True)
    jwt_secret: str = _live("secrets of HMAC tokens, at least 32 bytes each, separated by commas", secret=True)
    jwt_public_key_file: str = _live("file with public keys of tokens, in PEM")
    jwt_jwks_url: str = _live("URL at which an identity provider publishes its keys")
    jwt_algorithms: str = _live("algorithms of tokens, separated by commas; empty is all that fit the keys")
    jwt_audience: str = _live("the accepted aud of tokens, separated by commas")
    jwt_issuer: str = _live("the accepted iss of tokens, separated by commas")
    auth_wait_sec: float = _seconds(5, "time in which a client without a token must send its auth message")
    allowed_origins: str = _live("origins of other web pages that may connect and call REST, separated by commas")
    trusted_proxies: str = _setting(
        "", "proxies from which the addresses of clients are accepted: addresses, networks or unix, separated by commas"
    )
    tls_cert_file: str = _live("file with the certificate and its chain, in PEM")
    tls_key_file: str = _live("file with the certificate's key, in PEM")

    @property
    def least_level(self) -> LogLevel:
        """The log level in use."""
        return self.log_level or ("debug" if self.mode == "debug" else "info")

    @property
    def unix_path(self) -> str:
        """The path of the Unix socket that HOST names (``@name`` for an abstract one); empty where it is an address."""
        return self.host.removeprefix(UNIX) if self.host.startswith(UNIX) else ""

    @property
    def own_url(self) -> str:
        """The URL of a server with these settings on its own machine, in the form that ``pubsub health`` takes."""
        if self.unix_path:
            return f"https+{self.host}" if self.tls_cert_file else self.host
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        authority = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls_cert_file else 'http'}://{authority}:{self.port}"


LIVE: Final = frozenset(each.name for each in fields(Settings) if each.metadata["live"])
SECRETS: Final = frozenset(each.name for each in fields(Settings) if each.metadata["secret"])


def listed(text: str) -> list[str]:
    """Split a setting that may name several things, separated by commas."""
    return [each.strip() for each in text.split(",") if each.strip()]
