"""Reads settings from flags, the environment and ``.env``, by pydantic-settings, and explains those that are invalid.

The server reads its own in a child process (``read_settings_apart``): pydantic would keep 10 of 52 MiB of its memory
for something that is done once.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from pubsub.auth.api_keys import ApiKeys
from pubsub.auth.keys import ALGORITHMS, pem_keys, secret_keys
from pubsub.env_file import check_env_file, env_file_of
from pubsub.http.proxies import Proxies
from pubsub.http.tls import load_certificate
from pubsub.rules_reader import RulesError, read_rules
from pubsub.settings import SECRETS, UNIX, Settings, SettingsError, listed
from pubsub.system.unix_socket import check_path


class Answer(Struct):
    """The child process's answer."""

    settings: Settings | None
    mistakes: list[str] = []


def read_settings_apart(arguments: Sequence[str]) -> Settings:
    """Call :func:`parse_settings` in a child process. Exits, and raises SettingsError, as that does."""
    if sys.platform == "win32":  # it can't hand over a descriptor
        return parse_settings(arguments)
    receiving, sending = os.pipe()
    command = [sys.executable, "-m", "pubsub.settings_reader", str(sending), *arguments]
    with subprocess.Popen(command, pass_fds=[sending]) as reader, open(receiving, "rb") as answer:
        os.close(sending)
        text = answer.read()
    if not text:
        raise SystemExit(reader.returncode)
    found = msgspec.json.decode(text, type=Answer)
    if found.settings is None:
        raise SettingsError(found.mistakes)
    return found.settings


def answer_parent(arguments: Sequence[str]) -> Answer:
    try:
        return Answer(parse_settings(arguments))
    except SettingsError as error:
        return Answer(None, error.mistakes)


def read_settings(arguments: Sequence[str]) -> Settings:
    """Return the settings. Exits with status 0 after ``--help``, with status 2 after a line for each mistake."""
    try:
        return parse_settings(arguments)
    except SettingsError as error:
        print(*error.mistakes, sep="\n", file=sys.stderr)
        raise SystemExit(2) from None


def parse_settings(arguments: Sequence[str]) -> Settings:
    """Return the settings. Raises SettingsError. Exits after ``--help``, and for a flag that is unknown."""
    from pydantic import ValidationError
    from pydantic_settings import CliApp

    path = env_file_of(with_dashes(arguments))
    check_env_file(path)
    try:
        found = CliApp.run(make_model(path), cli_args=with_dashes(arguments))
    except ValidationError as error:
        raise SettingsError(explain(error.errors())) from None
    settings = Settings(**found.model_dump() | {"env_file": path})  # the file may name another one, in vain
    if mistakes := find_mistakes(settings):
        raise SettingsError(mistakes)
    return settings


def check_settings(values: Mapping[str, object]) -> Settings:
    """Make settings of ``values`` and defaults alone. Raises ValueError, which has a line for each mistake."""
    from pydantic import BaseModel, ValidationError, create_model

    if unknown := sorted(values.keys() - {each.name for each in fields(Settings)}):
        raise ValueError(f"expected names of settings, such as ring_buffer_size, got {', '.join(unknown)}")
    try:
        found = create_model("Settings", __base__=BaseModel, **model_fields())(**values)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error.errors()))) from None
    settings = Settings(**found.model_dump())
    if mistakes := find_mistakes(settings):
        raise ValueError("\n".join(mistakes))
    return settings


def find_mistakes(settings: Settings) -> list[str]:
    """Return a line for each mistake in a setting by itself, in its file or beside the others. Shows no secret."""
    mistakes = []
    for name, check in _CHECKS.items():
        value = getattr(settings, name)
        try:
            if value:
                check(settings)
        except (ValueError, OSError) as error:
            got = "a value that is not shown" if name in SECRETS else repr(value)
            mistakes += [f"{name.upper()}: got {got}, {line}" for line in _lines_of(error)]
    return mistakes


def _lines_of(error: ValueError | OSError) -> list[str]:
    return error.mistakes if isinstance(error, RulesError) else [str(error).partition("\n")[0]]


def _check_host(settings: Settings) -> None:
    if settings.host.startswith(UNIX):
        check_path(settings.unix_path)


def _check_mode(settings: Settings) -> None:
    if not re.fullmatch(r"0?[0-7]{3}", settings.socket_mode):
        raise ValueError("expected three octal digits, as chmod takes them, such as 0660")


def _check_workers(settings: Settings) -> None:
    if settings.workers > 1 and not hasattr(socket, "send_fds"):
        raise ValueError("expected 1: this system hands no connections to other processes")


def _check_keys(settings: Settings) -> None:
    if not find_spec("jwt") or not find_spec("cryptography"):
        raise ValueError("expected PyJWT and cryptography to be installed: pip install 'pubsub[auth]'")


def _check_secret(settings: Settings) -> None:
    _check_keys(settings)
    secret_keys(settings.jwt_secret, listed(settings.jwt_algorithms))


