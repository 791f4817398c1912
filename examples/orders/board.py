"""An order board: the orders are in SQLite, and each change is published, also after a crash between the two."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from pubsub.client import AnswerTimeout, Client

SERVER = os.environ.get("PUBSUB_URL", "http://localhost:8080")
PAGES = Path(__file__).parents[1]

db = sqlite3.connect(os.environ.get("ORDERS_DB", "orders.db"))
db.row_factory = sqlite3.Row
db.executescript("""
    CREATE TABLE IF NOT EXISTS orders (no INTEGER PRIMARY KEY, what TEXT, step INTEGER, version INTEGER);
    CREATE TABLE IF NOT EXISTS outbox (at INTEGER PRIMARY KEY, id TEXT, payload TEXT);
""")
changed = asyncio.Event()


def change(sql: str, *values: object) -> web.Response:
    """Change an order and put its new state into the outbox, in one transaction: both happen, or neither."""
    with db:
        order = db.execute(f"{sql} RETURNING *", values).fetchone()
        if order is None:
            raise web.HTTPNotFound
        state = json.dumps(dict(order))
        db.execute("INSERT INTO outbox (id, payload) VALUES (?, ?)", (str(uuid.uuid4()), state))
    changed.set()
    return web.Response(text=state, content_type="application/json")


async def publish_changes(_: web.Application) -> AsyncIterator[None]:
    """Publish the outbox while the application runs."""
    task = asyncio.create_task(empty_outbox())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def empty_outbox() -> None:
    """Publish each change, oldest first. After a crash it is published again with its id: the topic has it once."""
    async with Client(SERVER, client_id="order-board", connect_timeout=None) as client:
        while True:
            changed.clear()
            for at, id_, state in db.execute("SELECT * FROM outbox ORDER BY at").fetchall():
                await publish(client, id_, state)
                with db:
                    db.execute("DELETE FROM outbox WHERE at = ?", (at,))
            await changed.wait()


async def publish(client: Client, id_: str, state: str) -> None:
    while True:
        with suppress(AnswerTimeout):  # the server is away: try again, for as long as that takes
            await client.publish("orders", json.loads(state), id=id_)
            return


async def list_orders(_: web.Request) -> web.Response:
    return web.json_response([dict(row) for row in db.execute("SELECT * FROM orders ORDER BY no")])


async def add(request: web.Request) -> web.Response:
    return change("INSERT INTO orders (what, step, version) VALUES (?, 0, 1)", (await request.json())["what"])


async def advance(request: web.Request) -> web.Response:
    no = request.match_info["no"]
    return change("UPDATE orders SET step = step + 1, version = version + 1 WHERE no = ? AND step < 3", no)


app = web.Application()
app.cleanup_ctx.append(publish_changes)
app.router.add_get("/api/orders", list_orders)
app.router.add_post("/api/orders", add)
app.router.add_post("/api/orders/{no}/advance", advance)
app.router.add_static("/", PAGES)

if __name__ == "__main__":
    web.run_app(app, host="localhost", port=int(os.environ.get("PORT", "8001")))
