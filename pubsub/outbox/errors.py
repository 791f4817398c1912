"""The error that ends the worker of an outbox. It must never have a password in its text."""

from __future__ import annotations


class OutboxError(Exception):
    """The outbox cannot be used as it is; the text says why, and what to do about it."""
