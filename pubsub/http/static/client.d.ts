/**
 * The JavaScript client of a pubsub server, for browsers and Node 20 and newer.
 *
 * ```js
 * import { Client } from "pubsub-client"; // or from "/client.js" of the server
 *
 * const client = new Client("https://pubsub.example.com");
 * await client.publish("orders", { amount: 5 });
 * for await (const item of client.subscribe("orders")) if (item.type === "event") console.log(item.payload);
 * ```
 *
 * All times are in seconds, as in the settings of the server.
 */

/** A position in one topic: the `seq` of the last message, and the `epoch`, which names one life of the topic. */
export interface Position {
  epoch: string;
  seq: number;
}

/** A position in each topic, as JSON: `{"orders":{"epoch":"k3f9","seq":41}}`. */
export type Positions = Record<string, Position>;

/** A message of a topic. `seq` counts the messages of a topic from 1. */
export interface Event<T = unknown> {
  type: "event";
  topic: string;
  seq: number;
  epoch: string;
  /** The publisher's UUID. */
  id: string;
  payload: T;
  /** The time when the server took the message: UTC, RFC 3339, whole seconds. */
  ts: string;
  /** The `client_id` of the publisher, on a topic with the option `sender`. */
  sender: string | null;
}

/**
 * Messages that the subscription does not get. It comes in their place, before later events of the topic.
 *
 * - `dropped`: the server or the client left them out because the subscription was too slow, and `mend` is false.
 * - `lost`: the server no longer keeps them.
 * - `created_again`: the topic is another one of the same name, with this `epoch`. Its messages follow, from the first that
 *   is kept; or those after `toSeq`, if the servers lost the newest messages of the topic and it goes on without them.
 *
 * `fromSeq` and `toSeq` are the bounds of what is missing, and `count` is the number of messages; each is null where it is
 * not known.
 */
export interface Gap {
  type: "gap";
  topic: string;
  epoch: string;
  fromSeq: number | null;
  toSeq: number | null;
  count: number | null;
  reason: "dropped" | "lost" | "created_again";
}

/** News of a topic, for a subscription with `notices`. */
export interface Notice {
  type: "notice";
  kind: "topic_created" | "topic_deleted" | "unsubscribed" | "joined" | "left";
  topic: string;
  /** With `topic_created`. */
  epoch?: string;
  /** With `joined` and `left`. */
  clientId?: string;
  /** With `unsubscribed`: `forbidden` or `limit`. */
  reason?: string;
}

export type Item<T = unknown> = Event<T> | Gap | Notice;

/** A message that is in its topic. `duplicate`: it was there already, and `seq` is its number. */
export interface Published {
  topic: string;
  id: string;
  seq: number;
  duplicate: boolean;
}

/** Kept messages, oldest first. `complete`: none of those that were asked for is gone. */
export interface History<T = unknown> {
  epoch: string;
  events: Event<T>[];
  complete: boolean;
}

/** The clients of a topic. `count` has all of them, `clients` the first 1,000 by name. */
export interface Presence {
  topic: string;
  count: number;
  clients: { clientId: string; connections: number }[];
}

/** Options of a topic, by their names in the protocol. */
export interface TopicOptions {
  history?: number;
  ttl_sec?: number | null;
  durable?: boolean;
  dedup_sec?: number | null;
  overflow?: "drop_oldest" | "drop_newest" | "latest" | "disconnect";
  sender?: boolean;
  presence?: boolean;
  [option: string]: unknown;
}

/** `messages`: ever published. `bytes`: of those that are kept. `subscribers`: connections. */
export interface TopicDetails {
  name: string;
  epoch: string;
  seq: number;
  messages: number;
  subscribers: number;
  bytes: number;
  options: TopicOptions;
}

export type ErrorName =
  /** The server refused a request; `code` is that of the protocol, as `TOPIC_NOT_FOUND` for `TopicNotFound`. */
  | "BadRequest"
  | "Unauthorized"
  | "Forbidden"
  | "TopicNotFound"
  | "TopicExists"
  /** The topic has another `seq` than `expectSeq`, and nothing was published; `seq` is that of the topic. */
  | "Conflict"
  /** Only over REST: a request over the connection waits instead. */
  | "RateLimited"
  | "LimitExceeded"
  | "Internal"
  /** The message has more bytes than the server takes. */
  | "TooBig"
  /** There is no connection. The client tries again by itself. */
  | "Unreachable"
  /** No answer came in time. What was asked for may have been done, or not. */
  | "AnswerTimeout"
  /** The end: another try could not help. `code` is the close code. */
  | "Disconnected"
  /** The token function threw (see `cause`), did not answer in time, or gave no text. */
  | "TokenError"
  /** The server sent what no server of this protocol sends. */
  | "ServerFault"
  /** `maxOutgoing` publishes wait, and `whenFull` is `raise`. Nothing was sent. */
  | "OutgoingFull"
  /** `localStorage` threw (see `cause`). The subscription goes on without it. */
  | "StorageError";

