// The live messages of a topic, by the JavaScript client of the server. While the page is hidden there is no connection.

import { Client } from "../../client.js";
import { useVisible } from "./polling.js";
import { useEffect, useRef, useState } from "./preact.js";
import { base, credential, isToken } from "./server.js";

const KEPT = 500; // messages on the page
const PERIOD = 150; // milliseconds between two updates of the page, whatever number of messages comes

/** A connection with the rights of the reader. A key is only taken over HTTP, so then the client streams, with the name of the key. */
function connect(onState) {
  const key = credential();
  if (!key) return new Client(base, { clientId: `dashboard-${Math.random().toString(16).slice(2, 8)}`, onState });
  return isToken(key) ? new Client(base, { token: key, onState }) : new Client(base, { clientId: "", apiKey: key, WebSocket: null, onState });
}

/** A connection that `close` ends, but not before it is open or has failed: browsers complain of that in their console. */
function open() {
  let settled = false;
  let ended = false;
  const client = connect(() => {
    settled = true;
    if (ended) client.close();
  });
  const close = () => {
    if (settled && !ended) client.close();
    ended = true;
  };
  return { client, close };
}

/** The newest items of a topic, the newest first. A change of `wanted` (`filter`, `lastN`) begins anew. */
export function useTail(topic, wanted, paused) {
  const [items, show] = useState([]);
  const [error, fail] = useState(null);
  const [waiting, wait] = useState(0);
  const visible = useVisible();
  const kept = useRef({});
  const key = JSON.stringify([topic, wanted]);

  useEffect(() => {
    if (!visible) return;
    const same = kept.current.key === key;
    const state = same ? kept.current : (kept.current = { key, items: [], fresh: 0 });
    if (!same) show([]);
    fail(null);
    return follow(topic, { ...wanted, resume: state.position }, state, fail);
  }, [key, visible]);

  useEffect(() => {
    const timer = setInterval(() => {
      const state = kept.current;
      if (paused) wait(state.fresh ?? 0);
      else if (state.fresh) {
        state.fresh = 0;
        show(state.items);
      }
    }, PERIOD);
    wait(0);
    return () => clearInterval(timer);
  }, [paused]);

  return { items, error, waiting };
}

/** Collect the items of a topic in `state`. Returns a function that ends it. */
function follow(topic, options, state, fail) {
  const { client, close } = open();
  const events = client.subscribe(topic, { ...options, mend: false, notices: true });
  const read = async () => {
    for await (const item of events) {
      state.items = [{ ...item, key: `${item.epoch}:${item.seq ?? `${item.type}${Date.now()}`}` }, ...state.items].slice(0, KEPT);
      state.fresh += 1;
      state.position = events.position;
    }
  };
  read().catch((error) => error.name !== "Disconnected" && fail(error));
  return () => {
    state.position = events.position;
    events.close();
    close();
  };
}
