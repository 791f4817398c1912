"""Reads the settings again while the server runs, and tells in the log what that changed.

Whatever is wrong, everything stays as it was. Nothing here knows a setting by name but the level of the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import cache

from aiohttp import web

from pubsub.auth.jwks import KeySet, NotFetched
from pubsub.http.app_keys import BROKER, CONNECTIONS
from pubsub.http.identities import IDENTITIES, Identities
from pubsub.live import IN_FORCE, Parts, differences, put_in_force, read_parts, with_live
from pubsub.rules_reader import RulesError
from pubsub.settings import SECRETS, Settings, SettingsError
from pubsub.system.logs import set_level
from pubsub.wanted_settings import WantedSettings
from pubsub.websocket.peer import Peer

log = logging.getLogger(__name__)


class Reloading:
    """See the module. ``read`` returns the settings that are wanted now; it runs in a thread, and raises SettingsError.

    ``then`` is called after a change.
    """

    def __init__(self, app: web.Application, read: Callable[[], Settings], then: Callable[[], None]) -> None:
        self._app = app
        self._wanted = WantedSettings(read, app[IN_FORCE].settings.env_file)
        self._then = then
        self._task: asyncio.Task[None] | None = None
        self._requested = False

    def request(self) -> None:
        """Reload, after the reload that is in progress, if there is one."""
        self._requested = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._requested:
            self._requested = False
            try:
                await self.reload()
            except Exception:
                log.exception("Settings not reloaded: internal error")

    async def reload(self) -> None:
        """Read the settings and put the live ones in force, or log the mistakes."""
        before = self._app[IN_FORCE].settings
        try:
            wanted = await asyncio.to_thread(self._wanted.read)
            settings = with_live(before, wanted)
            parts = await self._prepare(settings)
        except SettingsError as error:
            for mistake in error.mistakes:
                log.error("Settings not reloaded: %(mistake)s", {"mistake": mistake})
            return
        changed = self._digested_change(parts) | changes(before, settings)
        closed = await self._change(settings, parts)
        for name, change in changed.items():
            log.info("Setting changed: %(name)s: %(change)s", {"name": name.upper(), "change": change})
        for name, change in changes(settings, wanted).items():
            log.warning("Setting needs a restart: %(name)s: %(change)s", {"name": name.upper(), "change": change})
        log.info(
            "Settings reloaded: %(changed)d changed, %(closed)d connections closed",
            {"changed": len(changed), "closed": closed},
        )
        self._then()

    async def _prepare(self, settings: Settings) -> Parts:
        """Raises SettingsError. A new source of keys must answer; one that is in use may fail."""
        before = self._app[IN_FORCE]
        try:
            parts = await asyncio.to_thread(read_parts, settings, before)
            if parts.source is not None and parts.source is not before.parts.source:
                await parts.source.load()
        except NotFetched as error:
            raise SettingsError([f"JWT_JWKS_URL: got {settings.jwt_jwks_url!r}, no keys came: {error}"]) from None
        except RulesError as error:
            raise SettingsError(error.mistakes) from None
        except (ValueError, OSError) as error:
            raise SettingsError([str(error)]) from None
        return parts

    def _digested_change(self, parts: Parts) -> dict[str, str]:
        """The settings whose files have another content."""
        before = self._app[IN_FORCE].parts.digests
        return {name: "another content" for name, found in parts.digests.items() if before.get(name, found) != found}

    async def _change(self, settings: Settings, parts: Parts) -> int:
        """Returns the number of connections whose credentials are no longer accepted, and which are closed."""
        app, in_force = self._app, self._app[IN_FORCE]
        level, source = in_force.settings.least_level, in_force.parts.source
        is_revoked = revocation(app[IDENTITIES])
        put_in_force(app, parts)
        in_force.settings, in_force.parts = settings, parts
        if settings.least_level != level:
            set_level(settings.least_level)
            app[BROKER].heed_log_level()
        await exchange(source, parts.source)
        return await app[CONNECTIONS].revoke(is_revoked)


def revocation(identities: Identities) -> Callable[[Peer], bool]:
    """Make a test that finds, after a change, the connections that would not be let in again."""
    asked_for_tokens = bool(identities.tokens)
    proves = cache(identities.proves)  # of many clients the proof is the same

    def is_revoked(peer: Peer) -> bool:
        if peer.identity is not None:
            return not proves(peer.identity.proof)
        if peer.by_rest:
            return not identities.streams_are_open
        return bool(identities.tokens) and not asked_for_tokens  # otherwise it may still send its token

    return is_revoked


async def exchange(before: KeySet | None, after: KeySet | None) -> None:
    """Renew the keys of another URL from now on; those of the same one at once."""
    if before is after:
        if after is not None:
            after.refresh(lambda: None)
        return
    if after is not None:
        after.start()
    if before is not None:
        await before.stop()


def changes(before: Settings, after: Settings) -> dict[str, str]:
    """The settings that differ, each with both values, unless it is a secret."""
    return {
        name: "not shown" if name in SECRETS else f"{getattr(before, name)!r} to {getattr(after, name)!r}"
        for name in differences(before, after)
    }
