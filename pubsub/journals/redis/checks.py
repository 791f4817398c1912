"""Checks of a Redis before it is used: what it can never do for a journal, and what it may lose. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pubsub.core.journal import JournalError

OLDEST: Final = (7, 0)  # of Redis: its scripts are refused as a whole, or not at all; Valkey began with 7.2

TROUBLES: Final = {
    "OOM": "its memory is full (maxmemory)",
    "MISCONF": "its disk is full or fails",
    "NOREPLICAS": "too few replicas follow it (min-replicas-to-write)",
}


def parse_info(text: bytes) -> Mapping[str, str]:
    """The fields of INFO."""
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


def identity_of(info: Mapping[str, str]) -> str:
    """The identity of the instance and its data: a restart or a failover changes it."""
    return f"{info['run_id']}:{info.get('master_replid', '')}"


def keeps_data(info: Mapping[str, str]) -> bool:
    """True if a running instance with a new replication id has its data still.

    It takes a new id an hour after its last replica has gone, and forgets the one before; one that was a replica in
    between remembers that of its primary.
    """
    return not info.get("master_replid2", "").strip("0")


def engine_of(info: Mapping[str, str]) -> str:
    """The name of the program. The redis_version of Valkey is the version that it is compatible with."""
    return "Valkey" if "valkey_version" in info else "Redis"


def check_info(info: Mapping[str, str], where: str) -> None:
    """Raise JournalError for an instance that cannot hold a journal."""
    found = info.get("valkey_version") or info.get("redis_version", "0.0")
    version = tuple(int(part) for part in found.split(".")[:2])
    if version < OLDEST:
        raise JournalError(f"{where}: expected Redis 7.0 or Valkey 7.2 or newer, got {found}")
    if info.get("cluster_enabled") == "1":
        raise JournalError(f"{where}: expected an instance without cluster mode (cluster-enabled no)")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy.startswith("allkeys-"):
        raise JournalError(f"{where}: expected maxmemory-policy noeviction, got {policy}, which deletes messages")


def is_replica(info: Mapping[str, str]) -> bool:
    return info.get("role") != "master"


def find_losses(info: Mapping[str, str], settings: Mapping[str, str] | None) -> str:
    """The reason for which durable topics may not last; empty if they do. ``settings``: None if they are not shown."""
    if info.get("aof_enabled") != "1":
        return f"appendonly is off: a crash of {engine_of(info)} loses all that came since its last snapshot"
    if settings is None:
        return "CONFIG GET is not allowed: it is not known if appendfsync is always"
    fsync = settings.get("appendfsync", "")
    if fsync != "always":
        return f"appendfsync is {fsync}: a crash of its machine loses what came in the last second or longer"
    return ""


def explain_trouble(text: str) -> str:
    """The reason for which an instance refuses to write, for an operator."""
    known = TROUBLES.get(text.partition(" ")[0])
    return f"{known}: {text}" if known else text


def explain_refusal(text: str, where: str, part: str = "1/1") -> JournalError | None:
    """The error for an answer that no later try can change; None for others."""
    code = text.partition(" ")[0]
    if code in ("WRONGPASS", "NOAUTH") or "without any password configured" in text:
        return JournalError(f"{where}: the user or password is wrong: {text}")
    if code == "NOPERM":
        return JournalError(f"{where}: the user may not do this (ACL): {text}")
    if code == "WRONGTYPE":
        return JournalError(f"{where}: keys of another program have the prefix; choose another one with ?prefix=")
    if code == "VERSION":
        return JournalError(f"{where}: the journal has version {text.partition(' ')[2]}, this server knows version 1")
    if code == "PART":
        found = text.partition(" ")[2]
        return JournalError(f"{where}: expected instance {part} of those that share the topics, got instance {found}")
    if "unknown command" in text and "HELLO" in text.upper():
        return JournalError(f"{where}: expected Redis 7.0 or Valkey 7.2 or newer, got one without HELLO")
    if code == "ERR" and "max number of clients" not in text:
        return JournalError(f"{where}: {text}")
    return None


def settings_of(reply: Any) -> Mapping[str, str]:
    """The answer to CONFIG GET."""
    return {name.decode(): value.decode() for name, value in reply.items()}
