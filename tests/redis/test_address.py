"""JOURNAL_URL for Redis: its parts and its mistakes."""

from __future__ import annotations

import pytest

from pubsub.core.journal import JournalError
from pubsub.journals.redis.address import Address, Login, Place, parse_address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://one", Address((Place("one", 6379),), Login(), 0, "pubsub")),
        ("redis://:p%40ss@one:7/3?prefix=a.b", Address((Place("one", 7),), Login("", "p@ss"), 3, "a.b")),
        ("rediss://u:p@[::1]:7", Address((Place("::1", 7),), Login("u", "p"), 0, "pubsub", tls=True)),
        ("redis://a,b:2?renew=lost", Address((Place("a", 6379), Place("b", 2)), Login(), 0, "pubsub", renew_all=False)),
        (
            "redis+sentinel://:p@a,b:2/main/1?sentinel_password=q",
            Address((Place("a", 26379), Place("b", 2)), Login("", "p"), 1, "pubsub", service="main",
                    sentinel_login=Login("", "q")),
        ),
        ("redis+unix:///run/redis@1.sock", Address((Place("/run/redis@1.sock", 0),), Login(), 0, "pubsub")),
    ],
)  # fmt: skip
def test_the_parts_of_a_url(url: str, expected: Address) -> None:
    assert parse_address(url) == expected


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://one", "expected a scheme of redis, rediss, redis+sentinel, rediss+sentinel, redis+unix, got 'http'"),
        ("redis://", "expected host or host:port, got ''"),
        ("redis://a,,b", "expected host or host:port, got ''"),
        ("redis://[::1", "expected a URL such as redis://host:6379/0"),
        ("redis://:a\u2100secret@b", "expected a URL such as redis://host:6379/0"),
        ("redis://:a/secret@b", "expected %2F, %3F and %23 for / ? and # in a password"),
        ("redis://:a?secret@b", "expected %2F, %3F and %23 for / ? and # in a password"),
        ("redis://:secret#a@b", "expected %2F, %3F and %23 for / ? and # in a password"),
        ("redis://a:x", "expected host or host:port, got 'a:x'"),
        ("redis://a:0", "expected a port from 1 to 65535, got 'a:0'"),
        ("redis://a:65536", "expected a port from 1 to 65535, got 'a:65536'"),
        ("redis://a,b,a:6379", "expected different hosts or ports, got a:6379 twice"),
        ("redis://a/x", "expected the number of a database, got 'x'"),
        ("redis://a?prefix=", "prefix: expected 1 to 64 letters, digits and _ . : -, got ''"),
        ("redis://a?prefix=a'b", "prefix: expected 1 to 64 letters"),
        ("redis://a?renew=no", "renew: expected all or lost, got 'no'"),
        ("redis://a?db=3", "expected options of prefix, renew, ca, cert, key, sentinel_username, sentinel_password"),
        ("redis+sentinel://a", "expected a service: redis+sentinel://host:26379,host:26379/service"),
        ("redis+unix://", "expected the path of a socket: redis+unix:///run/redis.sock"),
        ("redis://secret@a", "expected user:password or :password before the @"),
    ],
)
def test_a_mistake_is_told_without_secrets(url: str, line: str) -> None:
    with pytest.raises(JournalError, match=r"^JOURNAL_URL: ") as error:
        parse_address(url)
    assert line in str(error.value)
    assert "secret" not in str(error.value)


def test_an_address_is_shown_without_secrets() -> None:
    assert str(parse_address("redis://u:secret@a,b:7/1")) == "a:6379,b:7"
    assert str(parse_address("redis+sentinel://:secret@a/main")) == "main of sentinels a:26379"


def test_independent_instances_have_an_address_each() -> None:
    parts = parse_address("redis://u:p@a,b,c/1?prefix=x").parts
    assert [(part.places, part.part) for part in parts] == [
        ((Place("a", 6379),), "1/3"), ((Place("b", 6379),), "2/3"), ((Place("c", 6379),), "3/3"),
    ]  # fmt: skip
    assert {(part.login, part.database, part.prefix) for part in parts} == {(Login("u", "p"), 1, "x")}
    (whole,) = parse_address("redis+sentinel://a,b/main").parts
    assert whole.part == "1/1"
