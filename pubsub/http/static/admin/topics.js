// The topics: search, order and pages come from the server.

import { html, useState } from "./preact.js";
import { about, bytes, count } from "./formats.js";
import { at, call } from "./server.js";
import { Badge, Card, Curl, Outcome } from "./parts.js";
import { Confirm } from "./dialog.js";
import { NewTopic } from "./new_topic.js";
import { amount, Pages, Search, Table } from "./table.js";
import { replace, to } from "./routing.js";
import { usePolling } from "./polling.js";

const LIMIT = 50;

/** The options of a topic that are not the usual ones. */
export function Options({ of }) {
  const { durable, ttl_sec: ttl, dedup_sec: dedup, overflow, sender, presence, dead_letter: letter } = of;
  const badges = [
    durable && "durable", ttl && `ttl ${ttl} s`, dedup && `dedup ${dedup} s`, overflow !== "drop_oldest" && overflow.replaceAll("_", " "),
    sender && "sender", presence && "presence", letter && `dead letters: ${letter}`,
  ].filter(Boolean);
  return html`<span class="badges">${badges.map((text) => html`<${Badge} key=${text}>${text}<//>`)}</span>`;
}

/** Messages a second of each topic, from two answers. */
function ratesOf({ value, before, at: now, beforeAt }) {
  const earlier = new Map(before?.topics.map((topic) => [`${topic.name} ${topic.epoch}`, topic.seq]));
  return (topic) => {
    const seq = earlier.get(`${topic.name} ${topic.epoch}`);
    return seq === undefined || !value ? null : ((topic.seq - seq) * 1000) / (now - beforeAt);
  };
}

export function Topics({ query, may }) {
  const { search = "", sort = "name", order = "asc", page = "1" } = query;
  const wanted = { search, sort, order, page, limit: LIMIT };
  const asked = usePolling("admin/topics", 5, wanted);
  const [creating, create] = useState(false);
  const [deleting, remove] = useState(null);
  const rate = ratesOf(asked);
  const columns = [
    { label: "Topic", sort: "name", cell: ({ name }) => html`<a class="name" href=${to("topics", name)}>${name}</a>` },
    amount("Published", "messages", count),
    { label: "A second", number: true, cell: (topic) => about(rate(topic)) },
    amount("Subscribers", "subscribers", count),
    { label: "Kept", number: true, cell: (topic) => bytes(topic.bytes) },
    { label: "Options", cell: ({ options }) => html`<${Options} of=${options} />` },
    { label: "Delete", number: true, cell: ({ name }) => html`<button type="button" class="quiet" disabled=${!may.change}
      title=${may.change ? null : "Your key may only read."} aria-label=${`Delete ${name}`} onClick=${() => remove(name)}>Delete</button>` },
  ];
  return html`
    <div class="toolbar">
      <${Search} screen=${["topics"]} query=${query} label="Search topics" />
      <${Curl} path="admin/topics" query=${wanted} />
      <button type="button" class="primary" disabled=${!may.change} title=${may.change ? null : "Your key may only read."} onClick=${() => create(true)}>New topic</button>
    </div>
    <${Card}>
      <${Outcome} of=${asked} noun="topics" />
      ${asked.value && html`
        <${Table} label="Topics" columns=${columns} rows=${asked.value.topics} rowKey=${({ name }) => name} order=${{ sort, order }}
          empty=${search ? "No topic has this in its name." : "There is no topic yet."} onSort=${(next) => replace(to("topics", { ...query, ...next, page: null }))} />
        <${Pages} screen=${["topics"]} query=${query} found=${asked.value.found} limit=${LIMIT} noun="topic" />`}
    <//>
    ${creating && html`<${NewTopic} onClose=${() => create(false)} onCreated=${(name) => (location.hash = to("topics", name))} />`}
    ${deleting !== null && html`<${DeleteTopic} name=${deleting} onClose=${() => remove(null)} onDeleted=${asked.again} />`}`;
}

export const DeleteTopic = ({ name, onClose, onDeleted }) => html`<${Confirm} title="Delete a topic" name=${name} noun="topic" label="Delete topic"
  text="The topic and all its messages are gone for good. Its subscribers are told."
  call=${{ method: "DELETE", path: at`topics/${name}` }} onClose=${onClose}
  run=${async () => {
    await call("DELETE", at`topics/${name}`);
    onDeleted();
  }} />`;

export const PurgeTopic = ({ name, onClose, onPurged }) => html`<${Confirm} title="Purge a topic" name=${name} noun="topic" label="Forget messages"
  text="The messages that the topic keeps are forgotten. Its numbers continue."
  call=${{ method: "DELETE", path: at`topics/${name}/messages` }} onClose=${onClose}
  run=${async () => onPurged(await call("DELETE", at`topics/${name}/messages`))} />`;
