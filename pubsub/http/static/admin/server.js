// Calls to the server, and the key with which the reader has signed in. The key stays in this tab, and in no command.

/** The address of the server: the page may be below a path of a proxy. */
export const base = new URL("../../", import.meta.url).href;

const PLACE = "pubsub-key"; // in sessionStorage, which belongs to the tab
let signedOut = () => {};

export const credential = () => sessionStorage.getItem(PLACE) ?? "";
export const isToken = (text) => text.split(".").length === 3;

export function signIn(text) {
  sessionStorage.setItem(PLACE, text);
}

/** Forget the key. The page begins anew: without it, or with another one. */
export function signOut() {
  sessionStorage.removeItem(PLACE);
  location.reload();
}

/** Have `then` called when the server wants another key than that of the reader. */
export function onSignedOut(then) {
  signedOut = then;
}

/** An answer that is an error. `status` is 0 if there was no answer. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** A path with its values encoded: at`topics/${name}`. */
export const at = (parts, ...values) => String.raw({ raw: parts }, ...values.map(encodeURIComponent));

function urlOf(path, query) {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(query ?? {})) if (value !== "" && value != null) url.searchParams.set(name, value);
  return url.href;
}

/** Ask the server; resolves to the text of its answer. `body` is JSON text. Throws Refused. */
export async function callText(method, path, { query, body, signal } = {}) {
  const key = credential();
  const headers = key ? (isToken(key) ? { Authorization: `Bearer ${key}` } : { "X-API-Key": key }) : {};
  let response, text;
  try {
    response = await fetch(urlOf(path, query), { method, headers, body, signal });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer.");
  }
  if (response.ok) return text;
  if (response.status === 401) signedOut();
  throw new Refused(response.status, messageOf(text) ?? `The server answered with ${response.status}.`);
}

function messageOf(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return null;
  }
}

export const call = async (...request) => JSON.parse(await callText(...request));

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The same call as a command for a shell, with $KEY in place of the key. */
export function curl(method, path, { query, body } = {}) {
  const words = ["curl"];
  if (method !== "GET" && !(method === "POST" && body)) words.push("-X", method);
  const key = credential();
  if (key) words.push("-H", isToken(key) ? '"Authorization: Bearer $KEY"' : '"X-API-Key: $KEY"');
  if (body) words.push("-d", quoted(body));
  return [...words, quoted(urlOf(path, query))].join(" ");
}
