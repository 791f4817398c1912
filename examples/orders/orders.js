// A live board: its state comes from the application's own API, then each change as it is published.
import { Client } from "http://localhost:8080/client.js";
import { SERVER, byId, element, showState } from "../page.js";

const STEPS = ["new", "paid", "packed", "sent"];
const post = (path, body) => fetch(`/api/orders${path}`, { method: "POST", body: JSON.stringify(body) });
const load = async () => (await fetch("/api/orders")).json();

/** Show an order, unless a newer state of it is there: a change may be in the loaded state and come again. */
function show(order) {
  const row = byId(`order-${order.no}`) ?? addRow(order);
  if (row.version >= order.version) return;
  if (row.version > 0) row.animate({ backgroundColor: ["var(--changed)", "var(--card)"] }, 1500);
  row.version = order.version;
  row.querySelector("em").textContent = STEPS[order.step];
  row.querySelector("button").disabled = order.step === STEPS.length - 1;
}

function addRow({ no, what }) {
  const button = element("button", "Advance");
  button.ariaLabel = `Advance order ${no}`;
  button.onclick = () => post(`/${no}/advance`);
  const row = Object.assign(element("li", "", "card"), { id: `order-${no}`, version: 0 });
  row.append(element("b", `#${no}`), element("span", what), element("em"), button);
  byId("orders").append(row);
  return row;
}

byId("add").onsubmit = async (submitted) => {
  submitted.preventDefault();
  await post("", { what: byId("what").value });
  byId("what").value = "";
};

const client = new Client(SERVER, { onState: showState });
const events = client.subscribe("orders", { load });
await events.ready;
events.state.forEach(show);

for await (const event of events) {
  if (event.type === "gap") (await events.reload()).forEach(show);
  else show(event.payload);
}