/** Every error of this client. Tell them apart by `name`: it is the same across bundles, frames and workers. */
export class PubsubError extends Error {
  constructor(name: ErrorName, message: string, fields?: object);
  name: ErrorName;
  code?: string | number;
  /** With `Conflict`. */
  seq?: number;
  cause?: unknown;
}

/** `connecting` also between two connections. `closed` is for good. */
export type State = "connecting" | "open" | "closed";

/** A new state, or a further failure in the same one. `retrySec`: the pause before the next attempt. */
export interface StateChange {
  state: State;
  error: PubsubError | null;
  retrySec: number | null;
}

export interface ClientOptions {
  /** Your label. Default: the `sub` of the token, otherwise one at random. With a token it must be its `sub`. */
  clientId?: string;
  /**
   * A JWT, or a function that gets one. The function is called for each connection, and before its token expires; then the
   * new token is sent over the live connection. If it throws or does not answer, `onState` is told, and it is called again.
   */
  token?: string | (() => string | Promise<string>);
  /** For REST calls from a server. Never give it to a page. */
  apiKey?: string;
  /** For an answer to a publish or a REST call, and for a connection to be made. Default 10. */
  answerTimeout?: number;
  /** After so many seconds of silence the client asks for a sign of life, after two it makes a new connection. Default 30. */
  heartbeat?: number;
  /** Publishes that may wait for their answers. Default 1000. */
  maxOutgoing?: number;
  /** What a publish beyond that does: `wait`, the default, or `raise` OutgoingFull. */
  whenFull?: "wait" | "raise";
  /**
   * Items that wait in each subscription. Default 1000. What comes beyond is left out, and fetched from the history of the
   * topic when there is room. (No browser can stop reading from a WebSocket.)
   */
  maxIncoming?: number;
  /** Is told of each new state, and of each failed attempt to connect. */
  onState?: (change: StateChange) => void;
  /** Is told of what cannot be thrown to anybody: errors of callbacks, and of localStorage. Default: console.error. */
  onError?: (error: unknown) => void;
  /**
   * The class of WebSockets. Default: that of the platform. Node 20 has none: give that of the package `ws`; otherwise the
   * client uses Server-Sent Events. `null` always does.
   */
  WebSocket?: (new (url: string) => unknown) | null;
}

export interface PublishOptions {
  /** A UUID; default: a new one. Give your own to try again after an AnswerTimeout. */
  id?: string;
  /** Seconds after which the message expires. */
  ttlSec?: number;
  /** Publish only if this is the topic's `seq` then; otherwise Conflict. */
  expectSeq?: number;
}

export interface Query {
  lastN?: number;
  after?: number;
  limit?: number;
  filter?: string;
  params?: Record<string, unknown>;
}

export interface SubscribeOptions<S = unknown> {
  /** The number of newest messages to begin with, of each topic. Default 0. */
  lastN?: number;
  /** CEL over `payload`, `id`, `topic`, `from` and `params`. */
  filter?: string;
  /** Values for the filter. */
  params?: Record<string, unknown>;
  /** Begin after this position, as `position` had it. */
  resume?: Positions;
  /**
   * A key of localStorage, where the position is kept, about once a second and when the page is left: after a reload the page
   * goes on from there, and may get the items of the last second again. Two pages need two keys.
   */
  persist?: string;
  /** False leaves out the messages that this client has published. */
  echo?: boolean;
  /** False: a gap is told at once, and not filled from the history of the topic. */
  mend?: boolean;
  /** True: notices are items too. */
  notices?: boolean;
  /**
   * Loads the state to which the messages belong. The position is read before, so that nothing is missing between the state
   * and the first message; what it returns is `state` of the subscription.
   */
  load?: () => S | Promise<S>;
}