def _check_public_keys(settings: Settings) -> None:
    _check_keys(settings)
    pem_keys(Path(settings.jwt_public_key_file).read_bytes(), listed(settings.jwt_algorithms))


def _check_url(settings: Settings) -> None:
    _check_keys(settings)
    url = urlsplit(settings.jwt_jwks_url)
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        raise ValueError("expected a URL that begins with https:// and has no name or password in it")


def _check_algorithms(settings: Settings) -> None:
    if not set(listed(settings.jwt_algorithms)) <= set(ALGORITHMS):
        raise ValueError(f"expected some of {', '.join(ALGORITHMS)}")


def _check_origins(settings: Settings) -> None:
    for origin in listed(settings.allowed_origins):
        if origin != "null" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s*A-Z]+", origin):
            raise ValueError(f"expected scheme://host or scheme://host:port as browsers send them, not {origin!r}")


def _check_proxies(settings: Settings) -> None:
    Proxies(listed(settings.trusted_proxies))


def _check_certificate(settings: Settings) -> None:
    load_certificate(settings.tls_cert_file, settings.tls_key_file)


def _check_tls_key(settings: Settings) -> None:
    if not settings.tls_cert_file:
        raise ValueError("expected TLS_CERT_FILE too")


_CHECKS: dict[str, Callable[[Settings], object]] = {
    "host": _check_host,
    "workers": _check_workers,
    "socket_mode": _check_mode,
    "topic_rules_file": lambda settings: read_rules(settings.topic_rules_file),
    "api_keys": lambda settings: ApiKeys(settings.api_keys),
    "jwt_secret": _check_secret,
    "jwt_public_key_file": _check_public_keys,
    "jwt_jwks_url": _check_url,
    "jwt_algorithms": _check_algorithms,
    "allowed_origins": _check_origins,
    "trusted_proxies": _check_proxies,
    "tls_cert_file": _check_certificate,
    "tls_key_file": _check_tls_key,
}


def make_model(env_file: str) -> Any:
    """Make a class of pydantic-settings with the fields of Settings."""
    from pydantic import create_model, field_validator
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class Base(BaseSettings):
        model_config = SettingsConfigDict(
            env_file=env_file,
            env_ignore_empty=True,
            extra="ignore",
            cli_kebab_case=True,
            cli_avoid_json=True,
            cli_prog_name="pubsub serve",
        )

        @field_validator(*CHOICES, mode="before", check_fields=False)
        @classmethod
        def fold_case(cls, value: Any) -> Any:
            return value.strip().lower() if isinstance(value, str) else value

    return create_model("Settings", __base__=Base, __doc__=Settings.__doc__, **model_fields())


def model_fields() -> dict[str, Any]:
    """Return the fields of Settings as pydantic wants them."""
    from pydantic import AliasChoices, Field

    types = get_type_hints(Settings)
    made: dict[str, Any] = {}
    for each in fields(Settings):
        rules = dict(each.metadata["rules"])
        if alias := rules.pop("alias", None):
            rules["validation_alias"] = AliasChoices(each.name, alias)
        if types[each.name] is float:
            rules["allow_inf_nan"] = False
        made[each.name] = (types[each.name], Field(each.default, description=each.metadata["meaning"], **rules))
    return made


def with_dashes(arguments: Sequence[str]) -> list[str]:
    """Turn ``--ping_period_sec`` into ``--ping-period-sec``: both are accepted."""
    return [_with_dashes(argument) if argument.startswith("--") else argument for argument in arguments]


def _with_dashes(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


def explain(mistakes: Sequence[Any]) -> list[str]:
    """Return a line for each invalid setting: its name, what it got, what it may be."""
    aliases = {rules["alias"]: each.name for each in fields(Settings) if "alias" in (rules := each.metadata["rules"])}
    found = {str(mistake["loc"][0]).lower(): mistake["input"] for mistake in mistakes}
    return [
        f"{name.upper()}: got {value!r}, expected {expected(aliases.get(name, name))}" for name, value in found.items()
    ]


def expected(name: str) -> str:
    """Describe the values that a setting may have."""
    kind = get_type_hints(Settings)[name]
    rules = next(each.metadata["rules"] for each in fields(Settings) if each.name == name)
    if name in CHOICES:
        return f"one of {', '.join(CHOICES[name])}"
    if kind is str:
        return "a text that is not empty"
    bounds = [f"{words} {rules[rule]}" for rule, words in _BOUNDS.items() if rule in rules]
    return f"{'a whole number' if kind is int else 'a number'} {' and '.join(bounds)}"


# The settings that are one of several words; an empty one is none of them.
CHOICES = {
    name: list(filter(None, choices)) for name, kind in get_type_hints(Settings).items() if (choices := get_args(kind))
}
_BOUNDS = {"ge": "of at least", "gt": "above", "le": "of at most"}


if __name__ == "__main__":
    with open(int(sys.argv[1]), "wb") as answer:
        answer.write(msgspec.json.encode(answer_parent(sys.argv[2:])))
