"""``/admin/settings``, ``/admin/storage`` and ``/admin/token``: the settings, the disk, and the rights of a token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
from aiohttp import web

from pubsub.auth.identity import Identity
from pubsub.auth.permissions import allows
from pubsub.core.journal import JournalMeasures
from pubsub.http.app_keys import BROKER
from pubsub.http.identities import IDENTITIES
from pubsub.http.metrics import SOURCES
from pubsub.http.rendering import read_text, render
from pubsub.http.waiting import answered
from pubsub.metrics.disk import DiskUse, measure_disk
from pubsub.metrics.quantiles import quantile
from pubsub.metrics.snapshot import take_snapshot
from pubsub.protocol.dashboard import (
    CommitTimes,
    SettingList,
    SettingRow,
    Storage,
    TokenReport,
    TokenTest,
    TopicRights,
)
from pubsub.protocol.errors import Unauthorized
from pubsub.protocol.mistakes import explain
from pubsub.protocol.patterns import covers

SETTINGS: Final[web.AppKey[Callable[[], Sequence[SettingRow]]]] = web.AppKey("settings")
NO_TOKENS: Final = "The server takes no tokens: no JWT key is set."

_decode_test = msgspec.json.Decoder(TokenTest).decode


async def show_settings(request: web.Request) -> web.Response:
    return render(SettingList(list(request.app[SETTINGS]())))


async def show_storage(request: web.Request) -> web.Response:
    app = request.app
    broker = app[BROKER]
    journal, snapshot = broker.durable_journal, await take_snapshot(app[SOURCES])
    measures = None if journal is None else journal.measures
    disk = DiskUse({}, None) if measures is None else await asyncio.to_thread(measure_disk, measures.files)
    report = Storage(
        durable_topics=snapshot.durable,
        memory_topics=snapshot.in_memory,
        failure=broker.failure,
        files=disk.files,
        free_bytes=disk.free,
        waiting_bytes=0 if measures is None else measures.waiting_bytes,
        commits=None if measures is None else commits_of(measures),
    )
    return render(report)


def commits_of(measures: JournalMeasures) -> CommitTimes:
    commits = measures.commits
    count = sum(commits.counts)
    return CommitTimes(
        count=count,
        failures=measures.failures,
        mean_ms=round(1000 * commits.sum / count, 3) if count else None,
        p50_ms=milliseconds(quantile(commits.bounds, commits.counts, 0.5)),
        p99_ms=milliseconds(quantile(commits.bounds, commits.counts, 0.99)),
    )


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)


async def try_token(request: web.Request) -> web.Response:
    """A token that is not accepted is no failure of this call: the answer says why. It is counted nowhere."""
    text = await read_text(request)
    try:
        wanted = _decode_test(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error, text, ())
    tokens = request.app[IDENTITIES].tokens
    if not tokens:
        return render(TokenReport(accepted=False, reason=NO_TOKENS))
    try:
        identity: Identity = await answered(partial(tokens.identify, wanted.token.strip()))
    except Unauthorized as failure:
        return render(TokenReport(accepted=False, reason=str(failure)))
    return render(report_of(identity, wanted.topic))


def report_of(identity: Identity, topic: str) -> TokenReport:
    """Raises BadRequest for an invalid topic."""
    return TokenReport(
        accepted=True,
        client_id=identity.client_id,
        expires_in_sec=int(identity.expires - time.monotonic()),
        admin=identity.admin,
        subscribe=identity.subscribes.split(),
        publish=identity.publishes.split(),
        filters=dict(identity.filters),
        rights=rights_to(identity, topic) if topic else None,
    )


def rights_to(identity: Identity, topic: str) -> TopicRights:
    subscribe, publish = allows(identity.subscribes, topic), allows(identity.publishes, topic)
    return TopicRights(
        topic=topic,
        subscribe=subscribe,
        publish=publish,
        because=f"{because(identity.subscribes, topic, 'subscribe')} {because(identity.publishes, topic, 'publish')}",
        filters=list(identity.filters_for(topic)),
    )


def because(rights: str, topic: str, verb: str) -> str:
    """A sentence that says which of the rights covers the topic, or that none does."""
    covering = next((each for each in rights.split() if covers(each, topic)), None)
    if covering is not None:
        return f"It may {verb} by its right {covering}."
    if not rights:
        return f"It may not {verb}: the token has no right to {verb}."
    return f"It may not {verb}: none of its rights to {verb} covers the topic."
