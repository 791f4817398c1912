// The overview: is it healthy, what is it doing, what was lost and why, and how did the last deployment go.

import { html } from "./preact.js";
import { about, bytes, count, duration, milliseconds, moment, plural, words } from "./formats.js";
import { Badge, Card, Curl, Empty, Missing } from "./parts.js";
import { amount, Table } from "./table.js";
import { Chart } from "./chart.js";
import { ENDINGS, LOSSES } from "./reasons.js";
import { to } from "./routing.js";

const LAG_MS = 100; // a loop that lags by so much keeps every client waiting
const CALM = 6; // samples, half a minute: one that is below means that the loop was only busy for a moment

const newest = (values) => values.findLast((value) => value != null) ?? null;
const highest = (values) => values.reduce((most, value) => Math.max(most, value ?? 0), 0);
const total = (counts) => Object.values(counts).reduce((sum, value) => sum + value, 0);

const mostFrequent = (counts) => Object.keys(counts).sort((one, other) => counts[other] - counts[one])[0];

/** The state of the server in one sentence: `kind` is good, warn or bad. */
export function healthOf(overview) {
  const { state, reason, lost, lagging, subscribers, series } = overview;
  const lag = Math.min(...series.loop_lag_ms.slice(-CALM).map(Number));
  const gone = total(lost);
  if (state === "draining") return { kind: "warn", text: "Shutting down: clients are told to reconnect, and no new one is accepted." };
  if (state === "degraded" && overview.servers) return { kind: "bad", text: `Degraded: publishes may fail (${reason}). Subscribers stay connected.` };
  if (state === "degraded") return { kind: "bad", text: `Degraded: durable topics cannot be stored (${reason}). All other topics are served.` };
  if (lag > LAG_MS) return { kind: "bad", text: `Overloaded: each client waits ${milliseconds(lag)} longer than it should. The server needs more of its core.` };
  const doing = newest(series.published)
    ? `${about(newest(series.published))} messages a second reach ${plural(subscribers, "subscriber")}`
    : `no messages now, ${plural(subscribers, "subscriber")}`;
  if (gone) return { kind: "warn", text: `Working: ${doing}. In the last 15 minutes subscribers lost ${plural(gone, "message")}, most by ${words(mostFrequent(lost))}.` };
  if (lagging) return { kind: "warn", text: `Working: ${doing}. ${plural(lagging, "client")} cannot keep up at the moment.` };
  return { kind: "good", text: `Healthy: ${doing}, and nothing was lost in the last 15 minutes.` };
}

export function Overview({ overview }) {
  const { series, lost, ended, arrivals } = overview;
  const { at } = series;
  const health = healthOf(overview);
  return html`
    <p class=${`health ${health.kind}`} role="status"><span class="dot" aria-hidden="true"></span>${health.text}</p>
    <${Tiles} overview=${overview} />
    ${overview.servers && html`<${Servers} of=${overview} />`}
    <div class="grid">
      <${Card} kind="wide"><${Chart} title="Messages a second" at=${at} format=${about}
        lines=${[{ label: "published", tone: "accent", values: series.published, fill: true }, { label: "delivered", tone: "second", values: series.delivered }]} /><//>
      <${Card}><${Chart} title="Delivery latency" at=${at} format=${milliseconds}
        lines=${[{ label: "p50", tone: "accent", values: series.p50_ms }, { label: "p99", tone: "warn", values: series.p99_ms }]} /><//>
      <${Card}><${Chart} title="Event-loop lag" at=${at} format=${milliseconds} lines=${[{ label: "p99", tone: "warn", values: series.loop_lag_ms, fill: true }]} /><//>
      <${Card}><${Chart} title="Memory" at=${at} format=${bytes} lines=${[{ label: "resident", tone: "accent", values: series.memory_bytes, fill: true }]} /><//>
      <${Card}><${Chart} title="Lost messages a second" at=${at} format=${about} lines=${[{ label: "lost", tone: "bad", values: series.lost, fill: true }]} /><//>
    </div>
    <div class="grid three">
      <${Counts} title="Lost in 15 minutes" counts=${lost} meanings=${LOSSES} empty="Nothing was lost." noun="message" />
      <${Counts} title="Ended in 15 minutes" counts=${ended} meanings=${ENDINGS} empty="No connection ended." noun="connection"
        more=${html`<a href=${to("clients", { gone: "1" })}>Which ones</a>`} />
      <${Deploy} overview=${overview} arrivals=${arrivals} />
    </div>
    <footer class="foot"><${Curl} path="admin/overview" /></footer>`;
}

