// Measures the JavaScript client: events a second, and CPU for each, with the WebSocket of Node or of the package ws.
//
//     node scripts/bench/javascript_client.mjs [events] [path of ws/wrapper.mjs]
//
// A process of its own sends events that are made beforehand, as fast as the client takes them. It speaks just enough of
// the protocol for one subscription.
import { fork } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { Client } from "../../pubsub/http/static/client.js";

const EVENTS = Number(process.argv[2] ?? 1_000_000);
const CHUNK = 500; // events in a write
const ts = "2025-08-25T10:00:00Z";

function frame(message) {
  const text = Buffer.from(JSON.stringify(message));
  const head = text.length < 126 ? [0x81, text.length] : [0x81, 126, text.length >> 8, text.length & 255];
  return Buffer.concat([Buffer.from(head), text]);
}

function event(seq) {
  const payload = { order_id: `ORD-${seq}`, amount: 99.5, currency: "USD", items: [1, 2, 3] };
  return frame({ type: "event", topic: "orders", message: { id: randomUUID(), payload }, seq, ts });
}

/** Requests are short and come one at a time: one frame in each chunk. */
function requestIn(chunk) {
  const mask = chunk.subarray((chunk[1] & 127) < 126 ? 2 : 4);
  return JSON.parse(Buffer.from(mask.subarray(4).map((byte, i) => byte ^ mask[i & 3])));
}

function feed() {
  const chunks = [];
  for (let seq = 1; seq <= EVENTS; seq += CHUNK)
    chunks.push(Buffer.concat(Array.from({ length: Math.min(CHUNK, EVENTS - seq + 1) }, (_, i) => event(seq + i))));
  const send = (socket) => {
    for (let room = true; room && chunks.length; ) room = socket.write(chunks.shift());
  };
  const server = createServer().listen(0, "127.0.0.1", () => process.send(server.address().port));
  server.on("upgrade", (request, socket) => {
    const key = createHash("sha1").update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`);
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${key.digest("base64")}\r\n\r\n`);
    socket.on("data", (chunk) => {
      if ((chunk[0] & 15) !== 1) return;
      const { type, request_id } = requestIn(chunk);
      if (type === "ping") socket.write(frame({ type: "pong", request_id, ts }));
      if (type !== "subscribe") return;
      socket.write(frame({ type: "ack", request_id, topic: "orders", status: "ok", epoch: "e", seq: 0, ts }));
      send(socket);
    });
    socket.on("drain", () => send(socket));
    socket.on("error", () => {});
  });
}

async function measure() {
  const child = fork(import.meta.filename ?? process.argv[1], process.argv.slice(2), { env: { ...process.env, FEED: "1" } });
  const port = await new Promise((resolve) => child.once("message", resolve));
  const options = {};
  if (process.argv[3]) options.WebSocket = (await import(process.argv[3])).WebSocket;
  const client = new Client(`http://127.0.0.1:${port}`, options);
  const events = client.subscribe("orders");
  await events.next();
  const started = process.hrtime.bigint(), used = process.cpuUsage();
  for (let count = 1; count < EVENTS; count++) await events.next();
  const seconds = Number(process.hrtime.bigint() - started) / 1e9, { user, system } = process.cpuUsage(used);
  console.log(`${Math.round(EVENTS / seconds).toLocaleString("en")} events/s, ${((user + system) / EVENTS).toFixed(2)} µs of CPU for each`);
  client.close();
  child.kill();
}

process.env.FEED ? feed() : await measure();
