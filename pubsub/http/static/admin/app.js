// The page: its frame, the sign-in, and the screen that the URL names.

import { html, render, useEffect, useRef, useState } from "./preact.js";
import { credential, onSignedOut, signOut } from "./server.js";
import { healthOf, Overview } from "./overview.js";
import { moment } from "./formats.js";
import { Clients } from "./clients.js";
import { ClientScreen } from "./client.js";
import { Publish } from "./publish.js";
import { Settings } from "./settings.js";
import { SignIn } from "./sign_in.js";
import { Slow } from "./slow.js";
import { Storage } from "./storage.js";
import { to, useRoute } from "./routing.js";
import { Tokens } from "./tokens.js";
import { Topics } from "./topics.js";
import { TopicScreen } from "./topic.js";
import { usePolling } from "./polling.js";
import { Why } from "./why.js";

const MENU = [
  ["", "Overview"], ["topics", "Topics"], ["clients", "Clients"], ["slow", "Slowest consumers"], ["why", "Why?"],
  ["publish", "Publish"], ["storage", "Storage"], ["settings", "Settings"], ["tokens", "Permissions"],
];
const SCREENS = { topics: Topics, clients: Clients, slow: Slow, why: Why, publish: Publish, storage: Storage, settings: Settings, tokens: Tokens };

/** The screen of a route, and its title. */
function screenOf({ path: [section, ...rest], query }, overview) {
  const name = rest.join("/");
  const shared = { query, may: overview.may, overview };
  if (section === "topics" && name) return [name, html`<${TopicScreen} key=${name} name=${name} ...${shared} />`];
  if (section === "clients" && name) return [name, html`<${ClientScreen} key=${name} id=${name} ...${shared} />`];
  const title = MENU.find(([each]) => each === section)?.[1];
  if (title && section) return [title, html`<${SCREENS[section]} ...${shared} />`];
  return title ? [title, html`<${Overview} ...${shared} />`] : ["Not found", html`<p class="empty">There is no such screen.</p>`];
}

/** Note when the server was restarted while the page was open. */
function useRestart(overview, error) {
  const before = useRef(null);
  const [restarted, tell] = useState(null);
  useEffect(() => {
    if (!overview) return;
    if (before.current !== null && overview.run !== before.current) tell(overview.started);
    before.current = overview.run;
  }, [overview]);
  if (error?.status === 0) return html`<p class="banner bad" role="alert">The server does not answer. This page shows what it knew last, and tries again.</p>`;
  return restarted && html`<p class="banner warn" role="status">The server was restarted at ${moment(restarted)}. Its counts began anew; everything goes on.
    <button type="button" class="quiet" onClick=${() => tell(null)}>Dismiss</button></p>`;
}

function Menu({ section, overview, onSignIn }) {
  const here = useRef();
  useEffect(() => here.current?.scrollIntoView({ block: "nearest", inline: "center" }), [section]);
  return html`<nav class="menu" aria-label="Screens"><div>
    <a class="brand" href=${to("")}><span class=${`dot ${healthOf(overview).kind}`} aria-hidden="true"></span>pubsub<small>${overview.version}</small></a>
    <ul>${MENU.map(([name, label]) => html`<li key=${name}><a href=${to(name)} ref=${section === name ? here : null} aria-current=${section === name ? "page" : null}>${label}</a></li>`)}</ul>
    <div class="end"><a href="docs">API documents</a>${credential()
      ? html`<button type="button" class="quiet" onClick=${signOut}>Sign out</button>`
      : html`<button type="button" class="quiet" onClick=${onSignIn}>Use a key</button>`}</div>
  </div></nav>`;
}

function App() {
  const [signedIn, sign] = useState(0);
  const [locked, lock] = useState(false);
  const route = useRoute();
  const heading = useRef();
  const onOverview = route.path[0] === "";
  const asked = usePolling("admin/overview", onOverview ? 5 : 15, null, signedIn);
  useEffect(() => onSignedOut(() => lock(true)), []);
  const overview = asked.value;
  const banner = useRestart(overview, asked.error);
  const [title, screen] = overview ? screenOf(route, overview) : ["pubsub", null];
  useEffect(() => {
    document.title = `${title} · pubsub`;
    heading.current?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [title]);
  if (locked || (asked.error?.status === 401 && !overview)) return html`<${SignIn} onSignedIn=${() => {
    lock(false);
    sign(signedIn + 1);
  }} />`;
  if (!overview) return html`<main id="main" class="alone">${banner || (asked.error ? html`<p class="fault" role="alert">${asked.error.message}</p>` : html`<p class="empty" role="status">Asking the server…</p>`)}
    ${asked.error && credential() && html`<button type="button" onClick=${signOut}>Sign in with another key</button>`}</main>`;
  return html`<div class="frame">
    <${Menu} section=${route.path[0]} overview=${overview} onSignIn=${() => lock(true)} />
    <main id="main" tabindex="-1">
      ${banner}
      ${!overview.may.change && html`<p class="banner" role="status">You are signed in with a key that may ${overview.may.publish ? "publish and read" : "only read"}: what it may not do is disabled.</p>`}
      <h1 ref=${heading} tabindex="-1">${title}</h1>
      ${screen}
    </main>
  </div>`;
}

render(html`<${App} />`, document.getElementById("app"));
