// The JavaScript client for browsers and Node; client.d.ts explains it. client-more.js is loaded when it is needed.
// It must never lose a message, or hand one over twice, without telling.

export class PubsubError extends Error {
  constructor(name, message, fields) {
    super(message);
    Object.assign(this, { name }, fields);
  }
}

const unreachable = (message) => new PubsubError("Unreachable", message);
const digit = () => Math.floor(16 * Math.random()).toString(16);
// Pages over http have no randomUUID. An id must be unique; it is no secret.
const uuid = () => crypto.randomUUID?.() ?? "........-....-4...-a...-............".replace(/\./g, digit);

/** True if two names or patterns, as lists of segments, may have a topic in common. */
const overlap = ([a, ...x], [b, ...y]) =>
  a && b ? a === ">" || b === ">" || ((a === b || a === "*" || b === "*") && overlap(x, y)) : a === b;

/** The claims of a JWT; none of another text. */
function claimsOf(token) {
  try {
    // `escape` makes the bytes of UTF-8 from the characters that `atob` returns.
    return JSON.parse(decodeURIComponent(escape(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")))));
  } catch {
    return {};
  }
}

export class Client {
  state = "connecting";
  // No two of them overlap.
  #subs = new Set();
  // The subscription of each topic that has come.
  #routes = new Map();
  // Those without an answer, in order.
  #requests = new Map();
  #count = 0;
  // How many requests may wait for their answers.
  #window = Infinity;
  #publishes = 0;
  // Publishes beyond maxOutgoing.
  #waiting = [];
  // Of the next pause, in ms.
  #bound = 100;
  // Failures of WebSockets, one after another, while the server was there.
  #blocked = 0;
  // For subscriptions that overlap with those here.
  #next;
  #end = new AbortController();

  constructor(url = "/", options) {
    const { protocol, origin, pathname } = new URL(url, globalThis.location), { WebSocket } = globalThis;
    if (!/^(http|ws)s?:/.test(protocol)) throw TypeError(`url: expected http(s) or ws(s), got ${url}`);
    this.base = origin.replace(/^ws/, "http") + pathname.replace(/(\/ws|\/)?$/, "/");
    const limits = { answerTimeout: 10, heartbeat: 30, maxOutgoing: 1000, maxIncoming: 1000 };
    const name = `client-${uuid().slice(24)}`, own = new Set();
    this.options = { ...limits, name, own, WebSocket, onError: console.error, ...options };
    const period = this.options.heartbeat * 250;
    let last = Date.now();
    this.beat = setInterval(() => {
      // The machine slept, or its clock was set.
      this.#check(Math.abs(Date.now() - last - period) > 5000);
      last = Date.now();
    }, period);
    for (const type of "online offline pageshow pagehide visibilitychange".split(" "))
      globalThis.addEventListener?.(type, () => this.#notice(type), this.#end);
    this.#connect();
  }

  get clientId() {
    return this.options.clientId ?? claimsOf(this.bearer).sub ?? this.options.name;
  }

  async publish(topic, payload, { id = uuid(), ttlSec, expectSeq } = {}) {
    const { maxOutgoing, whenFull, own } = this.options, entry = { keep: true };
    if (this.#publishes < maxOutgoing) this.#publishes++;
    else if (whenFull === "raise") throw new PubsubError("OutgoingFull", `${maxOutgoing} publishes wait`);
    else await new Promise((resolve) => this.#waiting.push(resolve));
    own.add(id);
    if (own.size > 10_000 + maxOutgoing) own.delete(own.keys().next().value);
    try {
      const request = { type: "publish", topic, message: { id, payload }, ttl_sec: ttlSec, expect_seq: expectSeq };
      const { seq, duplicate = false } = await this.ask(request, entry);
      return { topic, id, seq, duplicate };
    } catch (error) {
      if (error.name !== "Conflict" || entry.sends < 2) throw error;
      // The answer to the first try may be lost.
      return this.findOwn(topic, id, expectSeq, error);
    } finally {
      const next = this.#waiting.shift();
      next ? next() : this.#publishes--;
    }
  }

  publishMany(topic, payloads, options) {
    return Promise.all(Array.from(payloads, (payload) => this.publish(topic, payload, options)));
  }

  /** A message comes once over a connection, whatever asked for it: a subscription that overlaps gets another one. */
  subscribe(topic, ...wishes) {
    const { base, clientId, options } = this;
    if (!this.error && this.#route(topic)) {
      if (!this.#next || this.#next.error)
        this.#next = new Client(base, { ...options, clientId, onState: null, parent: this });
      return this.#next.subscribe(topic, ...wishes);
    }
    const sub = new Subscription(this, topic, ...wishes);
    this.#subs.add(sub);
    if (this.error) sub.end(this.error);
    else if (this.open) sub.join();
    return sub;
  }

  leave(sub) {
    const { parent } = this.options;
    this.#subs.delete(sub);
    this.#routes.clear();
    if (sub) this.ask({ type: "unsubscribe", topic: sub.topic, client_id: this.clientId }).catch(() => {});
    if (!parent || this.error || this.#subs.size || (this.#next && !this.#next.error)) return;
    this.close();
    parent.leave();
  }

  #route(topic) {
    let sub = this.#routes.get(topic);
    if (sub) return sub;
    for (const each of this.#subs)
      if (overlap(each.topic.split("."), topic.split("."))) this.#routes.set(topic, (sub = each));
    return sub;
  }

  close() {
    this.#fail(new PubsubError("Disconnected", "closed"));
  }

  // The connection

  async #connect() {
    const { answerTimeout, WebSocket } = this.options;
    let late = new PubsubError("TokenError", "no answer in time"), socket = (this.socket = { close() {} });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#lost(late), answerTimeout * 1000);
    this.hint = "";
    try {
      const token = await this.token();
      late = unreachable("no answer in time");
      const health = () => fetch(`${this.base}health`, { signal: AbortSignal.timeout(5000) }).catch(() => late);
      if (this.failed) this.#blocked = (await health()).ok ? this.#blocked + 1 : 0;
      this.streams = !WebSocket || this.#blocked > 1;
      const { Streams } = this.streams && (await import("./client-more.js"));
      if (this.socket !== socket) return;
      const url = `${this.base.replace("http", "ws")}ws?client_id=${encodeURIComponent(this.clientId)}`;
      this.failed = !Streams;
      socket = this.socket = Streams ? new Streams(this) : new WebSocket(url);
      socket.onmessage = ({ data }) => this.socket === socket && this.#receive(data);
      socket.onclose = ({ code, reason }) => this.socket === socket && this.#closed(code, reason);
      socket.onerror = ({ message }) => (this.hint = message);
      await new Promise((resolve) => (socket.onopen = resolve));
      await this.ask(token ? { type: "auth", token } : { type: "ping" }, { first: true }).catch((error) => {
        // The server takes no token, or no ping now.
        if (!/BadR|Rate/.test(error.name)) throw error;
      });
      if (this.socket !== socket) return;
      clearTimeout(this.timer);
      this.open = Date.now();
      if (!this.streams) this.#blocked = this.failed = 0;
      for (const sub of this.#subs) sub.join();
      this.#flush();
      this.#tell("open");
    } catch (error) {
      if (this.socket === socket) this.fault(error);
    }
  }

  async token() {
    const { token } = this.options;
    try {
      this.bearer = token?.call ? await token() : token;
      if (token && !this.bearer?.at) throw Error(`expected text, got ${typeof this.bearer}`);
      this.renewal = token?.call && Date.now() + 0.8 * (claimsOf(this.bearer).exp * 1000 - Date.now());
      return this.bearer;
    } catch (cause) {
      throw new PubsubError("TokenError", `token: ${cause?.message}`, { cause });
    }
  }

  #closed(code, reason) {
    const text = `${reason || this.hint || "closed"} (${code})`;
    const sent = [...this.#requests.values()].filter(({ keep, sent }) => keep && sent);
    const big = code === 1009 && sent.sort((a, b) => a.text.length - b.text.length).pop();
    if (big) this.#settle(big).reject(new PubsubError("TooBig", text));
    const mends = { 1002: 0, 1007: 0, 4403: 0, 1008: this.rest, 1009: big, 4401: this.options.token?.call };
    const final = code in mends && !mends[code];
    this.#lost(final ? new PubsubError("Disconnected", text, { code }) : unreachable(text), final);
  }

  fault(error) {
    if (/Unauth|Forbid/.test(error.name)) this.#closed(4401, error.message);
    else if (error instanceof PubsubError) this.#lost(error);
    else this.#lost(new PubsubError("ServerFault", error.message, { cause: error }));
  }

  #lost(error, final) {
    if (this.streams) this.#blocked = 1;
    // It lasted longer than the pause before it.
    if (this.open && Date.now() - this.open > this.#bound) this.#bound = 100;
    const pause = this.drain || Math.random() * this.#bound;
    this.#bound = Math.min(2 * this.#bound, 30_000);
    if (final) return this.#fail(error);
    this.#drop(error);
    this.timer = setTimeout(() => this.#connect(), pause);
    this.#tell("connecting", error, pause / 1000);
  }

  /** Give up the connection. Publishes wait for the next one. */
  #drop(error) {
    const { socket } = this;
    clearTimeout(this.timer);
    this.socket = this.open = this.drain = null;
    // It may call onclose at once.
    socket?.close();
    for (const sub of this.#subs) sub.live = false;
    for (const entry of this.#requests.values())
      if (entry.keep && !this.error) entry.sent = 0;
      else this.#settle(entry).reject(this.error ?? unreachable(error.message));
  }

  #fail(error) {
    if (this.error) return;
    this.error = error;
    this.#end.abort();
    clearInterval(this.beat);
    clearTimeout(this.rest);
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
    if (hides) for (const sub of this.#subs) sub.stored?.save();
    if (type === "offline") this.#lost(unreachable(type));
    // With a connection it could not stay in the back/forward cache.
    else if (type === "pagehide") this.#drop(unreachable(type));
    else if (!hides) this.#check(true);
  }

  /** Look for signs of life; at once, if it is urgent. */
  #check(urgent) {
    const { socket, heard } = this, silent = (Date.now() - heard) / this.options.heartbeat / 1000;
    if (this.open && this.renewal < Date.now()) this.#renew();
    if (!socket && urgent) {
      this.#bound = 100;
      this.#connect();
    } else if (this.open && silent > 2) this.#lost(unreachable("no sign of life"));
    else if (this.open && (silent > 1 || urgent)) {
      this.ask({ type: "ping" }).catch(() => {});
      if (!urgent) return;
      clearTimeout(this.timer);
      const look = () => this.heard === heard && this.#lost(unreachable("no sign of life"));
      this.timer = setTimeout(look, this.options.answerTimeout * 500);
    }
  }

  async #renew() {
    try {
      this.renewal = Infinity;
      await this.ask({ type: "auth", token: await this.token() });
    } catch (error) {
      this.renewal = 0;
      this.#tell(this.state, error);
    }
  }

  // Requests and answers

  /** `keep`: send it again over reconnects, until it times out. `first`: before the connection counts as open. */
  ask(fields, entry = {}) {
    return new Promise((resolve, reject) => {
      const request_id = `${++this.#count}`, { answerTimeout } = this.options, { keep, first } = entry;
      Object.assign(entry, { request_id, resolve, reject, sends: 0, text: JSON.stringify({ ...fields, request_id }) });
      if (this.error || !(this.open || keep || first)) throw this.error ?? unreachable("closed");
      this.#requests.set(request_id, entry);
      const late = new PubsubError("AnswerTimeout", "no answer in time, published or not");
      if (keep) entry.timer = setTimeout(() => this.#flush(this.#settle(entry).reject(late)), answerTimeout * 1000);
      // Subscribe before what was published meanwhile.
      first || entry.answered ? this.#send(entry) : this.#flush();
    });
  }

  #send(entry) {
    entry.sent = ++entry.sends;
    this.socket.send(entry.text);
  }

  #flush() {
    let room = this.open && !this.drain ? this.#window : 0;
    for (const entry of this.#requests.values()) if (room-- > 0 && !entry.sent) this.#send(entry);
  }

  #settle(entry) {
    clearTimeout(entry.timer);
    this.#requests.delete(entry.request_id);
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
    const { type, msg, topic, error, request_id } = message, refused = error && this.refusal(error);
    const entry = this.#requests.get(request_id), sub = topic && this.#route(topic);
    if (!type.at) throw Error("no type");
    else if (type === "event") sub?.receive(message);
    else if (msg === "draining") this.drain = Math.min(message.reconnect_after_ms, 60_000) || 1;
    else if (msg === "disconnected") this.#closed(4403, msg);
    else if (msg) sub?.inform(message);
    else if (error && !request_id) this.fault(refused);
    // A stream that was made again.
    else if (!entry) message.again && sub?.begin(message);
    else if (error?.code === "RATE_LIMITED" && this.open) {
      entry.sent = this.#window = 0;
      clearTimeout(this.rest);
      this.rest = setTimeout(() => this.#flush((this.#window = 1)), error.retry_after_ms);
    } else {
      if (!error) entry.answered?.(message);
      this.#settle(entry);
      error ? entry.reject(refused) : entry.resolve(message);
      // One request after a rest, then more with each answer: too many refusals would end the connection.
      if (this.#window) this.#window++;
      if (this.rest) this.#flush();
    }
  }

  eventOf({ topic, seq, message: { id, payload }, ts, from = null }, epoch) {
    return { type: "event", topic, seq, epoch, id, payload, ts, sender: from };
  }

  /** The error TopicNotFound for the code TOPIC_NOT_FOUND. */
  refusal({ code, message, ...fields }) {
    const name = code.toLowerCase().replace(/(^|_)./g, (start) => start.at(-1).toUpperCase());
    return new PubsubError(name, message, { code, ...fields });
  }
}

for (const name of "findOwn history presence topics topic createTopic deleteTopic purge".split(" "))
  Client.prototype[name] = async function (...values) {
    return (await import("./client-more.js"))[name](this, ...values);
  };

class Subscription {
  state = null;
  #items = [];
  // What is known of each topic.
  #feeds = new Map();
  #held = 0;
  // Of those who wait for an item, or for room.
  #calls = [];

  constructor(client, topic, options, callback) {
    this.options = { lastN: 0, echo: true, mend: true, ...options };
    Object.assign(this, { client, topic, max: client.options.maxIncoming });
    this.#prepare();
    this.resume(options?.resume);
    if (callback) this.#run(callback);
  }

  get position() {
    return Object.fromEntries([...this.#feeds].map(([name, { at }]) => [name, at]));
  }

  async next() {
    while (this.#items.length || !this.ended) {
      const item = this.#items.shift();
      if (item && this.#items.length <= this.max / 2) this.#call();
      if (item && this.#hand(item)) return { value: item, done: false };
      if (!item) await this.#change();
    }
    const { error } = this;
    this.error = null;
    if (error) throw error;
    return { done: true };
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async return() {
    this.close();
    return { done: true };
  }

  close() {
    this.#items = [];
    this.end();
  }

  end(error) {
    if (this.ended) return;
    this.stored?.save();
    this.client.leave(this);
    this.error = error;
    this.ended = true;
    this.live = false;
    this.reject(error ?? new PubsubError("Disconnected", "closed"));
    this.#call();
  }

  async reload() {
    while (this.joining) await this.joining;
    this.#items = [];
    this.#feeds.clear();
    this.resumes = this.loaded = this.live = false;
    this.#prepare();
    this.join();
    await this.ready;
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

  #prepare() {
    this.ready = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    // The iteration throws it too.
    this.ready.catch(() => {});
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
    const feed = this.#feeds.get(topic);
    if (feed && type !== "notice") feed.at = { epoch, seq: seq ?? toSeq ?? 0 };
    this.stored?.note();
    return this.options.echo || !this.client.options.own.has(id);
  }

  resume(positions) {
    if (!positions || this.resumes) return;
    for (const [topic, { epoch, seq }] of Object.entries(positions)) this.#feed(topic, epoch, seq, seq);
    this.resumes = true;
  }

  // What the server says

  join() {
    this.joining ??= this.#join().finally(() => (this.joining = null));
  }

  async #join() {
    const { load, persist } = this.options, { onError } = this.client.options;
    try {
      if (persist) this.stored ??= await import("./client-more.js").then(({ Stored }) => new Stored(this), onError);
      if (load && !this.loaded) {
        await this.#subscribe();
        this.live = false;
        await this.#ask({ type: "unsubscribe" });
        this.state = await load();
        this.loaded = true;
      }
      for (let pause = 100; !this.live && !this.ended; pause = Math.min(2 * pause, 5000))
        await this.#subscribe().catch((error) => {
          if (error.name !== "TopicNotFound" || !this.begun) throw error;
          return new Promise((resolve) => setTimeout(resolve, pause * Math.random()));
        });
      this.resolve();
    } catch (error) {
      // Otherwise it joins with the next connection.
      if (error.name !== "Unreachable") this.end(error);
    }
  }

  #ask(request, entry) {
    const { client, topic, options: { filter, params } } = this;
    return client.ask({ topic, client_id: client.clientId, filter, params, ...request }, entry);
  }

  #subscribe() {
    const feeds = [...this.#feeds].map(([name, { epoch, seq, base }]) => [name, { epoch, seq: seq || base }]);
    const from = this.resumes ? { resume: Object.fromEntries(feeds.slice(0, 10_000)) } : { last_n: this.options.lastN };
    return this.#ask({ type: "subscribe", ...from }, { answered: (ack) => this.begin(ack) });
  }

  /** Note the positions before the first event comes. */
  begin(ack) {
    const found = ack.topics ?? { [this.topic]: ack }, { resumes, options: { lastN } } = this;
    // The feed of a topic that is gone stays: if it comes again, its user has to know that it is another one.
    for (const [name, { epoch, seq, recovered }] of Object.entries(found)) {
      const base = Math.max(0, seq - lastN);
      const feed = resumes ? this.#enter(name, epoch, seq) : this.#feed(name, epoch, base, lastN ? 0 : seq);
      // A stream begins with what is new.
      if (resumes) recovered ?? this.#miss(feed, 1, seq);
    }
    this.begun = this.resumes = true;
    this.live = !this.ended;
  }

  #feed(topic, epoch, base, seq, at = { epoch, seq: base }) {
    const feed = { topic, epoch, base, seq, at, until: 0 };
    this.#feeds.set(topic, feed);
    return feed;
  }

  /** The feed of a topic, made anew if that is another topic of the same name. */
  #enter(topic, epoch, newest, base = 0) {
    const old = this.#feeds.get(topic);
    if (old?.epoch === epoch && old.seq <= newest) return old;
    const gap = { type: "gap", topic, epoch, fromSeq: null, toSeq: base || null, count: null, reason: "created_again" };
    if (old) this.#push(gap);
    return this.#feed(topic, epoch, base, base, old?.at);
  }

  receive(message) {
    if (!this.live) return;
    const { topic, seq } = message, feed = this.#feeds.get(topic), { held } = feed;
    // It came before.
    if (seq <= feed.seq) return;
    if (!held && this.#items.length < this.max) this.#take(feed, message);
    else if (held && this.#held < this.max) this.#held += !!held.push(message);
    else this.#miss(feed, seq, seq);
  }

  #take(feed, message) {
    if (message.seq <= feed.seq) return;
    feed.seq = message.seq;
    this.#push(this.client.eventOf(message, feed.epoch));
  }

  #miss(feed, from, to) {
    const { held } = feed;
    feed.until = Math.max(feed.until, to);
    feed.held = [];
    if (held) return (this.#held -= held.length);
    // What is older is no part of the replay.
    feed.seq ||= from - 1;
    this.#mend(feed).catch((error) => this.client.fault(error));
  }

  /** Fetch what is missing, once there is room. What comes meanwhile is held back. */
  async #mend(feed) {
    const { mend, filter } = this.options, { topic, epoch } = feed;
    for (let limit = Math.min(1000, this.max); feed.until > feed.seq; ) {
      while (this.#items.length > this.max / 2 && !this.ended) await this.#change();
      const { until, seq: after } = feed;
      const page = mend ? await this.#ask({ type: "history", topic, after, limit }).catch((error) => error) : {};
      const { messages = [], complete } = page.epoch === epoch ? page : {};
      const over = this.ended || this.#feeds.get(topic) !== feed;
      // The next connection resumes, or the topic is another one by now.
      if (page.name === "Unreachable" || over) this.#miss(feed, 1, (feed.until = 0));
      else if (page.name === "LimitExceeded" && limit > 1) limit >>= 1;
      else {
        // With a filter a hole may be none: what follows the first message is asked for again.
        const rest = filter && !complete && messages.splice(1);
        for (const message of messages) {
          if (!complete) this.#lose(feed, message.seq - 1);
          this.#take(feed, message);
        }
        if (messages.length >= limit || (rest && messages[0])) continue;
        if (!complete) this.#lose(feed, until);
        feed.seq = Math.max(feed.seq, until);
      }
    }
    for (const message of feed.held) this.#take(feed, message, this.#held--);
    feed.held = feed.until = 0;
  }

  #lose(feed, toSeq) {
    const { topic, epoch, seq } = feed, { filter, mend } = this.options;
    if (toSeq <= seq) return;
    feed.seq = toSeq;
    const count = filter ? null : toSeq - seq, reason = mend ? "lost" : "dropped";
    this.#push({ type: "gap", topic, epoch, fromSeq: seq + 1, toSeq, count, reason });
  }

  inform({ msg: kind, topic, epoch, seq, client_id: clientId, reason, from_seq, to_seq }) {
    const feed = this.#feeds.get(topic), whole = topic === this.topic;
    if (!this.live) return;
    if (kind === "dropped") return this.#miss(feed, from_seq, to_seq);
    if (kind === "topic_created") this.#enter(topic, epoch, Infinity, seq);
    if (this.options.notices) this.#push({ type: "notice", kind, topic, epoch, clientId, reason });
    if (!/^unsub|del/.test(kind)) return;
    if (!whole) this.#feeds.delete(topic);
    else if (reason) this.end(new PubsubError(reason === "limit" ? "LimitExceeded" : "Forbidden", topic));
    else this.join((this.live = false));
  }
}
