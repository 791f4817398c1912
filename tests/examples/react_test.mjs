// Run by test_react.py, which makes `react` and `pubsub-client` packages, and gives the server's URL.
import { Client } from "pubsub-client";
import { Root } from "react";
import { Orders } from "./Orders.js";

const client = new Client(process.argv[2]);
const subscribers = async (topic) => (await client.topic(topic)).subscribers;
for (const topic of ["first", "second"]) await client.createTopic(topic);
await client.publish("first", { item: "tea" });

const root = new Root(Orders, { client, topic: "first" });
await root.shows("ul", '{"item":"tea"}');
await client.publish("first", "<b>cups</b>");
await root.shows("ul", '{"item":"tea"}', '"<b>cups</b>"');

root.render({ client, topic: "second" });
await root.shows("ul");
await client.publish("first", "not for this one");
await client.publish("second", 1);
await root.shows("ul", "1");
console.log(await subscribers("first"), await subscribers("second"));

root.render({ client, topic: "nowhere" });
await root.shows("p", "Topic 'nowhere' does not exist");
root.render({ client, topic: "second" });
await root.shows("ul", "1");

root.unmount();
await client.publish("second", 2);
console.log(await subscribers("second"));
client.close();
