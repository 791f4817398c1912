// Charts of the last 15 minutes, drawn by uPlot, which is loaded with the first of them: the page is there before it.

import { html, useEffect, useRef } from "./preact.js";

const WINDOW = 900; // seconds

let loading;

/** The library, a script without modules. */
function library() {
  loading ??= new Promise((resolve, reject) => {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL("uPlot.min.css", import.meta.url).href });
    const script = Object.assign(document.createElement("script"), { src: new URL("uPlot.iife.min.js", import.meta.url).href });
    script.onload = () => resolve(globalThis.uPlot);
    script.onerror = () => reject(new Error("uPlot.iife.min.js is not there"));
    document.head.append(style, script);
  });
  return loading;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function optionsOf(uPlot, lines, format, width, onHover) {
  const axis = { stroke: colour("muted"), font: "11px system-ui, sans-serif", ticks: { show: false } };
  return {
    width, height: 150, padding: [8, 12, 0, 0], legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    scales: { x: { range: (_, first, last) => [last - WINDOW, last] }, y: { range: (_, low, high) => [0, Math.max(high * 1.15, lines[0].least ?? 1)] } },
    axes: [
      { ...axis, size: 24, grid: { show: false }, space: 70, values: (_, times) => times.map((time) => new Date(time * 1000).toTimeString().slice(0, 5)) },
      { ...axis, size: 58, space: 34, grid: { stroke: colour("line"), width: 1 }, values: (_, numbers) => numbers.map(format) },
    ],
    series: [{}, ...lines.map(({ label, tone, fill }) => ({
      label, stroke: colour(tone), width: 1.6, points: { show: false }, spanGaps: true,
      fill: fill ? `${colour(tone)}22` : undefined, paths: uPlot.paths.spline(),
    }))],
    hooks: { setCursor: [({ cursor }) => onHover(cursor.idx)] },
  };
}

/** A chart of `lines`: `{ label, tone, values }`, over the moments `at`. For those who don't see it, its newest and its highest values are told. */
export function Chart({ title, at, lines, format }) {
  const place = useRef();
  const legend = useRef();
  const drawn = useRef({});
  const last = (values) => values.findLast((value) => value != null);
  const told = lines.map(({ label, values }) => `${label}: now ${format(last(values))}, highest ${format(Math.max(0, ...values))}`).join("; ");

  const name = (index) => {
    if (!legend.current) return;
    const { lines, at } = drawn.current;
    const time = index == null ? "now" : new Date(at[index] * 1000).toTimeString().slice(0, 8);
    const values = lines.map((line) => (index == null ? last(line.values) : line.values[index]));
    legend.current.querySelectorAll("b").forEach((each, number) => (each.textContent = format(values[number])));
    legend.current.querySelector("time").textContent = time;
  };

  useEffect(() => {
    drawn.current = { ...drawn.current, lines, at };
    drawn.current.plot?.setData([at, ...lines.map(({ values }) => values)]);
    name(null);
  });

  useEffect(() => {
    let gone = false;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const draw = async () => {
      const uPlot = await library();
      if (gone) return;
      drawn.current.plot?.destroy();
      const { lines, at } = drawn.current;
      drawn.current.plot = new uPlot(optionsOf(uPlot, lines, format, place.current.clientWidth, name), [at, ...lines.map(({ values }) => values)], place.current);
    };
    const sized = new ResizeObserver(() => drawn.current.plot?.setSize({ width: place.current.clientWidth, height: 150 }));
    sized.observe(place.current);
    dark.addEventListener("change", draw);
    draw();
    return () => {
      gone = true;
      sized.disconnect();
      dark.removeEventListener("change", draw);
      drawn.current.plot?.destroy();
    };
  }, []);

  return html`<figure class="chart">
    <figcaption ref=${legend}>
      <strong>${title}</strong>
      ${lines.map(({ label, tone }) => html`<span key=${label}><i class=${`tone ${tone}`}></i>${label} <b></b></span>`)}
      <time>now</time>
    </figcaption>
    <div ref=${place} class="plot" role="img" aria-label=${`${title}, last 15 minutes. ${told}`}></div>
  </figure>`;
}
