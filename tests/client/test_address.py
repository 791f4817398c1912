"""Addresses of servers, and the error texts for a failure to connect."""

from __future__ import annotations

import errno
import ssl

import pytest
from yarl import URL

from pubsub.client.address import cause_of, connect_error, server_url, websocket_url, without_password


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/ws", "http://127.0.0.1:8080"),
        ("ws://h/ws/", "http://h"),
        ("wss://h:1/behind/a/proxy/ws?x=1", "https://h:1/behind/a/proxy"),
    ],
)
def test_server_url(given: str, base: str) -> None:
    assert str(server_url(given)) == base


@pytest.mark.parametrize("given", ["", "localhost:8080", "ftp://h", "http://", "http://h:port", "http://[::1"])
def test_server_url_refuses_others(given: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        server_url(given)


def test_websocket_url_names_the_client() -> None:
    assert (
        str(websocket_url(URL("https://h/behind/a/proxy"), "a b&c")) == "https://h/behind/a/proxy/ws?client_id=a+b%26c"
    )


def test_a_password_is_not_shown() -> None:
    url = URL("http://me:secret@host/path/")
    assert without_password(url) == "http://host/path"
    assert "secret" not in connect_error(url, OSError(errno.ECONNREFUSED, "x"))


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (OSError(-2, "Name or service not known"), "Name or service not known"),
        (TimeoutError(), "no answer in time"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "TLS failed: "),
        (ValueError("something else"), "something else"),
    ],
)
def test_cause_is_in_plain_words(error: Exception, cause: str) -> None:
    assert cause_of(error).startswith(cause)


def test_cause_is_looked_for_within_aiohttps_errors() -> None:
    class Wrapped(Exception):
        os_error = OSError(errno.EHOSTUNREACH, "x")

    assert cause_of(Wrapped("Cannot connect to host")) == "No route to host"
