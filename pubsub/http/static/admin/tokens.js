// The permission tester: paste a token, and the server says what it may, and why not. The token is not kept.

import { html, useState } from "./preact.js";
import { call } from "./server.js";
import { duration } from "./formats.js";
import { Badge, Card, Curl, Facts, Fault, Field } from "./parts.js";

export function Tokens({ may }) {
  const [fields, change] = useState({ token: "", topic: "" });
  const [outcome, end] = useState({});
  const set = (name) => (event) => change({ ...fields, [name]: event.target.value });
  const submit = async (event) => {
    event.preventDefault();
    end({});
    try {
      end({ report: await call("POST", "admin/token", { body: JSON.stringify({ ...fields, token: fields.token.trim().replace(/^Bearer /i, "") }) }) });
    } catch (error) {
      end({ fault: error.message });
    }
  };
  return html`
    <p class="lead">The server verifies the token as it would for a client, and stores nothing.</p>
    <${Card}><form onSubmit=${submit}>
      <${Field} label="Token (JWT)" input=${(attributes) => html`<textarea ...${attributes} rows="4" required spellcheck="false" autocomplete="off" value=${fields.token} onInput=${set("token")}></textarea>`} />
      <${Field} label="Topic" help="Optional: its rights to this one." input=${(attributes) => html`<input ...${attributes} value=${fields.topic} autocomplete="off" spellcheck="false" onInput=${set("topic")} />`} />
      <footer><${Curl} method="POST" path="admin/token" body=${JSON.stringify({ token: "…", topic: fields.topic })} /><button class="primary" disabled=${!may.change} title=${may.change ? null : "Only an admin may ask this."}>Test the token</button></footer>
      <${Fault}>${outcome.fault}<//>
    </form><//>
    ${outcome.report && html`<${Report} report=${outcome.report} />`}`;
}

const Patterns = ({ of, none }) => (of.length ? html`<span class="badges">${of.map((each) => html`<${Badge} key=${each}>${each}<//>`)}</span>` : html`<span class="note">${none}</span>`);

function Report({ report }) {
  if (!report.accepted) return html`<p class="health bad" role="status"><span class="dot" aria-hidden="true"></span>Not accepted: ${report.reason}</p>`;
  const { rights } = report;
  const filters = Object.entries(report.filters);
  return html`
    <p class="health good" role="status"><span class="dot" aria-hidden="true"></span>Accepted: it is <b class="name">${report.client_id}</b>${report.admin && ", an admin"}, for ${duration(report.expires_in_sec)} more.</p>
    ${rights && html`<${Card} title=${`Rights to ${rights.topic}`}>
      <p><${Badge} kind=${rights.subscribe ? "good" : "bad"}>${rights.subscribe ? "may subscribe" : "may not subscribe"}<//> <${Badge} kind=${rights.publish ? "good" : "bad"}>${rights.publish ? "may publish" : "may not publish"}<//></p>
      <p>${rights.because}</p>${rights.filters.map((text) => html`<p key=${text}>Only messages that match <code>${text}</code></p>`)}<//>`}
    <${Card} title="All rights"><${Facts} of=${[
      ["Subscribe", html`<${Patterns} of=${report.subscribe} none="nothing" />`],
      ["Publish", html`<${Patterns} of=${report.publish} none="nothing" />`],
      ["Filters", filters.length ? filters.map(([pattern, text]) => html`<p key=${pattern}><code>${pattern}</code>: <code>${text}</code></p>`) : "none"],
    ]} /><//>`;
}
