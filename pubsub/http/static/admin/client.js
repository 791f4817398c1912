// One client: its connections, those that have ended, and the way to the question why it did not get a message.

import { html } from "./preact.js";
import { at } from "./server.js";
import { Card, Curl, Outcome } from "./parts.js";
import { Connections, Disconnect, ENDED_COLUMNS } from "./clients.js";
import { Table } from "./table.js";
import { to } from "./routing.js";
import { usePolling } from "./polling.js";

export function ClientScreen({ id, may }) {
  const path = at`clients/${id}`;
  const asked = usePolling(path, 5);
  const client = asked.value;
  return html`
    <div class="toolbar"><${Curl} path=${path} /><a class="button" href=${to("why", { client: id })}>Why did it not get a message?</a>
      <${Disconnect} id=${id} may=${may} then=${asked.again} /></div>
    <${Outcome} of=${asked} noun="the client" />
    ${client && html`
      <${Card} title="Connections"><${Connections} rows=${client.connections} may=${may} then=${asked.again} empty="It is not connected now." /><//>
      ${client.connections.map((row, index) => html`<${Card} key=${index} title="Subscriptions" note=${client.connections.length > 1 ? `of connection ${index + 1}` : ""}>
        <ul class="chips">${row.subscriptions.slice(0, 200).map((name) => html`<li key=${name}>${/[*>]/.test(name) ? html`<code>${name}</code>` : html`<a class="name" href=${to("topics", name)}>${name}</a>`}</li>`)}</ul>
        ${row.subscriptions.length === 0 && html`<p class="empty">None.</p>`}${row.subscriptions.length > 200 && html`<p class="note">The first 200 of ${row.subscriptions.length}.</p>`}<//>`)}
      <${Card} title="Ended connections" note="as long as they are remembered">
        <${Table} label="Ended connections" columns=${ENDED_COLUMNS} rows=${client.ended} rowKey=${(row) => `${row.connected_at} ${row.ended_at}`} empty="None is remembered." /><//>`}`;
}
