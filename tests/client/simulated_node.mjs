// The JavaScript client in a simulated world: its sockets, its clock and its chance are those of a test in Python,
// which sends orders on standard input. Each order is answered by one line: the list of what happened.
//
// Usage: node simulated_node.mjs MODULE
import { createInterface } from "node:readline";

const turn = setImmediate;
const write = process.stdout.write.bind(process.stdout);
let happened = [];
const tell = (...told) => happened.push(told);

// The clock

let now = 0;
let timers = new Map();
let numbers = 0;
const later = (callback, delay = 0, period, values) => {
  timers.set(++numbers, { at: now + Math.max(0, delay), callback, period, values });
  return numbers;
};
globalThis.setTimeout = (callback, delay, ...values) => later(callback, delay, undefined, values);
globalThis.setInterval = (callback, delay, ...values) => later(callback, delay, Math.max(1, delay), values);
globalThis.clearTimeout = globalThis.clearInterval = (number) => timers.delete(number);
Date.now = () => now;
performance.now = () => now;

const settle = () => new Promise((resolve) => turn(resolve));

async function passTo(moment) {
  for (;;) {
    const due = [...timers].filter(([, timer]) => timer.at <= moment).sort(([a, x], [b, y]) => x.at - y.at || a - b)[0];
    if (!due) break;
    const [number, timer] = due;
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
crypto.randomUUID = undefined;

// The network

const sockets = new Map();
class Socket {
  readyState = 0;
  constructor(url) {
    this.number = ++numbers;
    sockets.set(this.number, this);
    const query = new URL(url).searchParams;
    tell("connect", this.number, query.get("client_id"), query.get("token"));
  }
  send(text) {
    if (this.readyState === 0) throw new Error("InvalidStateError: the socket is not open yet");
    if (this.readyState === 1) tell("send", this.number, text);
  }
  close(code = 1000) {
    if (this.readyState < 2) tell("close", this.number, code);
    this.readyState = 2;
  }
}
let reachable = true;
globalThis.fetch = async () => {
  if (!reachable) throw new TypeError("fetch failed");
  return { ok: true, status: 200, headers: new Map(), json: async () => ({}) };
};
AbortSignal.timeout = () => new AbortController().signal;
globalThis.console.error = (...told) => tell("logged", told.map((each) => String(each?.stack ?? each)).join(" "));
process.on("unhandledRejection", (error) => tell("broken", `unhandled: ${error?.stack ?? error}`));
process.on("uncaughtException", (error) => tell("broken", `uncaught: ${error?.stack ?? error}`));

const { Client, Gap } = await import(process.argv[2]);

// The user

let client;
let subscriptions = new Map();
let tokens = 0;

const isGap = (item) => (typeof Gap === "function" ? item instanceof Gap : item.type === "gap");

function take(number) {
  const each = subscriptions.get(number);
  if (!each || each.waits) return;
  each.waits = true;
  each.events.next().then(
    ({ value, done }) => {
      each.waits = false;
      if (done) tell("ended", number);
      else if (isGap(value)) tell("gap", number, value, each.events.position);
      else tell("event", number, value, each.events.position);
    },
    (error) => {
      each.waits = false;
      tell("failed", number, error.name, error.message);
    },
  );
}

const orders = {
  async start({ seed, options, guarded }) {
    state = seed >>> 0;
    const token = async () => {
      tokens++;
      return `${options.clientId}/${now / 1000 + 15}`;
    };
    client = new Client("http://server", { ...options, WebSocket: Socket, ...(guarded && { token }) });
  },
  async tick({ up }) {
    reachable = up;
  },
  async opened({ socket }) {
    const each = sockets.get(socket);
    if (each.readyState) return;
    each.readyState = 1;
    each.onopen?.({});
  },
  async text({ socket, texts }) {
    for (const data of texts) {
      if (sockets.get(socket).readyState === 1) sockets.get(socket).onmessage?.({ data });
      await settle();
    }
  },
  async closed({ socket, code, reason }) {
    const each = sockets.get(socket);
    each.readyState = 3;
    sockets.delete(socket);
    each.onclose?.({ code, reason, wasClean: code !== 1006 });
  },
  async subscribe({ number, topic, options }) {
    const events = client.subscribe(topic, options);
    subscriptions.set(number, { events, waits: false });
    events.ready.then(() => tell("begun", number, events.position), () => {});
  },
  async take({ number }) {
    take(number);
  },
  async unsubscribe({ number }) {
    subscriptions.get(number)?.events.close();
    subscriptions.delete(number);
  },
  async publish({ number, topic, payload, options }) {
    client.publish(topic, payload, options).then(
      ({ seq, duplicate }) => tell("published", number, seq, Boolean(duplicate)),
      (error) => tell("refused", number, error.name, error.message),
    );
  },
  async close() {
    await client.close();
    subscriptions.clear();
  },
  async leftovers() {
    for (const each of timers.values()) tell("left", String(each.callback));
    timers = new Map();
    sockets.clear();
    subscriptions = new Map();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { at, order, ...fields } = JSON.parse(line);
  await passTo(at);
  await orders[order](fields);
  await settle();
  write(JSON.stringify(happened) + "\n");
  happened = [];
}
