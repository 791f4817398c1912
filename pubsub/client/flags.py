"""Flags that several commands have, and readers of values. It must never read anything but text and the environment."""

import argparse
import json
import math
import os
import re
from collections.abc import Callable
from typing import Final

from msgspec import Raw
from yarl import URL

from pubsub.client.address import server_url
from pubsub.client.credentials import add_credential_flags
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import shown
from pubsub.protocol.patterns import check_pattern, check_topic
from pubsub.protocol.requests import MAX_SECONDS, Message, check_message

URL_VARIABLE: Final = "PUBSUB_URL"
DEFAULT_URL: Final = "http://127.0.0.1:8080"


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the server's address and for credentials."""
    parser.add_argument("--url", type=url, default=os.environ.get(URL_VARIABLE) or DEFAULT_URL,
                        help=f"the server (default: {URL_VARIABLE}, or {DEFAULT_URL})")  # fmt: skip
    add_credential_flags(parser)


def url(text: str) -> URL:
    try:
        return server_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def topic(text: str) -> str:
    return _checked(check_topic, text, "the name of a topic")


def pattern(text: str) -> str:
    """Read the name of a topic, or a pattern."""
    return _checked(check_pattern, text, "the name of a topic, or a pattern")


def _checked(check: Callable[[str], None], text: str, expected: str) -> str:
    try:
        check(text)
    except BadRequest as error:
        _, _, reason = str(error).partition(": ")  # after the name of the protocol's field
        raise argparse.ArgumentTypeError(f"{expected}: {reason}") from None
    return text


def message_id(text: str) -> str:
    return _checked(lambda text: check_message(Message(text, Raw(b"null"))), text, "the id of a message")


def whole_number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,16}", text, re.ASCII) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"got {shown(text)}, expected a whole number from {least:,} to {most:,}")
        return int(text)

    return read


def seconds(most: float = MAX_SECONDS) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 < number <= most:
            raise argparse.ArgumentTypeError(f"got {shown(text)}, expected seconds above 0 and up to {most:g}")
        return number

    return read


def json_object(text: str) -> dict[str, object]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"got {shown(text)}, expected a JSON object: {error}") from None
    if not isinstance(read, dict):
        raise argparse.ArgumentTypeError(f'got {shown(text)}, expected a JSON object as in {{"least":100}}')
    return read
