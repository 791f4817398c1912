"""The settings that are wanted now, read again while the server runs. Whatever is wrong is a SettingsError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pubsub.settings import Settings, SettingsError


class WantedSettings:
    """See the module. ``read`` reads them in a child process; ``env_file`` is the file that the server began with."""

    def __init__(self, read: Callable[[], Settings], env_file: str) -> None:
        self._read = read
        self._env_file = env_file
        self._had_file = self._has_file

    @property
    def _has_file(self) -> bool:
        return Path(self._env_file).exists()

    def read(self) -> Settings:
        """Read them, which takes about a second. Raises SettingsError."""
        if self._had_file and not self._has_file:  # without it all settings would have their defaults: no keys
            raise SettingsError([f"ENV_FILE: got {self._env_file!r}, which is gone"])
        try:
            return self._read()
        except SystemExit as end:  # of the process that reads them
            raise SettingsError([f"their reader ended with status {end.code}"]) from None
        except OSError as error:
            raise SettingsError([f"their reader did not start: {error}"]) from None
