// A hook for React and Preact: the newest messages and gaps of a topic, and the error that ended them, if any.
import { useEffect, useState } from "react";

export function usePubsub(client, topic, { keep = 100, ...options } = {}) {
  const [items, setItems] = useState([]);
  const [error, setError] = useState(null);

  useEffect(() => {
    const events = client.subscribe(topic, options);
    async function receive() {
      for await (const item of events) setItems((before) => [...before, item].slice(-keep));
    }
    setItems([]);
    setError(null);
    receive().catch(setError);
    return () => events.close();
  }, [client, topic, keep, JSON.stringify(options)]); // the options are a new object at each rendering

  return { items, error };
}
