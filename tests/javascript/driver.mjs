// Runs the JavaScript that a test sends, one line of JSON each, and answers with its result. It must never end by itself.
// argv: the URL of the module with the client.
import { createInterface } from "node:readline";

const { Client, PubsubError } = await import(process.argv[2]);
const AsyncFunction = (async () => {}).constructor;
Object.assign(globalThis, { Client, PubsubError });

async function run({ id, code, values }) {
  try {
    const result = await new AsyncFunction(...Object.keys(values), code)(...Object.values(values));
    return { id, result: result === undefined ? null : result };
  } catch (error) {
    const { name, message, code, seq, stack } = error;
    return { id, error: { name, message, code, seq, stack } };
  }
}

for await (const line of createInterface({ input: process.stdin }))
  run(JSON.parse(line)).then((answer) => console.log(JSON.stringify(answer)));
