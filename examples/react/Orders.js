// A component that shows the newest messages of a topic. All components share one client.
import { createElement } from "react";
import { usePubsub } from "./usePubsub.js";

export function Orders({ client, topic }) {
  const { items, error } = usePubsub(client, topic, { lastN: 10, keep: 10 });
  if (error) return createElement("p", { role: "alert" }, error.message);
  return createElement("ul", null, ...items.map((item) => createElement("li", { key: `${item.epoch}-${item.seq}` }, textOf(item))));
}

const textOf = (item) => (item.type === "gap" ? `${item.count ?? "some"} messages are missing` : JSON.stringify(item.payload));
