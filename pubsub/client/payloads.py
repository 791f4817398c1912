"""Payloads of users as JSON, and JSON as their types: msgspec's, pydantic's and Python's own. It must never send."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from pubsub.client.errors import PayloadError

__all__ = ["decoder_of", "encode_payload"]


def encode_payload(payload: Any) -> Raw:
    """Write a payload as JSON; a Raw has to be JSON already. Raises PayloadError."""
    try:
        if isinstance(payload, Raw):
            return _check(payload)
        if _is_model(type(payload)):
            return Raw(payload.model_dump_json().encode())
        return Raw(_encode(payload))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PayloadError(f"payload: expected what can be written as JSON: {error}") from error


def decoder_of(kind: Any) -> Callable[[Raw], Any]:
    """Return a function that makes a value of this type of JSON; it raises ValueError. Raises TypeError for no type."""
    if kind is Raw:
        return lambda text: text
    if _is_model(kind):
        return lambda text: kind.model_validate_json(bytes(text))
    decode: Callable[[Raw], Any] = msgspec.json.Decoder(kind).decode
    return decode


def _is_model(kind: Any) -> bool:
    """Return True for a class of pydantic's. A program that has one has imported pydantic."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _as_json(value: Any) -> Any:
    """Turn a value that msgspec does not know into one that it knows (its hook)."""
    if _is_model(type(value)):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is no type of JSON")


_check = msgspec.json.Decoder(Raw).decode
_encode = msgspec.json.Encoder(enc_hook=_as_json).encode
