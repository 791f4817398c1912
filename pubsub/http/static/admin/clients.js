// The connections: those that are open, in any order, and those that went lately, with the reason.

import { html } from "./preact.js";
import { bytes, count, duration, milliseconds, moment } from "./formats.js";
import { at, call } from "./server.js";
import { Action, At, Badge, Card, Curl, Outcome } from "./parts.js";
import { ENDINGS } from "./reasons.js";
import { amount, Pages, Search, Table } from "./table.js";
import { replace, to } from "./routing.js";
import { usePolling } from "./polling.js";

const LIMIT = 50;
const LINGERS = 1500; // milliseconds: a client that reads nothing is cut off a second after its close
const SHOWN = 2; // subscriptions in a row

const Name = ({ id }) => html`<a class="name" href=${to("clients", id)}>${id}</a>`;

const transports = { sse: "Server-Sent Events", websocket: "WebSocket" };

function Subscriptions({ of }) {
  return html`<span class="short">${of.slice(0, SHOWN).map((name) => html`<code key=${name}>${name}</code>`)}
    ${of.length > SHOWN && html`<small>and ${count(of.length - SHOWN)} more</small>`}</span>`;
}

const COLUMNS = [
  { label: "Client", sort: "client_id", cell: ({ client_id: id, transport, server }) => html`<${Name} id=${id} /><small class="below">${transports[transport]}<${At} server=${server} /></small>` },
  amount("Connected", "connected_sec", duration),
  amount("Queue", "queued", count),
  { label: "Stalled", sort: "stalled_sec", number: true, cell: ({ stalled_sec: time }) => (time ? duration(time) : "–") },
  amount("Dropped", "dropped", count),
  { label: "Round trip", sort: "round_trip_ms", number: true, cell: ({ round_trip_ms: time }) => (time === 0 ? "< 1 ms" : milliseconds(time)) },
  { label: "Traffic", number: true, cell: ({ bytes_in: received, bytes_out: sent }) => html`${bytes(sent)} out<small class="below">${bytes(received)} in</small>` },
  { label: "Subscriptions", cell: ({ subscriptions }) => html`<${Subscriptions} of=${subscriptions} />` },
];

export const ENDED_COLUMNS = [
  { label: "Client", cell: ({ client_id: id, server }) => html`<${Name} id=${id} /><${At} server=${server} />` },
  { label: "Ended", cell: ({ ended_at: time }) => moment(time) },
  { label: "After", number: true, cell: (row) => duration((new Date(row.ended_at) - new Date(row.connected_at)) / 1000) },
  { label: "Why", cell: ({ ending, reason, code }) => html`<b>${reason}</b>${code && html` <${Badge}>${code}<//>`}<small class="below">${ENDINGS[ending]}</small>` },
  amount("Dropped", "dropped", count),
];

/** A button that closes all connections of a client. */
export function Disconnect({ id, may, then }) {
  const run = async () => {
    const { connections } = await call("DELETE", at`clients/${id}`);
    then?.();
    setTimeout(() => then?.(), LINGERS);
    return `${count(connections)} closed`;
  };
  return html`<${Action} run=${run} label="Disconnect" kind="danger quiet" allowed=${may.change} />`;
}

export const Connections = ({ rows, order, onSort, may, then, empty, more = [] }) => html`<${Table} label="Connections" order=${order} onSort=${onSort} rows=${rows} empty=${empty}
  columns=${[...COLUMNS, ...more, { label: "Close", number: true, cell: ({ client_id: id }) => html`<${Disconnect} id=${id} may=${may} then=${then} />` }]}
  rowKey=${(row) => `${row.client_id} ${row.connected_sec} ${row.bytes_in}`} />`;

export function Clients({ query, may }) {
  const gone = query.gone === "1";
  const tab = (label, value) => html`<a href=${to("clients", { search: query.search, gone: value })} aria-current=${gone === (value === "1") ? "page" : null}>${label}</a>`;
  return html`
    <div class="toolbar">
      <nav class="tabs" aria-label="Which clients">${tab("Connected", null)}${tab("Gone lately", "1")}</nav>
      <${Search} screen=${["clients"]} query=${query} label=${gone ? "Names that begin with" : "Search clients"} />
    </div>
    ${gone ? html`<${Gone} query=${query} />` : html`<${Open} query=${query} may=${may} />`}`;
}

function Open({ query, may }) {
  const { search = "", sort = "connected_sec", order = "desc", page = "1" } = query;
  const wanted = { search, sort, order, page, limit: LIMIT };
  const asked = usePolling("admin/clients", 5, wanted);
  return html`<${Card}>
    <${Outcome} of=${asked} noun="clients" />
    ${asked.value && html`
      <${Connections} rows=${asked.value.clients} may=${may} then=${asked.again} order=${{ sort, order }} empty=${search ? "No client has this in its name." : "No client is connected."}
        onSort=${(next) => replace(to("clients", { ...query, ...next, page: null }))} />
      <${Pages} screen=${["clients"]} query=${query} found=${asked.value.found} limit=${LIMIT} noun="connection" />
      <${Curl} path="admin/clients" query=${wanted} />`}
  <//>`;
}

function Gone({ query }) {
  const { search = "", cursor = "0" } = query;
  const wanted = { ended: "true", prefix: search, cursor, limit: LIMIT };
  const asked = usePolling("clients", 5, wanted);
  const { clients, next } = asked.value ?? {};
  return html`<${Card} title="Gone lately" note="the newest first, as long as they are remembered">
    <${Outcome} of=${asked} noun="clients" />
    ${clients && html`<${Table} label="Ended connections" columns=${ENDED_COLUMNS} rows=${clients} rowKey=${(row) => `${row.client_id} ${row.connected_at} ${row.ended_at}`} empty="No connection ended lately." />
      <nav class="pages" aria-label="Pages"><${Curl} path="clients" query=${wanted} /><span class="turn">
        ${cursor !== "0" && html`<a class="button quiet" href=${to("clients", { ...query, cursor: null })}>Newest</a>`}
        ${next && html`<a class="button quiet" href=${to("clients", { ...query, cursor: next })}>Older</a>`}</span></nav>`}
  <//>`;
}