function Tiles({ overview }) {
  const { series, connections, lagging, queued, topics } = overview;
  const tiles = [
    ["Published", about(newest(series.published)), "a second"],
    ["Delivered", about(newest(series.delivered)), `a second; ${bytes(newest(series.delivered_bytes) ?? 0)}`],
    ["Delivery p99", milliseconds(newest(series.p99_ms)), `p50 ${milliseconds(newest(series.p50_ms))}`],
    ["Loop lag p99", milliseconds(newest(series.loop_lag_ms)), `highest ${milliseconds(highest(series.loop_lag_ms))}`],
    ["Memory", bytes(newest(series.memory_bytes)), `highest ${bytes(highest(series.memory_bytes))}`],
    ["Connections", count(connections), lagging ? `${count(lagging)} lag, ${count(queued)} wait` : "none lags"],
    ["Topics", count(topics), `${plural(overview.subscribers, "subscriber")}`],
  ];
  return html`<dl class="tiles">${tiles.map(([name, value, note]) => html`<div key=${name}><dt>${name}</dt><dd>${value}<small>${note}</small></dd></div>`)}</dl>`;
}

/** The servers that share their topics. All else on this page is of the one that was asked. */
function Servers({ of }) {
  const named = { label: "Server", cell: ({ server, state }) => html`<code>${server}</code>${server === of.server && html` <${Badge}>shown here<//>`}${state !== "ok" && html` <${Badge} kind="warn">${state}<//>`}` };
  return html`<${Card} title="Servers" note="The charts are of one of them."><${Missing} of=${of} />
    <${Table} label="Servers" rows=${of.servers} rowKey=${(row) => row.server} columns=${[named, amount("Up", "uptime_sec", duration), amount("Connections", "connections", count),
      amount("Subscribers", "subscribers", count), amount("Queue", "queued", count), amount("Delivered a second", "delivered", about), amount("Memory", "memory_bytes", bytes)]} />
  <//>`;
}

/** How often something happened, by reason, the most frequent first. */
function Counts({ title, counts, meanings, empty, noun, more }) {
  const rows = Object.entries(counts).sort((one, other) => other[1] - one[1]);
  const most = rows[0]?.[1];
  return html`<${Card} title=${title} note=${rows.length ? plural(total(counts), noun) : ""} actions=${more}>
    ${rows.length === 0 && html`<${Empty}>${empty}<//>`}
    <ul class="counts">${rows.map(([reason, number]) => html`<li key=${reason}>
      <div><span>${words(reason)}</span><b>${count(number)}</b></div>
      <meter min="0" max=${most} value=${number} aria-hidden="true"></meter>
      <small>${meanings[reason]}</small>
    </li>`)}</ul>
  <//>`;
}

function Deploy({ overview, arrivals }) {
  const { started, uptime_sec: uptime, version } = overview;
  const rows = [
    ["Connections that moved here", arrivals.moved, "began where they had been before, in the first 5 minutes"],
    ["New connections", arrivals.new, "began without a position"],
    ["Subscriptions recovered", arrivals.recovered, "resumed, and missed nothing"],
    ["Subscriptions told of a gap", arrivals.told, "resumed, but a part was no longer kept"],
  ];
  return html`<${Card} title="Last deployment" note=${`version ${version}, ${moment(started)}, ${duration(uptime)} ago`}>
    <dl class="facts tall">${rows.map(([name, value, note]) => html`<div key=${name}><dt>${name}</dt><dd>${count(value)}<small>${note}</small></dd></div>`)}</dl>
  <//>`;
}
