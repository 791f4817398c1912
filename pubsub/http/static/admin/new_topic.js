// A form for a new topic, with all options explained. What is left empty is the default of the server, or of a rule.

import { html, useState } from "./preact.js";
import { call } from "./server.js";
import { Curl, Fault, Field } from "./parts.js";
import { Dialog } from "./dialog.js";

const OVERFLOWS = {
  drop_oldest: "Drop the oldest (default): the newest message always arrives",
  drop_newest: "Drop the newest: what waits is kept",
  latest: "Latest: only the newest message waits for a client that lags",
  disconnect: "Disconnect: a client that lags is closed, and resumes",
};

const NUMBERS = [
  ["history", "Messages kept", "For replay and history. Empty: RING_BUFFER_SIZE, or the rule for the name."],
  ["ttl_sec", "Time to live, in seconds", "An older message is neither replayed nor delivered. Empty: no limit."],
  ["dedup_sec", "Duplicates, in seconds", "A second message with the same id in this time is acknowledged, and not delivered. Empty: none."],
];

const SWITCHES = [
  ["durable", "Durable", "The topic and its messages survive a crash. A publish is acknowledged once it is on disk."],
  ["sender", "Sender", "Each message names the client that published it."],
  ["presence", "Presence", "The topic shows its clients, and tells them of those that join and leave."],
];

/** The body of the call: only what was chosen. */
function bodyOf(chosen) {
  const entries = Object.entries(chosen).filter(([, value]) => value !== "" && value !== false);
  return JSON.stringify(Object.fromEntries(entries.map(([name, value]) => [name, NUMBERS.some(([each]) => each === name) ? Number(value) : value])));
}

export function NewTopic({ onClose, onCreated }) {
  const [chosen, change] = useState({ name: "" });
  const [fault, fail] = useState("");
  const choose = (name, value) => change((now) => ({ ...now, [name]: value }));
  const body = bodyOf(chosen);
  const submit = async (event) => {
    event.preventDefault();
    try {
      await call("POST", "topics", { body });
      onCreated(chosen.name);
    } catch (error) {
      fail(error.message);
    }
  };
  const text = (name, type) => (attributes) => html`<input ...${attributes} type=${type} min="0" step="any" value=${chosen[name] ?? ""}
    autocomplete="off" spellcheck="false" required=${name === "name"} onInput=${(event) => choose(name, event.target.value)} />`;
  return html`<${Dialog} title="New topic" onClose=${onClose}>
    <form onSubmit=${submit}>
      <${Field} label="Name" help="ASCII letters, digits and _ - : ~ in segments parted by dots, such as orders.eu" input=${text("name", "text")} />
      <div class="columns">${NUMBERS.map(([name, label, help]) => html`<${Field} key=${name} label=${label} help=${help} input=${text(name, "number")} />`)}
        <${Field} label="Dead letters to" help="A topic that gets what subscribers of this one lose. It must exist." input=${text("dead_letter", "text")} />
      </div>
      <${Field} label="When a subscriber's queue is full" input=${(attributes) => html`<select ...${attributes} onChange=${(event) => choose("overflow", event.target.value)}>
        ${Object.entries(OVERFLOWS).map(([value, label]) => html`<option key=${value} value=${value === "drop_oldest" ? "" : value}>${label}</option>`)}</select>`} />
      <fieldset><legend>Also</legend>${SWITCHES.map(([name, label, help]) => html`<label class="switch" key=${name}>
        <input type="checkbox" checked=${chosen[name] ?? false} onChange=${(event) => choose(name, event.target.checked)} /><span><b>${label}</b><small>${help}</small></span></label>`)}</fieldset>
      <${Fault}>${fault}<//>
      <footer><${Curl} method="POST" path="topics" body=${body} /><button type="button" class="quiet" onClick=${onClose}>Cancel</button><button class="primary">Create topic</button></footer>
    </form>
  <//>`;
}
