// The same page for FastAPI and Django: it posts to the application, and gets the news from the pubsub server.
import { Client } from "http://localhost:8080/client.js";
import { SERVER, byId, element, showState } from "../page.js";

byId("tell").onsubmit = async (submitted) => {
  submitted.preventDefault();
  await fetch("/news", { method: "POST", body: JSON.stringify({ text: byId("text").value }), headers: { "Content-Type": "application/json" } });
  byId("text").value = "";
};

const client = new Client(SERVER, { onState: showState });
for await (const event of client.subscribe("news", { lastN: 20 })) {
  if (event.type === "gap") continue;
  const line = element("li", "", "card");
  line.append(element("span", event.payload.text), element("span", `worker ${event.payload.worker}`, "faint"));
  byId("news").prepend(line);
}
