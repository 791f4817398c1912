"""Finds the file with settings, and checks that it is whole. It reads no setting: pydantic-settings does."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from pubsub.settings import ENV_FILE, SettingsError


def env_file_of(arguments: Sequence[str]) -> str:
    """The name of the file, from the flags (with dashes) or the environment."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--env-file")
    flag = parser.parse_known_args(arguments)[0].env_file
    variables = {name.upper(): value for name, value in os.environ.items()}
    return flag or variables.get("ENV_FILE") or ENV_FILE


def check_env_file(path: str) -> None:
    """Raise SettingsError for a file that cannot be read whole. None is fine, if it is not named."""
    from dotenv.parser import parse_stream

    try:
        with open(path, encoding="utf-8") as file:
            lines = list(parse_stream(file))
    except FileNotFoundError as error:
        if path != ENV_FILE:
            raise SettingsError([f"ENV_FILE: got {path!r}, {error}"]) from None
        return
    except (OSError, ValueError) as error:
        raise SettingsError([f"ENV_FILE: got {path!r}, {error}"]) from None
    # A file that was cut off may end in half a name.
    faulty = [each.original.line for each in lines if each.error or (each.key is not None and each.value is None)]
    if faulty:
        raise SettingsError([f"ENV_FILE: got {path!r}, line {line}: expected NAME=value" for line in faulty])
