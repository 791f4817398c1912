"""The JavaScript client beside a scripted WebSocket: its pauses, its repeats and the limits of what it keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.harness import on_one_loop
from tests.javascript.node import JavaScriptError, Node, run_node

pytestmark = on_one_loop

# Every connection opens at once, and its first ping is answered. `sockets` are all, `last()` is the newest.
SCRIPTED = """
globalThis.sockets = [];
globalThis.changes = [];
globalThis.last = () => sockets.at(-1);
class Scripted {
  asked = [];
  constructor() {
    sockets.push(this);
    setTimeout(() => this.onopen());
  }
  send(text) {
    const request = JSON.parse(text);
    if (request.type === "ping") setTimeout(() => this.tell({ type: "pong", request_id: request.request_id }));
    else this.asked.push(request);
  }
  close() {}
  tell(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  answer(number, fields) {
    const { request_id, topic } = this.asked[number];
    this.tell({ type: "ack", request_id, topic, ...fields });
  }
}
const soon = () => new Promise((resolve) => setTimeout(resolve, 1));
globalThis.until = async (condition) => { while (!condition()) await soon(); };
globalThis.isOpen = (number) => until(() => changes.filter(({ state }) => state === "open").length >= number);
const onState = (change) => changes.push(change);
globalThis.client = new Client("http://localhost/", { WebSocket: Scripted, onState, ...options });
await isOpen(1);
"""


@asynccontextmanager
async def scripted(**options: int) -> AsyncIterator[Node]:
    async with run_node() as node:
        await node.run(SCRIPTED, options=options)
        yield node
        await node.run("client.close()")


@pytest.mark.parametrize(("told", "pause"), [(5000, 5), (10**9, 60)])
async def test_after_a_shutdown_it_waits_as_long_as_the_server_said(told: int, pause: int) -> None:
    """A publish waits for the next connection."""
    async with scripted() as node:
        await node.run("last().tell({type: 'info', msg: 'draining', reconnect_after_ms: told})", told=told)
        await node.run("client.publish('orders', 1).catch(() => {})")
        assert await node.run("last().onclose({code: 1001}); return changes.at(-1).retrySec") == pause
        assert await node.run("return last().asked") == []


@pytest.mark.parametrize("first", ["own", "another"])
async def test_a_conflict_of_a_repeat_is_none_if_the_message_is_its_own(first: str) -> None:
    """The answer to the first try was lost. Another message in its place is a conflict."""
    async with scripted() as node:
        await node.run(
            "const message = {topic: 'orders', seq: 7, message: {id: first, payload: 1}, ts: ''};"
            "globalThis.fetched = [];"
            "globalThis.fetch = async (url) => {"
            "  fetched.push(`${url}`);"
            "  return new Response(JSON.stringify({epoch: 'e', complete: true, messages: [message]}));"
            "};"
            "globalThis.published = client.publish('orders', 1, {id: 'own', expectSeq: 6});"
            "published.catch(() => {});"
            "await until(() => last().asked.length); last().onclose({code: 1006});"
            "await isOpen(2); await until(() => last().asked.length);"
            "last().answer(0, {type: 'error', error: {code: 'CONFLICT', message: 'expected 6', seq: 7}})",
            first=first,
        )
        if first == "own":
            assert await node.run("return (await published).seq") == 7
        else:
            with pytest.raises(JavaScriptError, match="Conflict"):
                await node.run("await published")
        assert await node.run("return fetched") == ["http://localhost/topics/orders/messages?after=6&limit=1"]


async def test_after_a_rest_each_answer_lets_one_request_more_go() -> None:
    async with scripted() as node:
        await node.run(
            "for (let number = 0; number < 10; number++) client.publish('orders', number).catch(() => {});"
            "const refusal = {type: 'error', error: {code: 'RATE_LIMITED', message: '', retry_after_ms: 1}};"
            "for (let number = 0; number < 10; number++) last().answer(number, refusal);"
        )
        sent = []
        for answers in range(4):
            # The first goes after a rest, all others with an answer.
            await node.run("await until(() => last().asked.length > 10)")
            sent.append(await node.run("return last().asked.length - 10"))
            await node.run("last().answer(10 + answers, {seq: 1})", answers=answers)
        assert sent == [1, 3, 5, 7], "one in flight, then two, three, four"


async def test_a_reload_during_a_join_loads_again() -> None:
    async with scripted() as node:
        await node.run(
            "globalThis.loads = 0;"
            "globalThis.sub = client.subscribe('orders', {load: async () => ++loads});"
            "globalThis.reloaded = sub.reload();"
            "globalThis.answered = 0;"
            "globalThis.answering = setInterval(() => {"
            "  while (answered < last().asked.length) last().answer(answered++, {epoch: 'e', seq: 0, recovered: true});"
            "}, 1)"
        )
        assert await node.run("return await reloaded") == 2
        assert await node.run("clearInterval(answering); return last().asked.map(({type}) => type)") == [
            "subscribe", "unsubscribe", "subscribe",
        ] * 2  # fmt: skip


async def test_no_more_events_are_held_back_than_the_limit_says() -> None:
    """All others are fetched: of 25 events, 4 are in the queue, and the rest is read in pages of 4."""
    async with scripted(maxIncoming=4) as node:
        await node.run(
            "globalThis.sub = client.subscribe('orders'); await until(() => last().asked.length);"
            "last().answer(0, {epoch: 'e', seq: 0}); await sub.ready;"
            "globalThis.event = (seq) => ({topic: 'orders', seq, message: {id: `${seq}`, payload: seq}, ts: ''});"
            "for (let seq = 1; seq <= 25; seq++) last().tell({type: 'event', ...event(seq)});"
            "globalThis.items = []; (async () => { for await (const {payload} of sub) items.push(payload); })();"
            "globalThis.pages = [];"
            "for (let number = 1; items.length < 25; number++) {"
            "  await until(() => last().asked.length > number || items.length === 25);"
            "  if (items.length === 25) break;"
            "  const {after, limit} = last().asked[number];"
            "  pages.push([after, limit]);"
            "  const messages = [1, 2, 3, 4].map((each) => after + each).filter((seq) => seq <= 25).map(event);"
            "  last().answer(number, {type: 'history', epoch: 'e', complete: true, messages});"
            "  await new Promise((resolve) => setTimeout(resolve));"
            "}"
        )
        assert await node.run("return items") == list(range(1, 26))
        assert await node.run("return pages") == [[after, 4] for after in (4, 8, 12, 16, 20, 24)]


async def test_no_more_ids_of_its_own_are_kept_than_the_limit_says() -> None:
    async with scripted(maxOutgoing=5) as node:
        await node.run(
            "globalThis.own = client.options.own;"
            "for (let number = 0; number < 10_004; number++) own.add(number);"
            "client.publish('orders', 1).catch(() => {})"
        )
        assert await node.run("return [own.size, own.has(0)]") == [10_005, True]
        await node.run("client.publish('orders', 2, {id: 'newest'}).catch(() => {})")
        assert await node.run("return [own.size, own.has(0), own.has(1), own.has('newest')]") == [
            10_005, False, True, True,
        ]  # fmt: skip
