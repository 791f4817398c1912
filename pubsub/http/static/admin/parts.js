// The small parts of which the screens are made. Every text from outside is shown as text: nothing here writes HTML.

import { html, useState } from "./preact.js";
import { curl } from "./server.js";

/** A part of a screen with a heading. */
export const Card = ({ title, note, actions, children, kind = "" }) => html`
  <section class=${`card ${kind}`} aria-label=${title}>
    ${title && html`<header><h2>${title}</h2>${note && html`<span class="note">${note}</span>`}
      ${actions && html`<div class="actions">${actions}</div>`}</header>`}
    ${children}
  </section>`;

export const Badge = ({ kind = "", children }) => html`<span class=${`badge ${kind}`}>${children}</span>`;

/** What stands in place of rows that are not there. */
export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

/** What went wrong, if something did. */
export const Fault = ({ children }) => children && html`<p class="fault" role="alert">${children}</p>`;

/** A server among several, by the start of its id. */
export const At = ({ server }) => server && html` <code>${server.slice(0, 8)}</code>`;

/** The servers that did not answer, and whose part is not in the answer. */
export const Missing = ({ of }) => of.missing && html`<${Fault}>No answer from${of.missing.map((server) => At({ server }))}<//>`;

/** The error of a question, if it has one; while there is no answer at all, that it is asked for. */
export function Outcome({ of, noun }) {
  if (of.error && of.error.status !== 0) return html`<${Fault}>${of.error.message}<//>`;
  if (!of.value) return html`<p class="empty" role="status">${of.error ? "Waiting for the server…" : `Loading ${noun}…`}</p>`;
  return html`<${Missing} of=${of.value} />`;
}

/** A button for an action that may take a while: it says what went wrong, and cannot be pressed twice. */
export function Action({ run, label, kind = "", allowed = true, why = "Your key may only read.", done }) {
  const [state, change] = useState({});
  const press = async () => {
    change({ busy: true });
    try {
      change({ said: (await run()) ?? done });
      setTimeout(() => change((now) => (now.fault || now.busy ? now : {})), 4000);
    } catch (error) {
      change({ fault: error.message });
    }
  };
  return html`<span class="action">
    <button type="button" class=${kind} onClick=${press} disabled=${!allowed || state.busy} title=${allowed ? null : why}>${label}</button>
    ${state.said && html`<span class="said" role="status">${state.said}</span>`}
    ${state.fault && html`<span class="fault" role="alert">${state.fault}</span>`}
  </span>`;
}

/** The call as a command, for the clipboard. */
export function Curl({ method = "GET", path, query, body, label = "Copy as curl" }) {
  const copy = async () => {
    await navigator.clipboard.writeText(curl(method, path, { query, body: typeof body === "function" ? body() : body }));
    return "Copied";
  };
  return html`<${Action} run=${copy} label=${label} kind="quiet curl" />`;
}

export const Copy = ({ text, label }) => html`<${Action} run=${async () => navigator.clipboard.writeText(text)} done="Copied" label=${label} kind="quiet" />`;

let fields = 0;

/** A field of a form with its label, and what it means. `input` gets the attributes that it needs. */
export function Field({ label, help, input, fault }) {
  const [id] = useState(() => `field-${++fields}`);
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${input({ id, "aria-describedby": help || fault ? `${id}-help` : null, "aria-invalid": fault ? "true" : null })}
    ${(help || fault) && html`<small id=${`${id}-help`} class=${fault ? "fault" : ""}>${fault || help}</small>`}
  </div>`;
}

/** A line of names and values. */
export const Facts = ({ of }) => html`<dl class="facts">
  ${of.map(([name, value, note]) => html`<div key=${name}><dt>${name}</dt><dd>${value}${note && html`<small>${note}</small>`}</dd></div>`)}
</dl>`;

const LONG = 20_000; // characters: a longer payload is shown as it is
const EXACT = /[\d.]{16}|\d\.0|\d[eE]/; // numbers that JavaScript would write in another way

/** A payload with line breaks, if that changes no number in it. */
export function Payload({ raw }) {
  const text = raw.length > LONG || EXACT.test(raw) ? raw : JSON.stringify(JSON.parse(raw), null, 2);
  return html`<pre class="payload" tabindex="0" aria-label="payload">${text}</pre>`;
}
