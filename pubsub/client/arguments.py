"""The arguments of a user's call as a request of the protocol. It must never send one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from msgspec import UNSET, Raw, UnsetType

from pubsub.client.events import Position
from pubsub.client.interest import Wish
from pubsub.client.payloads import encode_payload
from pubsub.client.positions import read_positions
from pubsub.client.requests import History, Message, Publish

__all__ = ["Params", "history_request", "publish_request", "wish_of"]

T = TypeVar("T")

Params = Mapping[str, Any] | None


def publish_request(
    topic: str,
    payload: Any,
    *,
    id: str | None = None,
    ttl_sec: float | None = None,
    expect_seq: int | None = None,
) -> Publish:
    """Make a request with an id of its own, if there is none. Raises PayloadError."""
    return Publish(
        topic=topic,
        message=Message(str(uuid.uuid4()) if id is None else id, encode_payload(payload)),
        ttl_sec=_or_unset(ttl_sec),
        expect_seq=_or_unset(expect_seq),
    )


def history_request(
    topic: str, *, last_n: int | None, after: int | None, filter: str | None, params: Params
) -> History:
    """Make a request for the newest messages, or for those after a ``seq``: without both, the oldest ones."""
    return History(
        topic=topic,
        after=after or 0 if last_n is None else UNSET,
        last_n=_or_unset(last_n),
        filter=_or_unset(filter),
        params=_raw_params(params),
    )


def wish_of(
    topic: str,
    *,
    last_n: int,
    filter: str | None,
    params: Params,
    resume: Mapping[str, Position | Mapping[str, Any]] | None,
    notices: bool,
) -> Wish:
    """Make a wish. Raises ValueError for positions that are none, PayloadError for params that are no JSON."""
    return Wish(
        topic=topic,
        last_n=last_n,
        filter=_or_unset(filter),
        params=_raw_params(params),
        resume=None if resume is None else read_positions(topic, resume),
        notices=notices,
    )


def _raw_params(params: Params) -> Raw | UnsetType:
    return UNSET if params is None else encode_payload(params)


def _or_unset(value: T | None) -> T | UnsetType:
    return UNSET if value is None else value
