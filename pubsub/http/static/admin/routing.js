// The screens have URLs of their own behind the #: `#/topics/orders?filter=…`. Nothing here knows a screen.

import { useEffect, useState } from "./preact.js";

function read() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { path: path.split("/").map(decoded), query: Object.fromEntries(new URLSearchParams(query)) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The URL of a screen: to("topics", "orders"). An object at the end is the query; empty values are left out. */
export function to(...parts) {
  const query = new URLSearchParams();
  const given = typeof parts.at(-1) === "object" ? parts.pop() : {};
  for (const [name, value] of Object.entries(given)) if (value !== "" && value != null) query.set(name, value);
  const path = `#/${parts.map(encodeURIComponent).join("/")}`;
  return query.size ? `${path}?${query}` : path;
}

/** Go to a screen without a new entry in the history: for a search as it is typed. */
export function replace(url) {
  history.replaceState(null, "", url);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** The path and the query of the screen, as long as this component is shown. */
export function useRoute() {
  const [route, change] = useState(read);
  useEffect(() => {
    const update = () => location.hash !== "#main" && change(read());
    addEventListener("hashchange", update);
    update(); // it may have changed since the first render
    return () => removeEventListener("hashchange", update);
  }, []);
  return route;
}
