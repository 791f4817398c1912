// A chat room: its last 50 messages, those that come, and the people who are in it.
import { Client } from "http://localhost:8080/client.js";
import { SERVER, byId, element, showState } from "../page.js";

const ROOM = "chat.lobby";

byId("join").onsubmit = (submitted) => {
  submitted.preventDefault();
  byId("join").hidden = true;
  byId("room").hidden = byId("say").hidden = false;
  byId("text").focus();
  chat(byId("name").value);
};

async function chat(name) {
  const client = new Client(SERVER, { clientId: name, onState });
  const events = client.subscribe(ROOM, { lastN: 50, notices: true });

  function onState(change) {
    showState(change);
    if (change.state === "open") showPeople(); // after each reconnect too: what happened meanwhile is not told
  }

  async function showPeople() {
    const { clients } = await client.presence(ROOM).catch(() => ({ clients: [] })); // the next notice asks again
    byId("people").replaceChildren(...clients.map((each) => element("li", each.clientId)));
  }

  byId("say").onsubmit = async (submitted) => {
    submitted.preventDefault();
    const text = byId("text").value;
    byId("text").value = "";
    await client.publish(ROOM, text).catch((error) => show("", `Not sent: ${text} (${error.message})`));
  };

  for await (const event of events) {
    if (event.type === "notice") showPeople();
    else if (event.type === "gap") show("", `${event.count ?? "Some"} messages are no longer kept.`);
    else show(event.sender, event.payload);
  }
}

function show(sender, text) {
  const line = element("li");
  line.append(element("b", sender), String(text));
  byId("messages").append(line);
  line.scrollIntoView({ block: "nearest" });
}
