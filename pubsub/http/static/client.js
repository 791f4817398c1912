// The JavaScript client for browsers and Node 20; client.d.ts explains it. client-http.js is loaded when it is needed.
// It must never lose a message, or hand one over twice, without telling.

export class PubsubError extends Error {
  constructor(name, message, fields) {
    super(message);
    Object.assign(this, { name }, fields);
  }
}

const unreachable = (message) => new PubsubError("Unreachable", message);
const digit = () => (crypto.getRandomValues(new Uint8Array(1))[0] & 15).toString(16);
const uuid = () => crypto.randomUUID?.() ?? "........-....-4...-a...-............".replace(/\./g, digit); // it exists over https only

/** True if two names or patterns, as lists of segments, may have a topic in common. */
const overlap = ([a, ...x], [b, ...y]) =>
  a && b ? a === ">" || b === ">" || ((a === b || a === "*" || b === "*") && overlap(x, y)) : a === b;

function claimsOf(token) {
  try {
    const text = atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt())));
  } catch {
    return {};
  }
}

export class Client {
  state = "connecting";
  #subs = new Set(); // no two of them overlap
  #routes = new Map(); // the subscription of each topic that has come
  #requests = new Map(); // those without an answer, in order
  #count = 0;
  #window = Infinity; // how many requests may wait for their answers
  #limited = 0; // the time at which the server takes requests again
  #publishes = 0;
  #waiting = []; // publishes beyond maxOutgoing
  #bound = 100; // of the next pause, in ms
  #blocked = 0; // failures of WebSockets, one after another, while the server was there
  #next; // for subscriptions that overlap with those here
  #end = new AbortController();

