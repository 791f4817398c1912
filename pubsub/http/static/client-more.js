// What most pages do without: calls over REST, Server-Sent Events if WebSockets are blocked, positions in localStorage.
// client.js loads it when it is needed. It must never decide what a message means.

// Topics in an answer.
const PAGE = 1000;
// In ms.
const SAVED_AFTER = 1000;
const CODES = {
  400: "BAD_REQUEST",
  401: "UNAUTHORIZED",
  403: "FORBIDDEN",
  404: "TOPIC_NOT_FOUND",
  409: "TOPIC_EXISTS",
  413: "TOO_BIG",
  429: "LIMIT_EXCEEDED",
};

export async function history(client, topic, { lastN: last_n, ...query } = {}) {
  const options = { query: { last_n, ...query } };
  const { epoch, messages, complete } = await call(client, "GET", `topics/${topic}/messages`, options);
  return { epoch, complete, events: messages.map((message) => client.eventOf(message, epoch)) };
}

/** Look if a publish with `expectSeq` that was refused the second time had been taken the first time. */
export async function findOwn(client, topic, id, expectSeq, refused) {
  const { events } = await history(client, topic, { after: expectSeq, limit: 1 });
  if (events[0]?.id !== id) throw refused;
  return { topic, id, seq: events[0].seq, duplicate: false };
}

export async function presence(client, topic) {
  const { count, clients } = await call(client, "GET", `topics/${topic}/presence`);
  return { topic, count, clients: clients.map(({ client_id: clientId, connections }) => ({ clientId, connections })) };
}

export async function topics(client, prefix) {
  const found = [];
  for (let after; after !== null; ) {
    const page = await call(client, "GET", "topics", { query: { prefix, after, limit: PAGE } });
    found.push(...page.topics);
    after = page.next;
  }
  return found;
}

export function topic(client, name) {
  return call(client, "GET", `topics/${name}`);
}

export async function createTopic(client, name, options) {
  await call(client, "POST", "topics", { body: { name, ...options } });
}

export async function deleteTopic(client, name) {
  await call(client, "DELETE", `topics/${name}`);
}

export async function purge(client, name) {
  const { messages } = await call(client, "DELETE", `topics/${name}/messages`);
  return messages;
}

async function call(client, method, path, options) {
  if (!client.bearer) await client.token();
  const response = await request(client, method, path, options);
  return response.json().catch((cause) => {
    throw client.refusal({ code: "SERVER_FAULT", message: `${path}: expected JSON`, cause });
  });
}

/** Send a request. The body of the answer is not read yet. */
async function request(client, method, path, { query = {}, body, signal } = {}) {
  const { answerTimeout, apiKey } = client.options;
  const url = new URL(path, client.base);
  for (const [name, value] of Object.entries(query))
    for (const each of [value ?? []].flat())
      url.searchParams.append(name, typeof each === "object" ? JSON.stringify(each) : each);
  const headers = {};
  if (client.bearer) headers.Authorization = `Bearer ${client.bearer}`;
  if (apiKey) headers["X-API-Key"] = apiKey;
  signal ??= AbortSignal.timeout(answerTimeout * 1000);
  const response = await fetch(url, { method, headers, body: JSON.stringify(body), signal }).catch((cause) => {
    throw client.refusal({ code: "UNREACHABLE", message: `${path}: ${cause.message}`, cause });
  });
  if (!response.ok) throw await refusalOf(client, response);
  return response;
}

async function refusalOf(client, response) {
  const { status } = response;
  const wait = response.headers.get("Retry-After");
  const { error: message = `status ${status}`, seq } = await response.json().catch(() => ({}));
  let code = CODES[status] ?? "INTERNAL";
  if (status === 409 && seq !== undefined) code = "CONFLICT";
  if (status === 429 && wait) code = "RATE_LIMITED";
  return client.refusal({ code, message, status, seq, retry_after_ms: wait * 1000 });
}

/** True for an answer to the request. Others come from a server, or a proxy, that does not work now. */
const isRefusal = ({ status }) => status < 502;

/**
 * What a WebSocket does, over HTTP: streams of Server-Sent Events, and a call for each request. It has the handlers of
 * a WebSocket, but `onmessage` gets objects and not text.
 *
 * A stream always begins with what is new: the Subscription fetches what it missed.
 */
export class Streams {
  #client;
  // The requests to subscribe, by topic or pattern.
  #wanted = new Map();
  // The last publish: they go one after another.
  #published = Promise.resolve();
  #reading = new AbortController();
  #restarting;
  #closed = false;

  constructor(client) {
    this.#client = client;
    setTimeout(() => this.onopen());
  }

  close() {
    this.#closed = true;
    this.#reading.abort();
  }

