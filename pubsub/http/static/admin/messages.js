// Messages over REST with their payloads as the publisher wrote them: JavaScript would change numbers like 1.0 and 2^60.

import { at, call, callText } from "./server.js";
import { jsonFault } from "./json.js";

/** Kept messages, oldest first, each with `raw`, the JSON text of its payload. `query` is that of the call. */
export async function keptMessages(topic, query, signal) {
  const text = await callText("GET", at`topics/${topic}/messages`, { query, signal });
  const { messages, complete } = JSON.parse(text);
  let from = 0;
  const events = messages.map(({ seq, ts, message: { id, payload }, from: sender }) => {
    const begin = text.indexOf('"payload":', text.indexOf(`"id":"${id}"`, from)) + 10;
    const end = endOf(text, begin, `},"seq":${seq},"ts":"${ts}"`);
    from = end;
    return { type: "event", key: `${seq}`, seq, ts, id, payload, sender, raw: text.slice(begin, end) };
  });
  return { events, complete };
}

/** The end of a JSON value before `next`. A value may contain that text too, but is not valid if it is cut there. */
function endOf(text, begin, next) {
  for (let end = text.indexOf(next, begin); end > 0; end = text.indexOf(next, end + 1)) if (!jsonFault(text.slice(begin, end))) return end;
  return begin;
}

/** Publish JSON text as it is. Resolves to the answer of the server. */
export function publish(topic, payload, { id, ttl_sec, expect_seq } = {}) {
  return call("POST", at`topics/${topic}/messages`, { body: bodyOf(payload, { id, ttl_sec, expect_seq }) });
}

export function bodyOf(payload, options) {
  const others = JSON.stringify(options).slice(1, -1); // undefined ones are left out
  return `{"payload":${payload}${others && `,${others}`}}`;
}

/** Publish a kept message again, with the same payload and an id of its own. */
export async function publishAgain(topic, { seq, payload }) {
  const { events } = await keptMessages(topic, { after: seq - 1, limit: 1 });
  return publish(topic, events[0]?.seq === seq ? events[0].raw : JSON.stringify(payload));
}

/** The beginning of a payload. */
export const preview = (raw, most = 220) => (raw.length > most ? `${raw.slice(0, most)}…` : raw);
