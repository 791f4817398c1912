// Questions that are asked again and again: only while the page can be seen, and never two at a time.

import { useEffect, useRef, useState } from "./preact.js";

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
 * What `ask(signal)` resolves to, asked every `seconds`, and at once when one of `about` changes.
 *
 * `value` stays while a later question fails with `error`. `before` is the value before this one; `again` asks now.
 */
export function usePolling(ask, seconds, about) {
  const [state, change] = useState({});
  const [asked, askNow] = useState(0);
  const visible = useVisible();
  const subject = useRef();
  useEffect(() => {
    if (!visible) return;
    const key = JSON.stringify(about);
    if (subject.current !== key) change({});
    subject.current = key;
    const ending = new AbortController();
    let timer;
    const turn = async () => {
      try {
        const value = await ask(ending.signal);
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
  }, [visible, asked, seconds, ...about]);
  return { ...state, again: () => askNow((number) => number + 1) };
}
