"""JOURNAL_URL for Redis, Valkey and Sentinel: its parts, and its mistakes. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from pubsub.core.journal import JournalError

SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+unix")
PORT: Final = 6379
SENTINEL_PORT: Final = 26379
OPTIONS: Final = ("prefix", "renew", "ca", "cert", "key", "sentinel_username", "sentinel_password")
PREFIX: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class Login(Struct, frozen=True):
    """A user's name and password, both empty without one."""

    username: str = ""
    password: str = ""


class Place(Struct, frozen=True):
    """Host and port of a program, or with port 0 the path of its Unix socket."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


class Address(Struct, frozen=True):
    """The parts of a URL. ``places``: of independent instances, or of the sentinels that know ``service``.

    ``renew_all``: any restart or failover renews all epochs; else only one that lost messages which a server knows.
    ``part``: the number of the instance among several.
    """

    places: tuple[Place, ...]
    login: Login
    database: int
    prefix: str
    renew_all: bool = True
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    service: str = ""
    sentinel_login: Login = Login()
    part: str = "1/1"

    @property
    def parts(self) -> list[Address]:
        """An address for each of the independent instances that share the topics."""
        count = 1 if self.service else len(self.places)
        if count == 1:
            return [self]
        return [replace(self, places=(place,), part=f"{i}/{count}") for i, place in enumerate(self.places, 1)]

    def __str__(self) -> str:
        """The address without secrets."""
        places = ",".join(map(str, self.places))
        return f"{self.service} of sentinels {places}" if self.service else places


def parse_address(url: str) -> Address:
    """Parse JOURNAL_URL. Raises JournalError, which never holds a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _mistake("expected a URL such as redis://host:6379/0") from None
    if parts.scheme not in SCHEMES:
        raise _mistake(f"expected a scheme of {', '.join(SCHEMES)}, got {parts.scheme!r}")
    _check_password(parts)
    options = _options(parts)
    userinfo, _, hosts = parts.netloc.rpartition("@")
    path = unquote(parts.path)
    unix = parts.scheme == "redis+unix"
    service, database = _path(path, sentinel="sentinel" in parts.scheme, unix=unix)
    port = SENTINEL_PORT if service else PORT
    return Address(
        places=(Place(path, 0),) if unix else _places(hosts, port),
        login=_login(userinfo),
        database=database,
        prefix=options["prefix"],
        renew_all=options["renew"] == "all",
        tls=parts.scheme.startswith("rediss"),
        ca=options.get("ca", ""),
        cert=options.get("cert", ""),
        key=options.get("key", ""),
        service=service,
        sentinel_login=Login(options.get("sentinel_username", ""), options.get("sentinel_password", "")),
    )


def _mistake(text: str) -> JournalError:
    return JournalError(f"JOURNAL_URL: {text}")


def _check_password(parts: SplitResult) -> None:
    """Refuse a password that ends the host too early, before any part of it gets into another mistake's text."""
    behind = parts.query.partition("=")[0] + parts.fragment
    if "@" in (behind if parts.scheme == "redis+unix" else parts.path + behind):
        raise _mistake("expected %2F, %3F and %23 for / ? and # in a password")


def _options(parts: SplitResult) -> Mapping[str, str]:
    options = {"prefix": "pubsub", "renew": "all", **dict(parse_qsl(parts.query, keep_blank_values=True))}
    for name in options:
        if name not in OPTIONS:
            raise _mistake(f"expected options of {', '.join(OPTIONS)}, got {name!r}")
    if not PREFIX.fullmatch(options["prefix"]):
        raise _mistake(f"prefix: expected 1 to 64 letters, digits and _ . : -, got {options['prefix']!r}")
    if options["renew"] not in ("all", "lost"):
        raise _mistake(f"renew: expected all or lost, got {options['renew']!r}")
    return options


def _path(path: str, *, sentinel: bool, unix: bool) -> tuple[str, int]:
    """The service and the number of the database in a path."""
    if unix:
        if not path:
            raise _mistake("expected the path of a socket: redis+unix:///run/redis.sock")
        return "", 0
    service, _, number = path.strip("/").partition("/") if sentinel else ("", "", path.strip("/"))
    if sentinel and not service:
        raise _mistake("expected a service: redis+sentinel://host:26379,host:26379/service")
    if number and not number.isdecimal():
        raise _mistake(f"expected the number of a database, got {number!r}")
    return service, int(number or 0)


def _places(hosts: str, default: int) -> tuple[Place, ...]:
    places = tuple(_place(each, default) for each in hosts.split(","))
    for number, place in enumerate(places):
        if place in places[:number]:
            raise _mistake(f"expected different hosts or ports, got {place} twice")
    return places


def _place(text: str, default: int) -> Place:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::(\d{1,5}))?", text)
    if not found:
        raise _mistake(f"expected host or host:port, got {text!r}")
    port = int(found[3] or default)
    if not 1 <= port <= 65535:
        raise _mistake(f"expected a port from 1 to 65535, got {text!r}")
    return Place(found[1] or found[2], port)


def _login(userinfo: str) -> Login:
    username, colon, password = userinfo.partition(":")
    if not colon and username:
        raise _mistake("expected user:password or :password before the @")
    return Login(unquote(username), unquote(password))
