"""Every setting once: its name, default, range and reason. Read from the environment, ``.env`` and the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Le
from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict

DAY = 86_400

Seconds = Annotated[float, Field(gt=0, le=DAY, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, le=DAY, allow_inf_nan=False)]
Mode = Literal["release", "debug"]
LogLevel = Literal["debug", "info", "warn", "error"]
LogFormat = Literal["text", "json"]


class Settings(BaseSettings):
    """Run the server. Each flag is also read from the environment and from a file .env: --ping-period-sec as
    PING_PERIOD_SEC. Sizes are in bytes, times in seconds (fractions allowed)."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_prog_name="pubsub serve",
    )

    host: str = Field("0.0.0.0", min_length=1, description="address to listen on; :: is IPv6 and IPv4")
    port: int = Field(8080, ge=0, le=65_535, description="port to listen on; 0 takes a free one and logs it")
    mode: Mode = Field(
        "release",
        validation_alias=AliasChoices("mode", "gin_mode"),
        description="debug logs every request and message; GIN_MODE is accepted for it",
    )
    log_level: LogLevel | Literal[""] = Field(
        "", description="the least that is logged; empty is debug in debug mode, else info"
    )
    log_format: LogFormat = Field("text", description="text, or json: one object a line")
    ring_buffer_size: int = Field(100, ge=0, le=1_000_000, description="messages that a topic keeps for replay")
    subscriber_queue_size: int = Field(
        100, ge=1, le=1_000_000, description="messages that wait for a subscriber whose socket takes none"
    )
    ping_period_sec: Seconds = Field(30, description="time between two heartbeats to a WebSocket client")
    pong_wait_sec: Seconds = Field(60, description="time without a sign of life after which a client is dropped")
    write_wait_sec: Seconds = Field(
        10, description="time that a client with a full queue may take nothing before it is a slow consumer"
    )
    read_timeout_sec: Seconds = Field(
        15, description="time for a request's head and body, and for a message once begun"
    )
    write_timeout_sec: Seconds = Field(15, description="time in which a client must take some of an HTTP response")
    idle_timeout_sec: Seconds = Field(60, description="time that an HTTP connection may be idle between requests")
    shutdown_timeout_sec: Seconds = Field(10, description="time for goodbyes after SIGTERM; who is late is cut off")
    drain_sec: SecondsOrNone = Field(
        0, description="time to go on serving after SIGTERM with /health at 503, for a load balancer to notice"
    )
    reconnect_spread_sec: SecondsOrNone = Field(
        5, description="time over which clients are told to come back after a shutdown"
    )
    max_message_bytes: int = Field(
        1_048_576, ge=1024, le=1 << 30, description="the largest message and the largest request body"
    )

    @field_validator("mode", "log_level", "log_format", mode="before")
    @classmethod
    def _fold_case(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value

    @property
    def least_level(self) -> LogLevel:
        """The log level that counts."""
        return self.log_level or ("debug" if self.mode == "debug" else "info")


def read_settings(arguments: Sequence[str]) -> Settings:
    """The settings from flags, environment and ``.env``. Exit status 2 after a line for each mistake."""
    try:
        return CliApp.run(Settings, cli_args=with_dashes(arguments))
    except ValidationError as error:
        print(*explain_settings(error), sep="\n", file=sys.stderr)
        raise SystemExit(2) from None


def with_dashes(arguments: Sequence[str]) -> list[str]:
    """Flags in either spelling, ``--ping_period_sec`` or ``--ping-period-sec``."""
    return [_with_dashes(argument) if argument.startswith("--") else argument for argument in arguments]


def _with_dashes(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


def explain_settings(error: ValidationError) -> list[str]:
    """A line for each setting that makes no sense: its name, what it got, what it may be."""
    found = {str(mistake["loc"][0]): mistake["input"] for mistake in error.errors()}
    return [f"{name.upper()}: got {value!r}, expected {expected(_field_name(name))}" for name, value in found.items()]


def _field_name(name: str) -> str:
    return name if name in Settings.model_fields else "mode"  # the only one with another name


def expected(name: str) -> str:
    """What a setting may be, in words."""
    field = Settings.model_fields[name]
    choices = [choice for part in (get_args(field.annotation) or ()) for choice in (get_args(part) or (part,))]
    if choices:
        return "one of " + ", ".join(choice for choice in choices if choice)
    if field.annotation is str:
        return "a text that is not empty"
    bounds = [_bound(constraint) for constraint in field.metadata if isinstance(constraint, Ge | Gt | Le)]
    return f"{'a whole number' if field.annotation is int else 'a number'} {' and '.join(bounds)}"


def _bound(constraint: Ge | Gt | Le) -> str:
    match constraint:
        case Ge(ge=limit):
            return f"of at least {limit}"
        case Gt(gt=limit):
            return f"above {limit}"
        case Le(le=limit):
            return f"of at most {limit}"


class ClientSettings(BaseSettings):
    """Talk to a server: type help at its prompt for the commands. From a pipe it reads one command a line."""

    model_config = SettingsConfigDict(cli_prog_name="pubsub client", env_prefix="pubsub_", cli_hide_none_type=True)

    url: str = Field("http://127.0.0.1:8080", description="the server")
    client: str | None = Field(None, description="your name; without one the server makes one")


class HealthSettings(BaseSettings):
    """Ask a server how it is. Exit status 0 when it is well, 1 when it is shutting down or does not answer."""

    model_config = SettingsConfigDict(cli_prog_name="pubsub health", env_prefix="pubsub_")

    url: str = Field("", description="the server; empty is the one that these settings (HOST, PORT) would start")
    timeout_sec: Seconds = Field(5, description="time to wait for an answer")


def own_url(settings: Settings) -> str:
    """Where a server with these settings is reached from its own machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    return f"http://{host}:{settings.port}"
