// Questions that are asked again and again: only while the page can be seen, and never two at a time.

import { useEffect, useRef, useState } from "./preact.js";
import { call } from "./server.js";

/** True as long as the page can be seen. */
export function useVisible() {
  const [visible, change] = useState(!document.hidden);
  useEffect(() => {
    const update = () => change(!document.hidden);
    document.addEventListener("visibilitychange", update);
    return () => document.removeEventListener("visibilitychange", update);
  }, []);
  return visible;
}

/**
 * The answer to GET `path`, asked for every `seconds`, and at once when the path, the query or `anew` changes.
 *
 * `value` stays while a later question fails with `error`. `before` is the value before this one; `again` asks now.
 */
export function usePolling(path, seconds, query, anew) {
  const [state, change] = useState({});
  const [asked, askNow] = useState(0);
  const visible = useVisible();
  const subject = useRef();
  const key = JSON.stringify([path, query, anew]);
  useEffect(() => {
    if (!visible) return;
    if (subject.current !== key) change({});
    subject.current = key;
    const ending = new AbortController();
    let timer;
    const turn = async () => {
      try {
        const value = await call("GET", path, { query, signal: ending.signal });
        change((known) => ({ value, at: Date.now(), before: known.value, beforeAt: known.at }));
      } catch (error) {
        if (error.name === "AbortError") return;
        change((known) => ({ ...known, error }));
      }
      if (!ending.signal.aborted) timer = setTimeout(turn, seconds * 1000);
    };
    turn();
    return () => {
      ending.abort();
      clearTimeout(timer);
    };
  }, [visible, asked, seconds, key]);
  return { ...state, again: () => askNow((number) => number + 1) };
}
