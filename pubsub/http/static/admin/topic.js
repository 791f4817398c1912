// One topic: what it is, its live messages, its consumers, and its dead letters.

import { html, useState } from "./preact.js";
import { bytes, count, duration } from "./formats.js";
import { at, call } from "./server.js";
import { Action, Card, Curl, Empty, Facts, Fault, Field, Outcome } from "./parts.js";
import { DeleteTopic, Options, PurgeTopic } from "./topics.js";
import { SlowTable } from "./slow.js";
import { Tail } from "./tail.js";
import { to } from "./routing.js";
import { usePolling } from "./polling.js";

export function TopicScreen({ name, query, may }) {
  const asked = usePolling(at`topics/${name}`, 5);
  const [open, show] = useState("");
  const [said, say] = useState("");
  const topic = asked.value;
  if (!topic) return html`<${Outcome} of=${asked} noun="the topic" />`;
  const { options } = topic;
  const close = () => show("");
  const locked = may.change ? null : "Your key may only read.";
  return html`
    <div class="toolbar">
      <${Options} of=${options} />
      <${Curl} path=${at`topics/${name}`} />
      <a class="button" href=${to("publish", { topic: name })}>Publish</a>
      <button type="button" disabled=${!may.change} title=${locked} onClick=${() => show("purge")}>Purge…</button>
      <button type="button" class="danger" disabled=${!may.change} title=${locked} onClick=${() => show("delete")}>Delete…</button>
    </div>
    ${said && html`<p class="notice" role="status">${said}</p>`}
    <${Fault}>${asked.error?.message}<//>
    <${Card}><${Facts} of=${[
      ["Newest seq", count(topic.seq)], ["Subscribers", count(topic.subscribers)], ["Kept", bytes(topic.bytes), `at most ${options.history == null ? "the default number of" : count(options.history)} messages`],
      ["Epoch", html`<code>${topic.epoch}</code>`], ["When a queue is full", options.overflow.replaceAll("_", " ")],
      ["Dead letters", options.dead_letter ? html`<a class="name" href=${to("topics", options.dead_letter)}>${options.dead_letter}</a>` : "none"],
    ]} /><//>
    <${Tail} topic=${name} query=${query} may=${may} />
    <div class="grid">
      <${DeadLetters} topic=${name} may=${may} />
      <${Consumers} topic=${name} />
      ${options.presence && html`<${Presence} topic=${name} />`}
    </div>
    ${open === "delete" && html`<${DeleteTopic} name=${name} onClose=${close} onDeleted=${() => (location.hash = to("topics"))} />`}
    ${open === "purge" && html`<${PurgeTopic} name=${name} onClose=${close} onPurged=${({ messages }) => {
      say(`${count(messages)} messages are forgotten.`);
      asked.again();
    }} />`}`;
}

function Consumers({ topic }) {
  const query = { topic };
  const asked = usePolling("slow", 5, query);
  return html`<${Card} title="Consumer lag" note="the 100 slowest" actions=${html`<${Curl} path="slow" query=${query} />`}>
    ${asked.value ? html`<${SlowTable} rows=${asked.value.slow} empty="Every subscriber of this topic keeps up." />` : html`<${Outcome} of=${asked} noun="consumers" />`}
  <//>`;
}

function Presence({ topic }) {
  const path = at`topics/${topic}/presence`;
  const asked = usePolling(path, 5);
  const { count: all, clients } = asked.value ?? {};
  return html`<${Card} title="Present" note=${asked.value ? `${count(all)} clients` : ""} actions=${html`<${Curl} path=${path} />`}>
    <${Outcome} of=${asked} noun="clients" />
    ${clients?.length === 0 && html`<${Empty}>Nobody is here.<//>`}
    <ul class="chips">${clients?.map(({ client_id: id, connections }) => html`<li key=${id}><a class="name" href=${to("clients", id)}>${id}</a>${connections !== 1 && html` <small>${connections ? `×${connections}` : "away"}</small>`}</li>`)}</ul>
    ${all > clients?.length && html`<p class="note">The first ${count(clients.length)} by name.</p>`}
  <//>`;
}

const LETTERS = 8; // of which the page shows what was lost

const isLetter = ({ payload }) => payload !== null && typeof payload === "object" && "from_seq" in payload && "reason" in payload;

/** The dead letters that this topic has got from others, if there are some. */
function DeadLetters({ topic, may }) {
  const [after, start] = useState("0");
  const asked = usePolling(at`topics/${topic}/messages`, 15, { last_n: LETTERS });
  const letters = (asked.value?.messages ?? []).map(({ seq, ts, message }) => ({ seq, ts, payload: message.payload })).filter(isLetter);
  if (!letters.length) return null;
  const path = at`topics/${topic}/redrive`;
  const body = JSON.stringify({ after: Number(after) || 0, limit: 100 });
  const redrive = async () => {
    const { letters, messages, skipped } = await call("POST", path, { body });
    asked.again();
    return `${count(letters)} letters read: ${count(messages)} messages published again, ${count(skipped)} skipped.`;
  };
  return html`<${Card} title="Dead letters" note=${`the last ${letters.length}`} actions=${html`<${Curl} method="POST" path=${path} body=${body} />`}>
    <ul class="letters">${letters.reverse().map(({ seq, ts, payload }) => html`<li key=${seq}>
      <b>#${count(seq)}</b> ${payload.client_id === null ? "several clients" : html`<a class="name" href=${to("clients", payload.client_id)}>${String(payload.client_id)}</a>`}
      ${" lost "}${count(payload.count)} of <a class="name" href=${to("topics", String(payload.topic), { seq: payload.from_seq })}>${String(payload.topic)}</a>${" "}
      <small>${String(payload.reason)}, seq ${count(payload.from_seq)} to ${count(payload.to_seq)}, ${duration((Date.now() - new Date(ts)) / 1000)} ago</small>
    </li>`)}</ul>
    <div class="line"><${Field} label="Redrive letters after seq" help="At most 100 letters at a time. Each message keeps its id."
      input=${(attributes) => html`<input ...${attributes} type="number" min="0" value=${after} onInput=${(event) => start(event.target.value)} />`} />
      <${Action} run=${redrive} label="Redrive" allowed=${may.change} /></div>
  <//>`;
}
