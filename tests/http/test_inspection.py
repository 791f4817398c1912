"""``/admin/settings``, ``/admin/storage``, ``/admin/token`` and ``/admin/overview``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pubsub.settings_shown import MASK, shown
from tests.credentials import API_KEYS, SECRET, make_token
from tests.harness import Server, on_one_loop, run_server

ADMIN = {"X-API-Key": "ops-key"}
BOARD = {"X-API-Key": "board-key"}


async def ask(server: Server, token: str, topic: str = "") -> dict[str, Any]:
    body = {"token": token, "topic": topic}
    async with server.http.post("/admin/token", json=body, headers=ADMIN) as response:
        assert response.status == 200, await response.text()
        found: dict[str, Any] = await response.json()
        return found


@on_one_loop
async def test_secrets_are_masked() -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        async with server.http.get("/admin/settings", headers=BOARD) as response:
            text = await response.text()
        assert SECRET not in text
        assert "ops-key" not in text
        rows = {row["name"]: row for row in json.loads(text)["settings"]}
        assert rows["API_KEYS"]["value"] == rows["JWT_SECRET"]["value"] == MASK
        assert rows["API_KEYS"]["masked"]
        assert rows["API_KEYS"]["live"]
        assert (rows["PORT"]["default"], rows["PORT"]["masked"], rows["PORT"]["live"]) == (8080, False, False)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://app:se@cret@one,two/0", f"redis://{MASK}@one,two/0"),
        (
            "redis+sentinel://one/x?sentinel_password=secret&prefix=p",
            f"redis+sentinel://one/x?sentinel_password={MASK}&prefix=p",
        ),
        ("redis://one/0?ca=/etc/a@b.pem", "redis://one/0?ca=/etc/a@b.pem"),
    ],
)
def test_the_passwords_in_a_url_are_masked(url: str, expected: str) -> None:
    assert shown("journal_url", url) == expected


@on_one_loop
async def test_storage_without_and_with_a_journal(tmp_path: Path) -> None:
    async with run_server(data_dir=str(tmp_path)) as server:
        await server.create("plain")
        empty = await server.get("/admin/storage")
        assert (empty["memory_topics"], empty["durable_topics"]) == (1, 0)
        assert (empty["files"], empty["free_bytes"], empty["commits"]) == ({}, None, None)
        await server.create("orders", durable=True)
        async with server.http.post("/topics/orders/messages", json={"payload": 1}) as response:
            assert response.status == 200
        found = await server.get("/admin/storage")
        assert (found["memory_topics"], found["durable_topics"], found["failure"]) == (1, 1, "")
        assert found["commits"]["count"] >= 1
        assert 0 < found["commits"]["p50_ms"] <= found["commits"]["p99_ms"]
        assert sum(found["files"].values()) > 0
        assert found["free_bytes"] > 0


@on_one_loop
async def test_a_token_tells_its_rights_and_why() -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        token = make_token("alice", subscribe=["orders.*"], publish=["orders.eu"])
        found = await ask(server, f" {token}\n", "orders.us")
        assert (found["accepted"], found["client_id"], found["admin"]) == (True, "alice", False)
        assert (found["subscribe"], found["publish"]) == (["orders.*"], ["orders.eu"])
        assert 0 < found["expires_in_sec"] <= 36_000
        assert found["rights"] == {
            "topic": "orders.us", "subscribe": True, "publish": False, "filters": [],
            "because": "It may subscribe by its right orders.*. "
                       "It may not publish: none of its rights to publish covers the topic.",
        }  # fmt: skip
        assert (await ask(server, make_token("bob"), "a"))["rights"]["because"].count("has no right") == 2
        assert (await ask(server, token))["rights"] is None


@on_one_loop
async def test_a_token_tells_its_filters() -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        found = await ask(server, make_token(subscribe=["a"], filters={"a": "payload.x == 1"}), "a")
        assert found["filters"] == {"a": "payload.x == 1"}
        assert found["rights"]["filters"] == ["payload.x == 1"]


@on_one_loop
async def test_a_token_that_is_not_accepted_tells_why() -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        for token, reason in {"x": "not a JWT", make_token(exp=1): "expired", make_token(exp=None): "exp"}.items():
            found = await ask(server, token)
            assert not found["accepted"]
            assert reason in found["reason"]
        async with server.http.get("/topics", headers=ADMIN) as response:
            assert response.status == 200, "it counts as no failed attempt"
    async with run_server(api_keys=API_KEYS) as server:
        assert "no JWT key" in (await ask(server, "x"))["reason"]


@pytest.mark.parametrize("body", ["", "{}", '{"token":1}', '{"token":"x","topic":7}', "[]"])
@on_one_loop
async def test_a_test_that_is_not_valid(body: str) -> None:
    async with run_server(jwt_secret=SECRET) as server, server.http.post("/admin/token", data=body) as response:
        assert response.status == 400


@on_one_loop
async def test_a_topic_that_is_not_valid() -> None:
    async with run_server(jwt_secret=SECRET) as server:
        body = {"token": make_token(subscribe=["a"]), "topic": "a..b"}
        async with server.http.post("/admin/token", json=body) as response:
            assert response.status == 400


@on_one_loop
async def test_the_overview_tells_rights() -> None:
    async with run_server(api_keys=API_KEYS) as server:
        for key, may in {"ops": (True, True), "shop": (True, False), "board": (False, False)}.items():
            async with server.http.get("/admin/overview", headers={"X-API-Key": f"{key}-key"}) as response:
                found = (await response.json())["may"]
            assert (found["publish"], found["change"]) == may


@on_one_loop
async def test_the_overview_tells_the_state() -> None:
    async with run_server() as server, server.client("alice") as alice:
        await server.create("orders")
        await alice.subscribe("orders", client_id="alice")
        found = await server.get("/admin/overview")
        assert (found["state"], found["topics"], found["subscribers"], found["connections"]) == ("ok", 1, 1, 1)
        assert {len(each) for each in found["series"].values()} == {1}
