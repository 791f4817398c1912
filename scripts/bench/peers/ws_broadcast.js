// Peer: ws in node. It forwards each text unchanged; no JSON, no topics. With "deflate", it compresses for clients that
// offer it, without a context from message to message, as this server does.
"use strict";

const { WebSocketServer } = require("ws");

const subscribers = new Set();

function subscribe(client) {
  subscribers.add(client);
  client.on("close", () => subscribers.delete(client));
  client.send("ready");
}

function publishFrom(client) {
  client.on("message", (text) => {
    for (const subscriber of subscribers) {
      subscriber.send(text, { binary: false });
    }
    client.send("ok");
  });
}

const compression = { threshold: 256, serverNoContextTakeover: true, clientNoContextTakeover: true };
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  backlog: 4096,
  perMessageDeflate: process.argv[3] === "deflate" ? compression : false,
});
server.on("connection", (client, request) => (request.url === "/sub" ? subscribe(client) : publishFrom(client)));
