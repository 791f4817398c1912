// A WebSocket client for standard input and output: sends each line as a message, prints each message on a line.
import { createInterface } from "node:readline";

const socket = new WebSocket(process.argv[2]);
socket.onopen = () => {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => socket.send(line));
  lines.on("close", () => socket.close(1000));
};
socket.onmessage = (event) => console.log(event.data);
socket.onclose = (event) => {
  console.log(`closed ${event.code}`);
  process.exit();
};
