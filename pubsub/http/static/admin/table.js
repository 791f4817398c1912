// Tables that the server sorts and cuts into pages. What they show, and of which page, stands in the URL.

import { html } from "./preact.js";
import { count } from "./formats.js";
import { replace, to } from "./routing.js";
import { Empty } from "./parts.js";

/** A column with the field `name` as a number, by which a sorted table can be sorted. */
export const amount = (label, name, format) => ({ label, sort: name, number: true, cell: (row) => format(row[name]) });

/**
 * Rows in columns: `{ name, label, cell(row), number, sort }`. `sort` is the name of the order on the server.
 *
 * On a phone each row is a block, in which the label of its column stands before each value.
 */
export function Table({ label, columns, rows, rowKey, empty, order, onSort }) {
  if (!rows.length) return html`<${Empty}>${empty}<//>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${`${label}, table`}>
    <table>
      <thead><tr>${columns.map((column) => html`<${Head} key=${column.label} column=${column} order=${order} onSort=${onSort} />`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${rowKey(row)}>
        ${columns.map((column) => html`<td key=${column.label} class=${column.number ? "number" : ""} data-label=${column.label}>${column.cell(row)}</td>`)}
      </tr>`)}</tbody>
    </table>
  </div>`;
}

function Head({ column, order, onSort }) {
  const { label, sort, number } = column;
  const style = number ? "number" : "";
  if (!sort || !onSort) return html`<th scope="col" class=${style}>${label}</th>`;
  const here = order?.sort === sort;
  const next = here ? (order.order === "asc" ? "desc" : "asc") : number ? "desc" : "asc";
  return html`<th scope="col" class=${style} aria-sort=${here ? (order.order === "asc" ? "ascending" : "descending") : null}>
    <button type="button" class="sort" onClick=${() => onSort({ sort, order: next })}>${label}<span aria-hidden="true">${here ? (order.order === "asc" ? " ↑" : " ↓") : ""}</span></button>
  </th>`;
}

/** A field for a search: the URL follows each letter. */
export const Search = ({ screen, query, label }) => html`<input type="search" class="search" aria-label=${label} placeholder=${label}
  value=${query.search ?? ""} maxlength="255" autocomplete="off" spellcheck="false"
  onInput=${(event) => replace(to(...screen, { ...query, search: event.target.value, page: null }))} />`;

/** The pages before and after this one. */
export function Pages({ screen, query, found, limit, noun }) {
  const page = Number(query.page ?? 1);
  const last = Math.max(1, Math.ceil(found / limit));
  const link = (number, label) => html`<a class="button quiet" href=${to(...screen, { ...query, page: number })}
    aria-disabled=${number < 1 || number > last ? "true" : null} onClick=${(event) => (number < 1 || number > last) && event.preventDefault()}>${label}</a>`;
  return html`<nav class="pages" aria-label="Pages">
    <span>${count(found)} ${noun}${found === 1 ? "" : "s"}</span>
    ${last > 1 && html`<span class="turn">${link(page - 1, "Previous")}<span>Page ${count(page)} of ${count(last)}</span>${link(page + 1, "Next")}</span>`}
  </nav>`;
}
