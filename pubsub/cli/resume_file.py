"""The file of ``--resume``: the positions that a subscriber has reached. A crash must never leave a part of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from pubsub.cli.running import Unusable
from pubsub.client import Position

_positions = msgspec.json.Decoder(dict[str, Position])


def read_positions(path: Path) -> dict[str, Position]:
    """Return the positions by topic; none if there is no file yet. Raises Unusable."""
    try:
        return _positions.decode(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unusable(f'{path}: expected positions as in {{"orders":{{"epoch":"k3f9","seq":41}}}}: {error}') from None


def save_positions(path: Path, positions: Mapping[str, Position]) -> None:
    """Replace the file. It is on disk before the old one goes. Raises Unusable."""
    place = path.resolve()  # a symbolic link stays one
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(msgspec.json.encode(positions) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(place)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise Unusable(f"{path}: {error.strerror}") from None
