// A plot of each sensor. The server keeps only the latest reading for a page that lags or was away; a gap breaks the line.
import { Client } from "http://localhost:8080/client.js";
import { SERVER, byId, element, showState } from "../page.js";

const WIDTH = 200; // readings in a plot
const BREAK = Array(10).fill(null); // what a gap looks like
const plots = new Map();

const client = new Client(SERVER, { onState: showState });
const events = client.subscribe("sensors.*", { lastN: 1, mend: false });
requestAnimationFrame(draw);

for await (const event of events) {
  const { readings } = plots.get(event.topic) ?? addPlot(event.topic);
  readings.push(...(event.type === "gap" ? BREAK : [event.payload.value]));
  readings.splice(0, readings.length - WIDTH);
}

function addPlot(topic) {
  const card = element("section", "", "card");
  const value = element("div", "", "value");
  const canvas = element("canvas");
  card.append(element("h2", topic), value, canvas);
  byId("sensors").append(card);
  plots.set(topic, { readings: [], value, canvas });
  return plots.get(topic);
}

/** Draw all plots, once for each frame of the screen and not for each reading. */
function draw() {
  for (const { readings, value, canvas } of plots.values()) {
    value.textContent = readings.at(-1)?.toFixed(2) ?? "–";
    drawLine(canvas, readings);
  }
  requestAnimationFrame(draw);
}

function drawLine(canvas, readings) {
  const pen = canvas.getContext("2d");
  const known = readings.filter((each) => each !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = canvas.clientHeight * devicePixelRatio;
  pen.strokeStyle = getComputedStyle(canvas).color;
  pen.lineWidth = 2 * devicePixelRatio;
  pen.beginPath();
  readings.forEach((each, at) => {
    if (each === null) return;
    const x = (at / (WIDTH - 1)) * canvas.width;
    const y = (0.95 - 0.9 * ((each - low) / (high - low || 1))) * canvas.height;
    if (at === 0 || readings[at - 1] === null) pen.moveTo(x, y);
    else pen.lineTo(x, y);
  });
  pen.stroke();
}
