// The slowest consumers: the subscribers for which most messages wait, by topic.

import { html, useState } from "./preact.js";
import { bytes, count, duration } from "./formats.js";
import { At, Card, Curl, Outcome } from "./parts.js";
import { amount, Table } from "./table.js";
import { to } from "./routing.js";
import { usePolling } from "./polling.js";

const COLUMNS = [
  { label: "Client", sort: "client_id", cell: ({ client_id: id, server }) => html`<a class="name" href=${to("clients", id)}>${id}</a><${At} server=${server} />` },
  { label: "Topic", sort: "topic", cell: ({ topic }) => html`<a class="name" href=${to("topics", topic)}>${topic}</a>` },
  amount("Messages", "queued", count),
  amount("Bytes", "lag_bytes", bytes),
  amount("Oldest", "lag_sec", duration),
];

/** At most 100 rows, which the page can sort itself. */
export function SlowTable({ rows, empty }) {
  const [order, change] = useState({ sort: "queued", order: "desc" });
  const sign = order.order === "asc" ? 1 : -1;
  const sorted = [...rows].sort((one, other) => sign * (one[order.sort] < other[order.sort] ? -1 : one[order.sort] > other[order.sort] ? 1 : 0));
  return html`<${Table} label="Slowest consumers" columns=${COLUMNS} rows=${sorted} rowKey=${(row) => `${row.client_id} ${row.topic} ${rows.indexOf(row)}`} empty=${empty} order=${order} onSort=${change} />`;
}

export function Slow() {
  const asked = usePolling("slow", 5);
  return html`
    <p class="lead">Messages that wait for subscribers whose sockets accept no data: the 100 worst, by subscriber and topic.</p>
    <${Card} actions=${html`<${Curl} path="slow" />`} title="Consumer lag">
      <${Outcome} of=${asked} noun="consumers" />
      ${asked.value && html`<${SlowTable} rows=${asked.value.slow} empty="Every subscriber keeps up." />`}
    <//>`;
}
