// The JavaScript clients of the soak. Orders come on standard input, everything that happens goes to standard output,
// one line of JSON each. It must never judge: clients_node.py does.
//
// Usage: node clients.mjs MODULE URL SECRET RATE
import { createHmac, randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import { createInterface } from "node:readline";

const [module, url, secret, rate] = process.argv.slice(2);
const { Client } = await import(module);
const TOKEN_SEC = 20;
const IN_FLIGHT = 20;
const descriptors = () => readdirSync("/proc/self/fd").length;
const OWN = ["PipeWrap", "TTYWrap", "FSReqCallback", "Timeout"]; // of this program: standard input and output, a pause
const resources = () => process.getActiveResourcesInfo().filter((each) => !OWN.includes(each));
const tell = (told) => process.stdout.write(JSON.stringify(told) + "\n");
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const choice = (values) => values[Math.floor(Math.random() * values.length)];

let publishing = true;
let reading = true;
let topics = [];

function token(clientId) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = {
    sub: clientId,
    exp: Math.floor(Date.now() / 1000) + TOKEN_SEC,
    pubsub: { subscribe: [">"], publish: [">"], admin: false },
  };
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

function open(clientId, options = {}) {
  return new Client(url, { clientId, token: async () => token(clientId), heartbeat: 2, connectTimeout: null, ...options });
}

function take(client, item, position) {
  if (item.type === "gap") {
    const { topic, epoch, reason, fromSeq, toSeq, count } = item;
    tell({ kind: "gap", client, topic, epoch, reason, first: fromSeq, last: toSeq, count });
  } else {
    const { topic, epoch, seq, id, payload } = item;
    tell({ kind: "event", client, topic, epoch, seq, id, of: payload?.kind });
  }
  if (Math.random() < 0.1) tell({ kind: "position", client, position });
}

// Subscribers

async function read(client, topic, options = {}, slow = 0, how = {}) {
  const connection = open(client, how);
  const events = connection.subscribe(topic, options);
  await events.ready;
  tell({ kind: "ready", client, position: events.position });
  (async () => {
    while (reading) await pause(50);
    events.close();
  })();
  for await (const item of events) {
    take(client, item, events.position);
    if (slow) await pause(slow);
  }
  await connection.close();
}

// A subscriber that reads for a while, exports its position, and goes on from it with a new client.
async function wander(client, topic) {
  let resume;
  while (reading) {
    const connection = open(client);
    const events = connection.subscribe(topic, resume ? { resume } : {});
    await events.ready;
    if (!resume) tell({ kind: "ready", client, position: events.position });
    const timer = setTimeout(() => events.close(), Math.random() * 4000);
    for await (const item of events) take(client, item, events.position);
    clearTimeout(timer);
    resume = JSON.parse(JSON.stringify(events.position));
    tell({ kind: "position", client, position: resume });
    await connection.close();
  }
}

// Publishers

async function publish(client) {
  const connection = open(client);
  const inFlight = new Set();
  while (publishing) {
    await pause((-Math.log(1 - Math.random()) * 1000) / Number(rate));
    if (inFlight.size < IN_FLIGHT && topics.length) {
      const done = publishOne(connection).finally(() => inFlight.delete(done));
      inFlight.add(done);
    }
  }
  await Promise.all(inFlight);
  await connection.close();
}

async function publishOne(connection) {
  const topic = choice(topics);
  const payload = () => ({ kind: choice([0, 1, 2]), padding: "x".repeat(choice([10, 10, 500])) });
  const count = choice([0, 0, 0, 10]);
  tell({ kind: "call", count: count || 1 });
  try {
    const done = count
      ? await connection.publishMany(topic, Array.from({ length: count }, payload))
      : [await connection.publish(topic, payload(), { id: randomUUID() })];
    for (const { id, seq, duplicate } of done) tell({ kind: "acked", topic, id, seq, duplicate: Boolean(duplicate) });
  } catch (error) {
    tell({ kind: "failed", name: error.name, text: error.message, count: count || 1 });
  }
}

// The first client makes node open what it keeps for all of them.
async function warmUp() {
  const connection = open("js-first");
  await connection.history("durable.long", { lastN: 1 });
  await connection.close();
  await pause(500);
  before = descriptors();
}

// The run

process.on("unhandledRejection", (error) => tell({ kind: "broken", text: `unhandled: ${error?.stack ?? error}` }));
const orders = createInterface({ input: process.stdin });
let publishers = [];
let readers = [];
let before = 0;

async function obey(order) {
  if (order.do === "arrive") {
    await warmUp();
    topics = order.topics;
    readers = [
      read("js-all", ">"),
      read("js-durable", "durable.*"),
      read("js-one", "durable.short"),
      read("js-some", "durable.*", order.some),
      read("js-slow", "durable.long", {}, 20, { maxIncoming: 10 }),
      read("js-stream", "durable.*", {}, 0, { WebSocket: null }), // Server-Sent Events
      wander("js-wanderer", ">"),
    ];
    publishers = [publish("js-publisher-0"), publish("js-publisher-1")];
  } else if (order.do === "pause") {
    publishing = false;
    await Promise.all(publishers);
    tell({ kind: "paused" });
  } else if (order.do === "leave") {
    reading = false;
    await Promise.all(readers);
    for (let tries = 0; tries < 60 && (descriptors() > before || resources().length); tries++) await pause(100);
    tell({ kind: "left", descriptors: Math.max(0, descriptors() - before), resources: resources() });
    orders.close();
    process.stdin.destroy();
  }
}

orders.on("line", (line) => {
  obey(JSON.parse(line)).catch((error) => tell({ kind: "broken", text: String(error?.stack ?? error) }));
});