/**
 * A subscription. It goes on over reconnects, and no message is lost or comes twice without a Gap. If its topic is deleted,
 * it waits until that is created again.
 *
 * Leaving the loop of a `for await` closes it. The loop throws what ended it: TopicNotFound, Forbidden, BadRequest,
 * LimitExceeded, or Disconnected once the client is closed for good.
 */
export interface Subscription<I = Item, S = unknown> extends AsyncIterableIterator<I> {
  readonly topic: string;
  /** Resolves when the server has acknowledged the subscription for the first time. */
  readonly ready: Promise<void>;
  /** The position in each topic after the last item that you got. Give it back as `resume`. */
  readonly position: Positions;
  /** What `load` returned. */
  readonly state: S;
  next(): Promise<IteratorResult<I, undefined>>;
  return(): Promise<IteratorResult<I, undefined>>;
  [Symbol.asyncIterator](): this;
  /** Call `load` again, for example after a Gap, and go on after the position from before that call. */
  reload(): Promise<S>;
  /** Unsubscribe. The iteration ends. */
  close(): void;
}

type Payload<Topics, K> = K extends keyof Topics ? Topics[K] : unknown;

/**
 * A client, which connects at once, and again and again until it is closed. Only these close codes are final: 4403 (an
 * operator disconnected it), 1002, 1007, 1008, 1009, and 4401 without a token function.
 *
 * `Topics` maps names of topics to their payloads: `new Client<{ orders: Order }>(url)`.
 */
export class Client<Topics extends object = {}> {
  /** The URL of the server, or of its WebSocket. Default: the server of the page. */
  constructor(url?: string | URL, options?: ClientOptions);
  readonly state: State;
  readonly clientId: string;

  /**
   * Publish a message. Resolves when it is in the topic. Over a reconnect it is sent again with the same id: on a topic with
   * `dedup_sec` it is there once. Throws AnswerTimeout if no answer came: then it may be published, or not.
   */
  publish<K extends string>(topic: K, payload: Payload<Topics, K>, options?: PublishOptions): Promise<Published>;
  /** Publish messages in order, without waiting for each answer. */
  publishMany<K extends string>(
    topic: K,
    payloads: Iterable<Payload<Topics, K>>,
    options?: Pick<PublishOptions, "ttlSec">,
  ): Promise<Published[]>;

  /**
   * Subscribe to a topic, or to all topics of a pattern (`orders.*`, `orders.>`). With a callback, each item is given to it;
   * it is not called again before its promise is settled. Otherwise iterate over the Subscription.
   *
   * A message reaches a connection once, whatever asked for it. So a subscription that overlaps with another one of this
   * client opens a connection of its own, which ends with it.
   */
  subscribe<K extends keyof Topics & string, S = unknown>(
    topic: K,
    options: SubscribeOptions<S> & { notices: true },
    callback?: (item: Item<Topics[K]>) => unknown,
  ): Subscription<Item<Topics[K]>, S>;
  subscribe<K extends keyof Topics & string, S = unknown>(
    topic: K,
    options?: SubscribeOptions<S> & { notices?: false },
    callback?: (item: Event<Topics[K]> | Gap) => unknown,
  ): Subscription<Event<Topics[K]> | Gap, S>;
  subscribe<T = unknown, S = unknown>(
    topic: string,
    options: SubscribeOptions<S> & { notices: true },
    callback?: (item: Item<T>) => unknown,
  ): Subscription<Item<T>, S>;
  subscribe<T = unknown, S = unknown>(
    topic: string,
    options?: SubscribeOptions<S> & { notices?: false },
    callback?: (item: Event<T> | Gap) => unknown,
  ): Subscription<Event<T> | Gap, S>;

  /** Read messages that a topic keeps: `lastN`, or those `after` a `seq`, at most `limit` (1,000). */
  history<T = unknown>(topic: string, query?: Query): Promise<History<T>>;
  /** The clients of a topic with the option `presence`. */
  presence(topic: string): Promise<Presence>;
  topics(prefix?: string): Promise<TopicDetails[]>;
  topic(name: string): Promise<TopicDetails>;
  createTopic(name: string, options?: TopicOptions): Promise<void>;
  deleteTopic(name: string): Promise<void>;
  /** Forget the kept messages; resolves to their number. */
  purge(name: string): Promise<number>;
  /** Close it for good. Iterations end, and publishes without an answer fail with Disconnected. */
  close(): void;
}
