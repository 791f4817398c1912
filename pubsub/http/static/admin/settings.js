// The settings in force. What is secret comes masked from the server.

import { html, useState } from "./preact.js";
import { Badge, Card, Curl, Outcome } from "./parts.js";
import { Table } from "./table.js";
import { usePolling } from "./polling.js";

const text = (value) => (value === "" ? html`<span class="note">empty</span>` : html`<code>${String(value)}</code>`);

const COLUMNS = [
  { label: "Setting", cell: ({ name, live, masked }) => html`<b class="name">${name}</b> ${live && html`<${Badge}>live<//>`} ${masked && html`<${Badge}>secret<//>`}` },
  { label: "Value", cell: ({ value }) => text(value) },
  { label: "Default", cell: ({ default: value }) => text(value) },
  { label: "Meaning", cell: ({ meaning }) => meaning },
];

export function Settings() {
  const asked = usePolling("admin/settings", 30);
  const [changed, only] = useState(false);
  const [search, look] = useState("");
  const rows = (asked.value?.settings ?? []).filter((row) => (!changed || row.value !== row.default) && `${row.name} ${row.meaning}`.toLowerCase().includes(search.toLowerCase()));
  return html`
    <div class="toolbar"><input type="search" class="search" aria-label="Search settings" placeholder="Search settings" value=${search} onInput=${(event) => look(event.target.value)} />
      <label class="inline"><input type="checkbox" checked=${changed} onChange=${(event) => only(event.target.checked)} /> only those that were changed</label><${Curl} path="admin/settings" /></div>
    <p class="lead">The settings in force. Those that are <b>live</b> change without a restart: write them, then send SIGHUP.</p>
    <${Card}><${Outcome} of=${asked} noun="settings" />${asked.value && html`<${Table} label="Settings" columns=${COLUMNS} rows=${rows} rowKey=${({ name }) => name} empty="No setting is like that." />`}<//>`;
}
