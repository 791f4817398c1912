"""The settings as an operator may see them: all of them, and nothing of a secret. It reads and changes none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Final

from pubsub.protocol.dashboard import SettingRow
from pubsub.settings import SECRETS, Settings

MASK: Final = "••••••"
PASSWORD: Final = re.compile(r"(?<=://)[^/\s]*(?=@)|(?<=sentinel_password=)[^&\s]*")  # a URL may have them


def show_settings(settings: Settings) -> Sequence[SettingRow]:
    """A row for each setting, in the order of their definition."""
    defaults = Settings()
    return [
        SettingRow(
            name=each.name.upper(),
            value=shown(each.name, getattr(settings, each.name)),
            default=getattr(defaults, each.name),
            meaning=each.metadata["meaning"],
            live=each.metadata["live"],
            masked=each.name in SECRETS,
        )
        for each in fields(Settings)
    ]


def shown(name: str, value: str | int | float) -> str | int | float:
    if name in SECRETS:
        return MASK if value else ""
    return PASSWORD.sub(MASK, value) if isinstance(value, str) else value
