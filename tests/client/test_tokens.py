"""Tokens: texts and functions, and the time at which they are renewed."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pubsub.client.errors import TokenError
from pubsub.client.tokens import Tokens
from tests.credentials import make_token, part


def function_for(token: str) -> Tokens:
    async def give() -> str:
        return token

    return Tokens(give, timeout=5)


async def test_a_text_is_the_token_of_each_connection() -> None:
    tokens = Tokens(make_token(), timeout=5)
    assert await tokens.fetch() == await tokens.fetch()
    assert (tokens.used, tokens.renewable, tokens.renewal_sec()) == (True, False, None)
    assert await tokens.headers() == {"Authorization": f"Bearer {await tokens.fetch()}"}


async def test_there_may_be_none() -> None:
    tokens = Tokens(None, timeout=5)
    assert await tokens.fetch() is None
    assert (tokens.used, tokens.renewable, tokens.renewal_sec(), await tokens.headers()) == (False, False, None, {})


@pytest.mark.parametrize("token", ["", "two words", "a\r\nb", "é", "\x00"])
def test_a_text_that_can_not_be_a_token(token: str) -> None:
    with pytest.raises(TokenError, match="token: expected printable ASCII characters without blanks"):
        Tokens(token, timeout=5)


@pytest.mark.parametrize(("left", "wait"), [(3600, 3570), (100, 80), (2, 1.6), (0.5, 1), (-100, 1)])
async def test_a_token_is_renewed_before_it_expires(left: float, wait: float) -> None:
    tokens = function_for(make_token(exp=time.time() + left))
    await tokens.fetch()
    assert tokens.renewal_sec() == pytest.approx(wait, abs=0.2)


@pytest.mark.parametrize(
    "token", ["opaque", f"a.{part({'sub': 'x'})}.b", f"a.{part([])}.b", f"a.{part(b'no json')}.b", "a.*.b", "a.b.c.d"]
)
async def test_a_token_without_an_expiry_is_not_renewed(token: str) -> None:
    tokens = function_for(token)
    await tokens.fetch()
    assert tokens.renewal_sec() is None


async def test_the_header_of_rest_is_that_of_the_latest_token() -> None:
    tokens = iter(["one", "two"])

    async def give() -> str:
        return next(tokens)

    renewed = Tokens(give, timeout=5)
    assert await renewed.headers() == {"Authorization": "Bearer one"}
    assert await renewed.headers() == {"Authorization": "Bearer one"}
    await renewed.fetch()
    assert await renewed.headers() == {"Authorization": "Bearer two"}


async def test_a_function_that_raises_is_the_cause() -> None:
    async def fail() -> Any:
        raise TimeoutError("of its own, with a secret")

    with pytest.raises(TokenError, match=r"^the token function raised TimeoutError$") as raised:
        await Tokens(fail, timeout=5).fetch()
    assert isinstance(raised.value.__cause__, TimeoutError)
