// A React hook: the newest items of a topic or a pattern. All components with the same client and topic share one
// subscription, which ends with the last of them.
import { useSyncExternalStore } from "react";

const stores = new WeakMap(); // for each client its stores, by topic

function makeStore(client, topic, keep) {
  const listeners = new Set();
  let items = [], position = {}, sub;
  function add(item) {
    items = [...items, item].slice(-keep);
    for (const listener of listeners) listener();
  }
  function subscribe(listener) {
    sub ??= client.subscribe(topic, Object.keys(position).length ? { resume: position } : { lastN: keep }, add);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size) return;
      ({ position } = sub);
      sub.close();
      sub = undefined;
    };
  }
  return { subscribe, read: () => items };
}

export function usePubsub(client, topic, keep = 50) {
  if (!stores.has(client)) stores.set(client, new Map());
  const byTopic = stores.get(client);
  if (!byTopic.has(topic)) byTopic.set(topic, makeStore(client, topic, keep));
  const { subscribe, read } = byTopic.get(topic);
  return useSyncExternalStore(subscribe, read, read);
}