  constructor(url = "/", options) {
    const { protocol, origin, pathname } = new URL(url, globalThis.location?.href), { WebSocket } = globalThis;
    if (!/^(http|ws)s?:/.test(protocol)) throw new TypeError(`url: expected http(s) or ws(s), got ${url}`);
    this.base = origin.replace(/^ws/, "http") + pathname.replace(/(\/ws|\/)?$/, "/");
    this.options = { answerTimeout: 10, heartbeat: 30, maxOutgoing: 1000, maxIncoming: 1000, own: new Set(), name: `client-${uuid().slice(24)}`, WebSocket, onError: console.error, ...options };
    const period = this.options.heartbeat * 250;
    let last = Date.now();
    this.beat = setInterval(() => {
      this.#check(Math.abs(Date.now() - last - period) > 5000); // the machine slept, or its clock was set
      last = Date.now();
    }, period);
    for (const type of ["online", "offline", "pageshow", "pagehide", "visibilitychange"])
      globalThis.addEventListener?.(type, () => this.#notice(type), this.#end);
    this.#connect();
  }

  get clientId() {
    return this.options.clientId ?? claimsOf(this.bearer).sub ?? this.options.name;
  }

  async publish(topic, payload, { id = uuid(), ttlSec, expectSeq } = {}) {
    const { maxOutgoing, whenFull, own } = this.options, entry = { keep: true };
    if (this.#publishes < maxOutgoing) this.#publishes++;
    else if (whenFull === "raise") throw new PubsubError("OutgoingFull", `${maxOutgoing} publishes wait for answers`);
    else await new Promise((resolve) => this.#waiting.push(resolve));
    own.add(id);
    if (own.size > 10_000 + maxOutgoing) own.delete(own.keys().next().value);
    try {
      const { seq, duplicate = false } = await this.ask({ type: "publish", topic, message: { id, payload }, ttl_sec: ttlSec, expect_seq: expectSeq }, entry);
      return { topic, id, seq, duplicate };
    } catch (error) {
      if (error.name !== "Conflict" || entry.sends < 2) throw error;
      return this.findOwn(topic, id, expectSeq, error); // the answer to the first try may be lost
    } finally {
      const next = this.#waiting.shift();
      next ? next() : this.#publishes--;
    }
  }

  publishMany(topic, payloads, options) {
    return Promise.all(Array.from(payloads, (payload) => this.publish(topic, payload, options)));
  }

  /** A message comes once over a connection, whatever asked for it: a subscription that overlaps goes to the next one. */
  subscribe(topic, options, callback) {
    if (!this.error && this.#route(topic)) {
      if (!this.#next || this.#next.error) this.#next = new Client(this.base, { ...this.options, clientId: this.clientId, onState: null, parent: this });
      return this.#next.subscribe(topic, options, callback);
    }
    const sub = new Subscription(this, topic, options, callback);
    sub.onend = () => {
      this.#subs.delete(sub);
      this.#routes.clear();
      if (sub.live) this.ask({ type: "unsubscribe", topic, client_id: this.clientId }).catch(() => {});
      this.#rest();
    };
    this.#subs.add(sub);
    if (this.error) sub.end(this.error);
    else if (this.open) sub.join();
    return sub;
  }

  #rest() {
    const { parent } = this.options;
    if (!parent || this.error || this.#subs.size || (this.#next && !this.#next.error)) return;
    this.close();
    parent.#rest();
  }

  #route(topic) {
    let sub = this.#routes.get(topic);
    if (!sub) for (const each of this.#subs) if (overlap(each.topic.split("."), topic.split("."))) this.#routes.set(topic, (sub = each));
    return sub;
  }

  close() {
    this.#fail(new PubsubError("Disconnected", "this client was closed"));
  }

  // The connection

  async #connect() {
    const { answerTimeout, WebSocket } = this.options;
    const current = (use) => (event) => this.socket === socket && use(event);
    let late = new PubsubError("TokenError", "no token in time"), socket = (this.socket = { close() {} });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#lost(late), answerTimeout * 1000);
    this.hint = "";
    try {
      const token = await this.token();
      late = unreachable("no answer in time");
      if (this.failed) this.#blocked = (await fetch(`${this.base}health`).catch(() => late)).ok ? this.#blocked + 1 : 0;
      this.streams = !WebSocket || this.#blocked > 1;
      const { Streams } = this.streams && (await import("./client-http.js"));
      if (this.socket !== socket) return;
      socket = this.socket = Streams ? new Streams(this) : new WebSocket(`${this.base.replace("http", "ws")}ws?client_id=${encodeURIComponent(this.clientId)}`);
      socket.onmessage = current(({ data }) => this.#receive(data));
      socket.onclose = current(({ code, reason }) => this.#closed(code, reason));
      socket.onerror = ({ message }) => (this.hint = message);
      await new Promise((resolve) => (socket.onopen = resolve));
      await this.ask(token ? { type: "auth", token } : { type: "ping" }, { first: true }).catch((error) => {
        if (!/BadR|Rate/.test(error.name)) throw error; // the server takes no token, or no ping now
      });
      current(() => this.#opened())();
    } catch (error) {
      current(() => this.fault(error))();
    }
  }

  #opened() {
    clearTimeout(this.timer);
    this.open = Date.now();
    if (!this.streams) this.#blocked = 0;
    for (const sub of this.#subs) sub.join();
    this.#flush();
    this.#tell("open");
  }

  async token() {
    const { token } = this.options;
    try {
      this.bearer = token?.call ? await token() : token;
      if (token && !this.bearer?.at) throw Error(`expected text, got ${typeof this.bearer}`);
      this.renewal = Date.now() + 0.8 * (claimsOf(this.bearer).exp * 1000 - Date.now());
      return this.bearer;
    } catch (cause) {
      throw new PubsubError("TokenError", `token: ${cause?.message}`, { cause });
    }
  }

  #closed(code, reason) {
    const kept = [...this.#requests.values()].filter(({ keep, sent }) => keep && sent).sort((a, b) => a.text.length - b.text.length);
    const big = code === 1009 && kept.pop(), text = `${reason || this.hint || "connection closed"} (${code})`;
    if (big) this.#settle(big).reject(new PubsubError("TooBig", text));
    const mends = { 1002: 0, 1007: 0, 4403: 0, 1008: this.#limited, 1009: big, 4401: this.options.token?.call };
    const final = code in mends && !mends[code];
    this.#lost(final ? new PubsubError("Disconnected", text, { code }) : unreachable(text), final);
  }

  fault(error) {
    if (/Unauth|Forbid/.test(error.name)) this.#closed(4401, error.message);
    else this.#lost(error instanceof PubsubError ? error : new PubsubError("ServerFault", error.message, { cause: error }));
  }

  #lost(error, final) {
    this.failed = !this.open && !this.streams;
    if (this.streams) this.#blocked = 1;
    if (this.open && Date.now() - this.open > Math.min(this.#bound, 10_000)) this.#bound = 100; // it has shown that it works
    const pause = this.drain || Math.random() * this.#bound;
    this.#bound = Math.min(2 * this.#bound, 30_000);
    if (final) return this.#fail(error);
    this.#drop(error);
    this.timer = setTimeout(() => this.#connect(), pause);
    this.#tell("connecting", error, pause / 1000);
  }

  /** Give up the connection. Publishes wait for the next one. */
  #drop(error) {
    clearTimeout(this.timer);
    clearTimeout(this.probe);
    this.socket?.close();
    this.socket = this.open = this.drain = null;
    for (const sub of this.#subs) sub.live = false;
    for (const entry of [...this.#requests.values()]) entry.keep && !this.error ? (entry.sent = 0) : this.#settle(entry).reject(this.error ?? unreachable(error.message));
  }

  #fail(error) {
    if (this.error) return;
    this.error = error;
    this.#end.abort();
    clearInterval(this.beat);
    this.#drop(error);
    for (const sub of this.#subs) sub.end(error.code && error);
    this.#next?.#fail(error);
    this.#tell("closed", error);
  }

  #tell(state, error = null, retrySec = null) {
    this.state = state;
    try {
      this.options.onState?.({ state, error, retrySec });
    } catch (failure) {
      this.options.onError(failure);
    }
  }

  #notice(type) {
    const hides = type === "pagehide" || (type[0] === "v" && document.hidden);
    if (hides) for (const sub of this.#subs) sub.save();
    if (type === "offline") this.#lost(unreachable(type));
    else if (type === "pagehide") this.#drop(unreachable(type)); // with a connection it could not stay in the back/forward cache
    else if (!hides) this.#check(true);
  }

  /** Look for signs of life; at once, if it is urgent. */
  #check(urgent) {
    const { socket, heard } = this, silent = Math.abs(Date.now() - heard) / this.options.heartbeat / 1000;
    if (this.open && this.options.token?.call && Date.now() > this.renewal)
      this.token().then((token) => this.ask({ type: "auth", token })).catch((error) => this.#tell(this.state, error));
    if (!socket && urgent) {
      this.#bound = 100;
      this.#connect();
    } else if (this.open && silent > 2) this.#lost(unreachable("two silent heartbeats"));
    else if (this.open && (silent > 1 || urgent)) {
      this.ask({ type: "ping" }).catch(() => {});
      if (urgent) this.probe = setTimeout(() => this.heard === heard && this.#lost(unreachable("no sign of life")), 5000);
    }
  }

  // Requests and answers

  /** `keep`: send it again over reconnects, until it times out. `first`: before the connection counts as open. */
  ask(fields, entry = {}) {
    return new Promise((resolve, reject) => {
      const request_id = String(++this.#count), { answerTimeout } = this.options, { keep, first } = entry;
      Object.assign(entry, { id: request_id, resolve, reject, sends: 0, text: JSON.stringify({ ...fields, request_id }) });
      if (this.error || !(this.open || keep || first)) throw this.error ?? unreachable("not connected");
      this.#requests.set(request_id, entry);
      if (keep) entry.timer = setTimeout(() => this.#settle(entry).reject(new PubsubError("AnswerTimeout",
        `no answer in ${answerTimeout} s: published or not`)), answerTimeout * 1000);
      first || entry.answered ? this.#send(entry) : this.#flush(); // subscribe before what was published meanwhile
    });
  }

  #send(entry) {
    entry.sent = ++entry.sends;
    this.socket.send(entry.text);
  }

  #flush() {
    let room = this.open && !this.drain && Date.now() >= this.#limited ? this.#window : 0;
    for (const entry of this.#requests.values()) if (room-- > 0 && !entry.sent) this.#send(entry);
  }

  #settle(entry) {
    clearTimeout(entry.timer);
    this.#requests.delete(entry.id);
    return entry;
  }

  #receive(data) {
    this.heard = Date.now();
    try {
      this.#take(data.at ? JSON.parse(data) : data);
    } catch (error) {
      this.fault(error);
    }
  }

  #take(message) {
    const { type, msg, topic, error, request_id } = message, refused = error && this.refusal(error), entry = this.#requests.get(request_id), sub = topic && this.#route(topic);
    if (!type.at) throw Error("expected a message with a type");
    else if (type === "event") sub?.receive(message);
    else if (msg === "draining") this.drain = Math.min(message.reconnect_after_ms, 60_000) || 1;
    else if (msg === "disconnected") this.#closed(4403, msg);
    else if (msg) sub?.inform(message);
    else if (error && !request_id) this.fault(refused);
    else if (!entry) sub && !message.status && sub.begin(message); // a stream that was made again
    else if (error?.code === "RATE_LIMITED" && this.open) {
      entry.sent = 0;
      this.#window = 1; // and more with each answer: too many refusals would end the connection
      this.#limited = Date.now() + error.retry_after_ms;
      setTimeout(() => this.#flush(), error.retry_after_ms);
    } else if (error) this.#settle(entry).reject(refused);
    else {
      entry.answered?.(message);
      this.#window++;
      this.#settle(entry).resolve(message);
      if (this.#limited) this.#flush();
    }
  }

  eventOf({ topic, seq, message: { id, payload }, ts, from = null }, epoch) {
    return { type: "event", topic, seq, epoch, id, payload, ts, sender: from };
  }

  /** The error TopicNotFound for the code TOPIC_NOT_FOUND. */
  refusal({ code, message, ...fields }) {
    return new PubsubError(code.toLowerCase().replace(/(^|_)./g, (start) => start.at(-1).toUpperCase()), message, { code, ...fields });
  }
}

for (const name of ["findOwn", "history", "presence", "topics", "topic", "createTopic", "deleteTopic", "purge"])
  Client.prototype[name] = async function (...values) {
    return (await import("./client-http.js"))[name](this, ...values);
  };

class Subscription {
  state = null;
  #items = [];
  #feeds = new Map(); // what is known of each topic
  #held = 0;
  #calls = []; // of those who wait for an item, or for room

  constructor(client, topic, options, callback) {
    Object.assign(this, { client, topic, options: { lastN: 0, echo: true, mend: true, ...options }, max: client.options.maxIncoming });
    this.ready = this.#settled();
    this.ready.catch(() => {}); // the iteration throws it
    this.#resume(options?.resume);
    this.#store((storage, key) => this.#resume(JSON.parse(storage.getItem(key))));
    if (callback) this.#run(callback);
  }

  get position() {
    return Object.fromEntries([...this.#feeds].map(([name, { at }]) => [name, at]));
  }

  async next() {
    for (;;) {
      const item = this.#items.shift(), { error } = this;
      if (this.#items.length <= this.max / 2) this.#call();
      if (item && this.#hand(item)) return { value: item, done: false };
      if (item) continue;
      this.error = null;
      if (error) throw error;
      if (this.ended) return { value: undefined, done: true };
      await this.#change();
    }
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async return() {
    this.close();
    return { value: undefined, done: true };
  }

  close() {
    this.#items = [];
    this.end();
  }

  end(error) {
    if (this.ended) return;
    this.save();
    this.onend();
    this.error = error;
    this.ended = true;
    this.live = false;
    this.reject(error ?? new PubsubError("Disconnected", "this subscription was closed"));
    this.#call();
  }

  async reload() {
    while (this.joining) await this.joining;
    this.#items = [];
    this.#feeds.clear();
    this.resumes = this.loaded = this.live = false;
    const ready = this.#settled();
    this.join();
    await ready;
    return this.state;
  }

  async #run(callback) {
    for (let done; !done; )
      try {
        const item = await this.next();
        done = item.done;
        if (!done) await callback(item.value);
      } catch (error) {
        this.client.options.onError(error);
      }
  }

  #settled() {
    return new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
  }

  #change() {
    return new Promise((resolve) => this.#calls.push(resolve));
  }

  #call() {
    for (const resolve of this.#calls.splice(0)) resolve();
  }

  #push(item) {
    if (!this.ended) this.#items.push(item);
    this.#call();
  }

  /** Note that the user has an item. Returns false for an own message that is left out. */
  #hand({ type, topic, epoch, id, seq, toSeq }) {
    const feed = this.#feeds.get(topic), { persist, echo } = this.options;
    if (feed && type !== "notice") feed.at = { epoch, seq: seq ?? toSeq ?? 0 };
    if (persist) this.saving ??= setTimeout(() => this.save(), 1000);
    return echo || !this.client.options.own.has(id);
  }

  #resume(positions) {
    if (!positions || this.resumes) return;
    for (const [topic, { epoch, seq }] of Object.entries(positions)) this.#feed(topic, epoch, seq, seq);
    this.resumes = true;
  }

  save() {
    clearTimeout(this.saving);
    this.saving = null;
    if (this.begun) this.#store((storage, key) => storage.setItem(key, JSON.stringify(this.position)));
  }

  #store(use) {
    const { options } = this;
    try {
      if (options.persist) use(localStorage, options.persist);
    } catch (cause) {
      options.persist = null;
      this.client.options.onError(new PubsubError("StorageError", cause.message, { cause }));
    }
  }

  // What the server says

  join() {
    this.joining ??= this.#join().finally(() => (this.joining = null));
  }

  async #join() {
    const { load } = this.options;
    try {
      if (load && !this.loaded) {
        await this.#subscribe();
        this.live = false;
        await this.#ask({ type: "unsubscribe" });
        this.state = await load();
        this.loaded = true;
      }
      for (let pause = 100; !this.live; pause = Math.min(2 * pause, 5000))
        await this.#subscribe().catch((error) => {
          if (error.name !== "TopicNotFound" || !this.begun || this.ended) throw error;
          return new Promise((resolve) => setTimeout(resolve, pause * Math.random()));
        });
      this.resolve();
    } catch (error) {
      if (error.name !== "Unreachable") this.end(error); // otherwise it joins with the next connection
    }
  }

  #ask(request, entry) {
    const { client, topic, options: { filter, params } } = this;
    return client.ask({ topic, client_id: client.clientId, filter, params, ...request }, entry);
  }

  #subscribe() {
    const feeds = [...this.#feeds].slice(0, 10_000).map(([name, { epoch, seq, base }]) => [name, { epoch, seq: seq || base }]);
    const from = this.resumes ? { resume: Object.fromEntries(feeds) } : { last_n: this.options.lastN };
    return this.#ask({ type: "subscribe", ...from }, { answered: (ack) => this.begin(ack) });
  }

  /** Note the positions before the first event comes. */
  begin(ack) {
    const found = ack.topics ?? { [this.topic]: ack }, { resumes, options: { lastN } } = this;
    for (const name of this.#feeds.keys()) if (!Object.hasOwn(found, name)) this.#feeds.delete(name);
    for (const [name, { epoch, seq, recovered }] of Object.entries(found)) {
      const feed = resumes ? this.#enter(name, epoch, seq) : this.#feed(name, epoch, Math.max(0, seq - lastN), lastN ? 0 : seq);
      if (resumes && recovered === undefined) this.#miss(feed, seq); // a stream begins with what is new
    }
    this.begun = this.live = this.resumes = true;
  }

  #feed(topic, epoch, base, seq, at = { epoch, seq: base }) {
    const feed = { topic, epoch, base, seq, at, until: 0 };
    this.#feeds.set(topic, feed);
    return feed;
  }

  /** The feed of a topic, made anew if that is another topic of the same name. */
  #enter(topic, epoch, newest) {
    const old = this.#feeds.get(topic);
    if (old?.epoch === epoch && old.seq <= newest) return old;
    if (old) this.#push({ type: "gap", topic, epoch, fromSeq: null, toSeq: null, count: null, reason: "created_again" });
    return this.#feed(topic, epoch, 0, 0, old?.at);
  }

  receive(message) {
    const { topic, seq } = message, feed = this.#feeds.get(topic), { held } = feed;
    if (!this.live || seq <= feed.seq) return; // it came before
    if (!held && this.#items.length < this.max) this.#take(feed, message);
    else if (held && this.#held < this.max) this.#held += !!held.push(message);
    else this.#miss(feed, seq);
  }

  #take(feed, message) {
    if (message.seq <= feed.seq) return;
    feed.seq = message.seq;
    this.#push(this.client.eventOf(message, feed.epoch));
  }

  #miss(feed, seq) {
    const { held } = feed;
    feed.until = Math.max(feed.until, seq);
    feed.held = [];
    this.#held -= held?.length ?? 0;
    if (!held) this.#mend(feed).catch((error) => this.client.fault(error));
  }

  /** Fetch what is missing, once there is room. What comes meanwhile is held back. */
  async #mend(feed) {
    const { mend, filter } = this.options, { topic, epoch } = feed;
    for (let limit = Math.min(1000, this.max); feed.until > feed.seq; ) {
      while (this.#items.length > this.max / 2 && !this.ended) await this.#change();
      const { until } = feed, page = mend ? await this.#ask({ type: "history", topic, after: feed.seq, limit }).catch((error) => error) : {};
      let { messages = [], complete } = page.epoch === epoch ? page : {};
      if (page.name === "Unreachable" || this.ended) this.#miss(feed, (feed.until = 0)); // the next connection resumes
      else if (page.name === "LimitExceeded" && limit > 1) limit >>= 1;
      else {
        for (const message of messages) {
          if (!complete) this.#lose(feed, message.seq - 1);
          complete ||= filter; // whose holes are no losses
          this.#take(feed, message);
        }
        if (messages.length >= limit) continue;
        if (!complete) this.#lose(feed, until);
        feed.seq = Math.max(feed.seq, until);
      }
    }
    for (const message of feed.held) this.#take(feed, message);
    this.#held -= feed.held.length;
    feed.held = feed.until = 0;
  }

  #lose(feed, toSeq) {
    const { topic, epoch, seq } = feed, { filter, mend } = this.options;
    if (toSeq <= seq) return;
    feed.seq = toSeq;
    this.#push({ type: "gap", topic, epoch, fromSeq: seq + 1, toSeq, count: filter ? null : toSeq - seq, reason: mend ? "lost" : "dropped" });
  }

  inform({ msg: kind, topic, epoch, client_id: clientId, reason, to_seq: toSeq }) {
    const feed = this.#feeds.get(topic), whole = topic === this.topic;
    if (!this.live) return;
    if (kind === "dropped") return this.#miss(feed, toSeq);
    if (kind === "topic_created") this.#enter(topic, epoch, Infinity);
    if (this.options.notices) this.#push({ type: "notice", kind, topic, epoch, clientId, reason });
    if (kind === "unsubscribed" && whole) this.end(new PubsubError(reason === "limit" ? "LimitExceeded" : "Forbidden", topic));
    else if (kind === "topic_deleted" && whole) this.join((this.live = false));
    else if (/^unsub|del/.test(kind)) this.#feeds.delete(topic);
  }
}