  async send(text) {
    const { type, request_id, ...fields } = JSON.parse(text);
    try {
      const answer = await this[`_${type}`](fields, request_id);
      if (answer) this.onmessage({ data: { ...answer, request_id } });
    } catch (error) {
      const refused = { type: "error", request_id, error: { ...error, message: error.message } };
      if (isRefusal(error)) this.onmessage({ data: refused });
      else this.onclose({ code: 1006, reason: error.message });
    }
  }

  async _subscribe({ topic, filter, params, last_n, client_id }, request_id) {
    // A stream of several names is refused as a whole, so each is tried alone first.
    const query = { filter, params, client_id };
    const wanted = { request_id, group: JSON.stringify({ ...query, last_n }), accepted: false };
    this.#wanted.set(topic, wanted);
    const { body } = await request(this.#client, "GET", `topics/${topic}/events`, { query });
    body.cancel().catch(() => {});
    wanted.accepted = true;
    // The start of the stream is the answer.
    if (this.#wanted.get(topic) === wanted) this.#restart();
  }

  async _unsubscribe({ topic }) {
    if (this.#wanted.get(topic)?.accepted) this.#restart();
    this.#wanted.delete(topic);
    return { type: "ack", status: "ok" };
  }

  async _publish({ topic, message, ...options }) {
    const path = `topics/${topic}/messages`;
    const body = { ...message, ...options };
    const publishing = this.#published.then(() => call(this.#client, "POST", path, { body }));
    // After a failure none of the later ones may be sent: the next connection begins with the one that failed.
    this.#published = publishing.catch((error) => {
      if (!isRefusal(error)) throw error;
    });
    this.#published.catch(() => {});
    return { ...(await publishing), type: "ack" };
  }

  async _history({ topic, after, limit, filter, params }) {
    const query = { after, limit, filter, params };
    return { ...(await call(this.#client, "GET", `topics/${topic}/messages`, { query })), type: "history" };
  }

  async _auth() {
    await this._ping();
    this.#restart();
    return { type: "ack" };
  }

  async _ping() {
    await call(this.#client, "GET", "topics", { query: { limit: 1 } });
    return { type: "pong" };
  }

  /** Begin the streams again: one for all names with the same filter, since a browser has six connections. */
  #restart() {
    clearTimeout(this.#restarting);
    this.#restarting = setTimeout(() => {
      this.#reading.abort();
      if (this.#closed) return;
      this.#reading = new AbortController();
      const groups = {};
      for (const [topic, { group, accepted }] of this.#wanted) if (accepted) (groups[group] ??= []).push(topic);
      for (const group in groups) this.#read({ ...JSON.parse(group), topic: groups[group] }, this.#reading.signal);
    });
  }

  async #read(query, signal) {
    const { answerTimeout, heartbeat } = this.#client.options;
    let watch;
    try {
      watch = this.#expect(answerTimeout);
      const { body } = await request(this.#client, "GET", "events", { query, signal });
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ; ) {
        const { value, done } = await reader.read();
        if (done) throw new Error("the stream ended");
        clearTimeout(watch);
        watch = this.#expect(2 * heartbeat);
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines) this.#take(line);
      }
    } catch (error) {
      if (!signal.aborted) this.onclose({ code: 1006, reason: error.message });
    } finally {
      clearTimeout(watch);
    }
  }

  /** Give up a silent stream: a proxy may keep what it should pass on, or the connection may be dead. */
  #expect(seconds) {
    return setTimeout(() => this.onclose({ code: 1006, reason: "a silent stream" }), seconds * 1000);
  }

  #take(line) {
    // Any other line is a sign of life.
    const data = line.startsWith("data: ") ? JSON.parse(line.slice(6)) : { type: "line" };
    const { request_id } = this.#wanted.get(data.topic) ?? {};
    const started = { ...data, type: "ack", msg: undefined, request_id, again: true };
    this.onmessage({ data: data.msg === "subscribed" ? started : data });
  }
}

/** The positions of a subscription in localStorage, every use of which may throw. */
export class Stored {
  #sub;
  #saving = null;
  #works = true;

  constructor(sub) {
    this.#sub = sub;
    this.#use((key) => sub.resume(JSON.parse(localStorage.getItem(key))));
  }

  /** The position has changed: save it soon. */
  note() {
    this.#saving ??= setTimeout(() => this.save(), SAVED_AFTER);
  }

  save() {
    clearTimeout(this.#saving);
    this.#saving = null;
    if (this.#sub.begun) this.#use((key) => localStorage.setItem(key, JSON.stringify(this.#sub.position)));
  }

  #use(access) {
    const { options, client } = this.#sub;
    try {
      if (this.#works) access(options.persist);
    } catch (cause) {
      this.#works = false;
      const message = `localStorage: ${cause.message}`;
      client.options.onError(client.refusal({ code: "STORAGE_ERROR", message, cause }));
    }
  }
}
