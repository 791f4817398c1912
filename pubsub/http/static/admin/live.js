// The live messages of a topic, by the JavaScript client of the server. While the page is hidden there is no connection.

import { Client } from "../../client.js";
import { useVisible } from "./polling.js";
import { useEffect, useRef, useState } from "./preact.js";
import { base, credential, isToken } from "./server.js";

const KEPT = 500; // messages on the page
const PERIOD = 150; // milliseconds between two updates of the page, whatever number of messages comes

/** A connection with the rights of the reader. A key is only taken over HTTP, so then the client streams. */
function connect() {
  const key = credential();
  const name = `dashboard-${Math.random().toString(16).slice(2, 8)}`;
  if (!key) return new Client(base, { clientId: name });
  return isToken(key) ? new Client(base, { token: key }) : new Client(base, { clientId: name, apiKey: key, WebSocket: null });
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
  const client = connect();
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
    client.close();
  };
}
