"""The npm package: it is packed, installed from the tarball, imported, and its types say what the client does."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from pubsub.http.static_files import FOLDER
from tests.harness import REPOSITORY, on_one_loop, run_server
from tests.javascript.node import NODE

NPM = NODE.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
# `make test` installs it from package-lock.json.
TSC = REPOSITORY / ".venv/npm/node_modules/typescript/lib/tsc.js"
SETTINGS = {
    "compilerOptions": {
        "strict": True, "exactOptionalPropertyTypes": True, "noEmit": True, "skipLibCheck": False, "types": [],
        "module": "nodenext", "target": "es2022", "lib": ["es2022", "dom"],
    },
    "files": ["use.mts"],
}  # fmt: skip
# Each line below a "@ts-expect-error" must be wrong.
USE = """
import { Client, PubsubError, type Event, type Gap, type Notice, type Positions } from "pubsub-client";

interface Order { amount: number }

const typed = new Client<{ orders: Order }>("http://h", {
    token: async () => "t",
    onState: ({ state, error }) => { const known: "connecting" | "open" | "closed" = state; error?.message; },
});
for await (const item of typed.subscribe("orders", { lastN: 5 })) {
    if (item.type === "event") item.payload.amount.toFixed();
    else { const gap: Gap = item; }
}
// @ts-expect-error
typed.publish("orders", { amout: 1 });
await typed.publishMany("orders", [{ amount: 1 }]);
typed.publish("others", "anything");

const plain = new Client();
for await (const item of plain.subscribe<Order>("orders", { notices: true })) {
    if (item.type === "event") item.payload.amount.toFixed();
    else if (item.type === "notice") { const notice: Notice = item; }
}
for await (const item of plain.subscribe("orders"))
    // @ts-expect-error
    if (item.type === "event") item.payload.amount;
plain.subscribe<Order>("orders", {}, (item) => item.type === "event" && item.payload.amount);
// @ts-expect-error
plain.subscribe<Order>("orders", {}, (item) => item.kind);
// @ts-expect-error
plain.subscribe("orders", { lastn: 1 });
// @ts-expect-error
plain.subscribe("orders").position = {};

const loaded = typed.subscribe("orders", { load: async () => [1, 2] });
await loaded.ready;
const state: number[] = loaded.state, position: Positions = loaded.position;
try {
    await plain.publish("orders", null, { expectSeq: 3 });
} catch (error) {
    if (error instanceof PubsubError && error.name === "Conflict") error.seq?.toFixed();
    // @ts-expect-error
    if (error instanceof PubsubError && error.name === "Conflit") throw error;
}
const events: Event<Order>[] = (await plain.history<Order>("orders", { lastN: 3 })).events;
await plain.createTopic("orders", { durable: true, history: 3 });
const { clients: [first] } = await plain.presence("orders");
first?.clientId.length;
plain.close();
"""
IMPORT = """
import { Client } from "pubsub-client";
const client = new Client(process.argv[2]);
const { seq } = await client.publish("orders", 1);
console.log(seq, (await client.history("orders", { lastN: 1 })).events[0].payload);
client.close();
"""


def run(*command: Path | str, cwd: Path) -> str:
    done = subprocess.run(
        [NODE, *command], cwd=cwd, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project that has installed the package from its tarball."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"type": "module"}')
    (packed,) = json.loads(run(NPM, "pack", "--json", FOLDER, cwd=folder))
    assert {each["path"] for each in packed["files"]} == {
        "README.md", "client-more.js", "client.d.ts", "client.js", "package.json",
    }  # fmt: skip
    run(NPM, "install", "--offline", "--no-audit", "--no-fund", folder / packed["filename"], cwd=folder)
    return folder


@on_one_loop
async def test_the_installed_package_is_imported(project: Path) -> None:
    (project / "use.mjs").write_text(IMPORT)
    async with run_server() as server:
        await server.create("orders")
        assert await asyncio.to_thread(run, "use.mjs", server.url, cwd=project) == "1 1\n"


def test_the_types_say_what_the_client_does(project: Path) -> None:
    if not TSC.exists():
        assert os.environ.get("CI") != "true", "needs TypeScript: make test installs it"
        pytest.skip("needs TypeScript: make test installs it")
    (project / "use.mts").write_text(USE)
    (project / "tsconfig.json").write_text(json.dumps(SETTINGS))
    run(TSC, "--project", ".", cwd=project)
