"""Quotas of connections: of all clients, and of one client."""

from __future__ import annotations

import pytest

from pubsub.auth.quotas import Quotas
from pubsub.protocol.errors import LimitExceeded, ServerFull


def test_quotas() -> None:
    quotas = Quotas(in_all=2, per_client=1)
    quotas.check_room(1)
    with pytest.raises(ServerFull, match="2 connections"):
        quotas.check_room(2)
    quotas.check_claim("alice")
    quotas.claim("alice")
    with pytest.raises(LimitExceeded, match="1 connections"):
        quotas.check_claim("alice")
    quotas.check_claim("bob")
    quotas.release("alice")
    quotas.check_claim("alice")
    assert (ServerFull("x").status, LimitExceeded("x").status) == (503, 429)


def test_zero_is_no_limit() -> None:
    quotas = Quotas(in_all=0, per_client=0)
    quotas.check_room(1 << 40)
    for _ in range(100):
        quotas.check_claim("alice")
        quotas.claim("alice")
