// A form to publish a message. Its payload goes to the server as it was typed.

import { html, useState } from "./preact.js";
import { count } from "./formats.js";
import { at } from "./server.js";
import { bodyOf, publish } from "./messages.js";
import { jsonFault } from "./json.js";
import { Card, Curl, Fault, Field } from "./parts.js";
import { to } from "./routing.js";

export function Publish({ query, may }) {
  const [fields, change] = useState({ topic: query.topic ?? "", payload: '{\n  "order_id": "ORD-123"\n}', id: "", ttl_sec: "", expect_seq: "" });
  const [outcome, end] = useState({});
  const set = (name) => (event) => change({ ...fields, [name]: event.target.value });
  const fault = jsonFault(fields.payload);
  const number = (text) => (text === "" ? undefined : Number(text));
  const options = { id: fields.id.trim() || undefined, ttl_sec: number(fields.ttl_sec), expect_seq: number(fields.expect_seq) };
  const submit = async (event) => {
    event.preventDefault();
    end({});
    try {
      end({ published: await publish(fields.topic, fields.payload, options) });
    } catch (error) {
      end({ fault: error.message });
    }
  };
  const input = (name, type, required) => (attributes) => html`<input ...${attributes} type=${type} min="0" step=${name === "ttl_sec" ? "any" : "1"} value=${fields[name]}
    required=${required} autocomplete="off" spellcheck="false" onInput=${set(name)} />`;
  const { published } = outcome;
  return html`<${Card}>
    <form onSubmit=${submit}>
      <${Field} label="Topic" input=${input("topic", "text", true)} />
      <${Field} label="Payload" fault=${fault} help="Valid JSON. Subscribers get these bytes." input=${(attributes) => html`<textarea ...${attributes} rows="10" spellcheck="false" value=${fields.payload} onInput=${set("payload")}></textarea>`} />
      <div class="columns">
        <${Field} label="Id" help="A UUID. Empty: the server makes one." input=${input("id", "text")} />
        <${Field} label="Time to live, in seconds" help="Empty: that of the topic." input=${input("ttl_sec", "number")} />
        <${Field} label="Only if seq is" help="Publish only if this is the newest seq of the topic." input=${input("expect_seq", "number")} />
      </div>
      <footer><${Curl} method="POST" path=${at`topics/${fields.topic}/messages`} body=${() => bodyOf(fields.payload, options)} />
        <button class="primary" disabled=${!may.publish || !!fault} title=${may.publish ? null : "Your key may not publish."}>Publish</button></footer>
      ${published && html`<p class="notice good" role="status">Published as seq <a href=${to("topics", fields.topic, { seq: published.seq })}>${count(published.seq)}</a>, id <code>${published.id}</code>${published.duplicate && " (a duplicate: it was there already)"}.</p>`}
      <${Fault}>${outcome.fault}<//>
    </form>
  <//>`;
}
