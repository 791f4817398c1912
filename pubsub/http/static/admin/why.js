// Why did this client not get that message: what is known of each of its connections, on a line of time.

import { html, useEffect, useState } from "./preact.js";
import { count, moment, words } from "./formats.js";
import { at, call } from "./server.js";
import { At, Badge, Card, Curl, Empty, Fault, Field } from "./parts.js";
import { OUTCOMES } from "./reasons.js";
import { to } from "./routing.js";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const KINDS = { sent: "good", queued: "warn", unknown: "", filtered: "warn", not_subscribed: "warn" };

/** The call for what the fields say, or null as long as they do not say enough. */
function questionOf({ client, topic, message }) {
  const wanted = (message ?? "").trim();
  if (!client || !wanted) return null;
  const query = UUID.test(wanted) ? { message: wanted, topic } : { topic, seq: wanted.replace(/^#/, "") };
  return query.seq !== undefined && (!topic || !/^\d+$/.test(query.seq)) ? null : { path: at`clients/${client}/trace`, query };
}

export function Why({ query, may }) {
  const asked = { client: query.client ?? "", topic: query.topic ?? "", message: query.message ?? query.seq ?? "" };
  const [fields, change] = useState(asked);
  const [found, find] = useState({});
  const question = questionOf(asked);
  useEffect(() => {
    change(asked);
    find({});
    if (!question) return;
    const ending = new AbortController();
    call("GET", question.path, { query: question.query, signal: ending.signal }).then(
      (trace) => find({ trace }),
      (error) => error.name !== "AbortError" && find({ error }),
    );
    return () => ending.abort();
  }, [JSON.stringify(asked)]);
  const submit = (event) => {
    event.preventDefault();
    location.hash = to("why", fields);
  };
  const field = (name, label, help, required) => html`<${Field} label=${label} help=${help} input=${(attributes) => html`<input ...${attributes} value=${fields[name]}
    required=${required} autocomplete="off" spellcheck="false" onInput=${(event) => change({ ...fields, [name]: event.target.value })} />`} />`;
  return html`
    <p class="lead">The answer is what the server knows, and never a guess.</p>
    <${Card}>
      <form class="columns ask" onSubmit=${submit}>
        ${field("client", "Client", "its client_id", true)}
        ${field("message", "Message", "its id, or its seq together with the topic", true)}
        ${field("topic", "Topic", "required with a seq", !UUID.test(fields.message.trim()))}
        <div class="line"><button class="primary" disabled=${!may.change} title=${may.change ? null : "Only an admin may ask this."}>Ask why</button>${question && html`<${Curl} ...${question} />`}</div>
      </form>
    <//>
    <${Fault}>${found.error?.message}<//>
    ${found.trace && html`<${Trace} trace=${found.trace} />`}`;
}

function Trace({ trace }) {
  const { client_id: client, topic, seq, message, published_at: published, connections } = trace;
  return html`<${Card} title=${`Message ${count(seq)} of ${topic}`} note=${message ? `id ${message}` : "no longer kept by its topic"}>
    ${connections.length === 0 && html`<${Empty}>Nothing is known of ${client}.<//>`}
    ${connections.map((connection, index) => html`<${Timeline} key=${index} published=${published} connection=${connection} number=${index + 1} of=${connections.length} client=${client} />`)}
  <//>`;
}

/** What happened to one connection, in the order of time. Moments of the same second keep the order in which they must have come. */
function Timeline({ published, connection, number, of, client }) {
  const { outcome, detail, server, connected_at: connected, subscribed_at: subscribed } = connection;
  const moments = [
    [connected, "Connected"],
    [subscribed, "Subscribed to the topic"],
    [published, "The message was published"],
  ].filter(([time]) => time).sort(([one], [other]) => new Date(one) - new Date(other));
  return html`<section class="trace" aria-label=${`Connection ${number} of ${of}`}>
    <h3><a class="name" href=${to("clients", client)}>${client}</a>${of > 1 && html`<small> connection ${number} of ${of}</small>`}<${At} server=${server} /> <${Badge} kind=${KINDS[outcome] ?? "bad"}>${words(outcome)}<//></h3>
    <ol class="timeline">
      ${moments.map(([time, text]) => html`<li key=${text}><time>${moment(time)}</time><span>${text}</span></li>`)}
      ${!subscribed && html`<li class="missing"><time>–</time><span>No subscription to the topic is known</span></li>`}
      <li class=${`end ${KINDS[outcome] ?? "bad"}`}><time>outcome</time><span>${words(outcome)}<small>${detail || OUTCOMES[outcome]}</small></span></li>
    </ol>
  </section>`;
}
