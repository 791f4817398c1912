// JavaScript clients in a simulated world: their sockets, their clock and their chance are those of a test in Python,
// which sends orders on standard input. Each order is answered by one line: the list of what happened.
//
// Usage: node simulated_node.mjs FOLDER
import { createInterface } from "node:readline";

const turn = setImmediate;
const write = process.stdout.write.bind(process.stdout);
let happened = [];
const tell = (...told) => happened.push(told);
const settle = () => new Promise((resolve) => turn(resolve));

// The clock

const BEGIN = 1_700_000_000_000; // the world's time 0, in ms
let now = BEGIN;
let numbers = 0;
const timers = new Map();
function later(callback, delay = 0, period, values) {
  timers.set(++numbers, { at: now + Math.max(0, delay), callback, period, values });
  return numbers;
}
globalThis.setTimeout = (callback, delay, ...values) => later(callback, delay, undefined, values);
globalThis.setInterval = (callback, delay, ...values) => later(callback, delay, Math.max(1, delay), values);
globalThis.clearTimeout = globalThis.clearInterval = (number) => timers.delete(number);
Date.now = performance.now = () => now;

async function passTo(moment) {
  for (;;) {
    let first;
    for (const [number, timer] of timers) if (timer.at <= moment && !(timer.at >= first?.timer.at)) first = { number, timer };
    if (!first) break;
    const { number, timer } = first;
    now = Math.max(now, timer.at);
    if (timer.period) timer.at += timer.period;
    else timers.delete(number);
    timer.callback(...timer.values);
    await settle();
  }
  now = Math.max(now, moment);
}

// Chance

let state = 1;
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}
Math.random = random;
crypto.getRandomValues = (bytes) => bytes.map(() => Math.floor(random() * 256));

// The network

const sockets = new Map();
const socketOf = (client) =>
  class {
    readyState = 0;
    constructor(url) {
      this.number = ++numbers;
      sockets.set(this.number, this);
      tell("connect", client, this.number, new URL(url).searchParams.get("client_id"));
    }
    send(text) {
      if (this.readyState === 0) throw new Error("InvalidStateError: the socket is not open yet");
      if (this.readyState === 1) tell("send", client, this.number, text);
    }
    close() {
      if (this.readyState < 2) tell("close", client, this.number);
      this.readyState = 3;
      sockets.delete(this.number);
    }
  };
let reachable = true;
globalThis.fetch = async () => {
  if (!reachable) throw new TypeError("fetch failed");
  return { ok: true, status: 200 };
};
globalThis.console.error = (...told) => tell("broken", told.map((each) => String(each?.stack ?? each)).join(" "));
process.on("unhandledRejection", (error) => tell("broken", `unhandled: ${error?.stack ?? error}`));
process.on("uncaughtException", (error) => tell("broken", `uncaught: ${error?.stack ?? error}`));

const { Client } = await import(`${process.argv[2]}/client.js`);
await import(`${process.argv[2]}/client-more.js`); // so that a later import takes no time

// The user

const clients = new Map();
const subscriptions = new Map();

function take(client, number) {
  const each = subscriptions.get(`${client}/${number}`);
  if (!each || each.waits) return;
  each.waits = true;
  each.events.next().then(
    ({ value, done }) => {
      each.waits = false;
      if (!done) tell(value.type, client, number, value, each.events.position);
    },
    (error) => {
      each.waits = false;
      tell("failed", client, number, error.name, error.message);
    },
  );
}

const orders = {
  start({ client, options, guarded }) {
    const token = async () => `${options.clientId}/${(now - BEGIN) / 1000 + 15}`;
    clients.set(client, new Client("http://server", { ...options, WebSocket: socketOf(client), ...(guarded && { token }) }));
  },
  tick() {},
  opened({ socket }) {
    const each = sockets.get(socket);
    if (!each) return;
    each.readyState = 1;
    each.onopen?.({});
  },
  text({ socket, text }) {
    sockets.get(socket)?.onmessage?.({ data: text });
  },
  closed({ socket, code, reason }) {
    const each = sockets.get(socket);
    if (!each) return;
    each.readyState = 3;
    sockets.delete(socket);
    if (code === 1006) each.onerror?.({});
    each.onclose?.({ code, reason, wasClean: code !== 1006 });
  },
  subscribe({ client, number, topic, options }) {
    const events = clients.get(client).subscribe(topic, options);
    subscriptions.set(`${client}/${number}`, { events, waits: false });
    events.ready.then(() => tell("begun", client, number, events.position), () => {});
  },
  take({ client, number }) {
    take(client, number);
  },
  unsubscribe({ client, number }) {
    subscriptions.get(`${client}/${number}`)?.events.close();
    subscriptions.delete(`${client}/${number}`);
  },
  publish({ client, number, topic, payload, options }) {
    clients.get(client).publish(topic, payload, options).then(
      ({ seq, duplicate }) => tell("published", client, number, seq, Boolean(duplicate)),
      (error) => tell("refused", client, number, error.name),
    );
  },
  close({ client }) {
    clients.get(client).close();
    clients.delete(client);
  },
  begin() {
    for (const each of [timers, sockets, clients, subscriptions]) each.clear();
    now = BEGIN;
    happened = [];
  },
  end() {
    for (const { callback } of timers.values()) tell("broken", `a timer is left: ${callback}`);
    for (const socket of sockets.keys()) tell("broken", `socket ${socket} is left`);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { order, at, up, seed, ...fields } = JSON.parse(line);
  reachable = up;
  if (seed !== undefined) state = seed >>> 0;
  if (order !== "begin") await passTo(BEGIN + at * 1000);
  orders[order](fields);
  await settle();
  write(JSON.stringify(happened) + "\n");
  happened = [];
}
