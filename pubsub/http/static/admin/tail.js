// The messages of a topic as they come: pause, filter, replay, and a jump to a seq that the topic still keeps.

import { html, useEffect, useState } from "./preact.js";
import { count, moment } from "./formats.js";
import { at } from "./server.js";
import { Action, Card, Copy, Curl, Empty, Fault, Payload } from "./parts.js";
import { keptMessages, preview, publishAgain } from "./messages.js";
import { to } from "./routing.js";
import { useTail } from "./live.js";

const PAGE = 50;
const REPLAYS = [0, 10, 50, 200];

export function Tail({ topic, query, may }) {
  const { filter = "", seq } = query;
  const last = Number(query.last ?? 10);
  const here = (changed) => to("topics", topic, { filter, last: query.last, seq, ...changed });
  const change = (changed) => (location.hash = here(changed));
  const submit = (name) => (event) => {
    event.preventDefault();
    change({ seq: null, [name]: event.target.elements[name].value });
  };
  return html`<${Card} title="Messages" kind="wide" actions=${html`<${Curl} path=${at`topics/${topic}/messages`} query=${seq ? { after: seq - 1, limit: PAGE } : { last_n: last || 10 }} />`}>
    <div class="toolbar inner">
      <form onSubmit=${submit("filter")} role="search"><input name="filter" class="wide" aria-label="Filter in CEL" placeholder="payload.amount > 100" value=${filter} maxlength="512" autocomplete="off" spellcheck="false" /><button>Filter</button></form>
      <form onSubmit=${submit("seq")}><input name="seq" type="number" min="1" aria-label="Jump to seq" placeholder="seq" value=${seq ?? ""} required /><button>Jump</button></form>
      <label class="inline">Replay <select onChange=${(event) => change({ seq: null, last: event.target.value })} value=${String(last)}>${REPLAYS.map((number) => html`<option key=${number} value=${String(number)} selected=${number === last}>${number ? `last ${number}` : "nothing"}</option>`)}</select></label>
    </div>
    ${seq ? html`<${Kept} topic=${topic} seq=${Number(seq)} filter=${filter} here=${here} may=${may} />` : html`<${Live} topic=${topic} filter=${filter} last=${last} may=${may} />`}
  <//>`;
}

function Live({ topic, filter, last, may }) {
  const [paused, pause] = useState(false);
  const { items, error, waiting } = useTail(topic, { filter: filter || undefined, lastN: last }, paused);
  return html`
    <div class="state"><span class=${`dot ${paused ? "warn" : error ? "bad" : "good"}`} aria-hidden="true"></span>
      <span role="status">${paused ? `Paused: ${count(waiting)} new` : error ? "Stopped" : "Live, the newest first"}</span>
      <button type="button" aria-pressed=${paused ? "true" : "false"} onClick=${() => pause(!paused)}>${paused ? "Go on" : "Pause"}</button></div>
    <${Fault}>${error?.message}<//>
    ${!items.length && !error && html`<${Empty}>No message yet. What is published from now on appears here.<//>`}
    <ol class="messages">${items.map((item) => html`<${Item} key=${item.key} topic=${topic} item=${item} may=${may} />`)}</ol>`;
}

/** Messages from a seq on, as far as the topic keeps them. */
function Kept({ topic, seq, filter, here, may }) {
  const [found, find] = useState({});
  useEffect(() => {
    const ending = new AbortController();
    find({});
    keptMessages(topic, { after: seq - 1, limit: PAGE, filter }, ending.signal).then(find, (error) => error.name !== "AbortError" && find({ error }));
    return () => ending.abort();
  }, [topic, seq, filter]);
  const { events, complete, error } = found;
  return html`
    <div class="state"><span role="status">${events ? `From seq ${count(seq)}, the oldest first` : error ? "Stopped" : "Loading…"}</span>
      <a class="button quiet" href=${here({ seq: Math.max(1, seq - PAGE) })}>Older</a>
      <a class="button quiet" href=${here({ seq: (events?.at(-1)?.seq ?? seq) + 1 })}>Newer</a><a class="button" href=${here({ seq: null })}>Live</a></div>
    <${Fault}>${error?.message}<//>
    ${complete === false && html`<p class="notice">A part of what you asked for is no longer kept.</p>`}
    ${events?.length === 0 && html`<${Empty}>The topic keeps no message from this seq on.<//>`}
    <ol class="messages">${events?.map((item) => html`<${Item} key=${item.key} topic=${topic} item=${item} may=${may} open=${item.seq === seq} />`)}</ol>`;
}

function Item({ topic, item, may, open }) {
  if (item.type === "gap") return html`<li class="gap">${item.reason === "created_again" ? "The topic was created again." : `Left out, too many at once: seq ${count(item.fromSeq)} to ${count(item.toSeq)}.`}</li>`;
  if (item.type === "notice") return html`<li class="gap">${item.kind.replaceAll("_", " ")} ${item.clientId ?? ""}</li>`;
  return html`<${Message} topic=${topic} item=${item} may=${may} open=${open} />`;
}

function Message({ topic, item, may, open }) {
  const { seq, ts, id, payload, sender } = item;
  const [shown, show] = useState(open ?? false);
  const [raw, write] = useState(item.raw ?? JSON.stringify(payload));
  useEffect(() => {
    if (!shown || item.raw) return;
    keptMessages(topic, { after: seq - 1, limit: 1 }).then(({ events: [kept] }) => kept?.seq === seq && write(kept.raw), () => {}); // as it was written, if it is kept
  }, [shown]);
  const again = async () => `Published as seq ${count((await publishAgain(topic, item)).seq)}`;
  return html`<li><details open=${shown} onToggle=${(event) => show(event.target.open)}>
    <summary><span class="seq">#${seq}</span><time>${moment(ts)}</time>${sender && html`<span class="sender">${sender}</span>`}<code>${preview(raw)}</code></summary>
    ${shown && html`<div class="opened"><${Payload} raw=${raw} /><p class="note">id <code>${id}</code></p>
      <div class="line"><${Action} run=${again} label="Publish again" allowed=${may.publish} why="Your key may not publish." />
        <${Copy} text=${raw} label="Copy payload" />
        <${Curl} path=${at`topics/${topic}/messages`} query=${{ after: seq - 1, limit: 1 }} />
        <a class="button quiet" href=${to("why", { topic, seq })}>Who got it?</a></div></div>`}
  </details></li>`;
}
