// Charts of the last 15 minutes: lines in an SVG, and a legend that tells the values under the pointer.

import { html, useEffect, useRef, useState } from "./preact.js";

const WINDOW = 900; // seconds
const [WIDE, HIGH] = [70, 150]; // pixels: the room for the name of a moment, and for the whole
const [LEFT, RIGHT, TOP, BOTTOM] = [58, 12, 8, 24]; // pixels: the rooms around the lines
const LABELS = 4; // at most so many values beside them

/** A round number: 1, 2 or 5 with zeros, of which at most LABELS fit below `most`. */
function roundStep(most) {
  const least = most / LABELS;
  const power = 10 ** Math.floor(Math.log10(least));
  return power * [1, 2, 5, 10].find((each) => each * power >= least);
}

const steps = (from, to, step) => Array.from({ length: Math.floor(to / step) - Math.ceil(from / step) + 1 }, (_, number) => (Math.ceil(from / step) + number) * step);

const clock = (time, end) => new Date(time * 1000).toTimeString().slice(0, end);

/** The lines, their axes, and the points of the moment at `index`. */
function Plot({ at, lines, format, width, index }) {
  const newest = at.at(-1);
  const room = width - LEFT - RIGHT;
  const most = Math.max(1, 1.15 * Math.max(...lines.flatMap(({ values }) => values)));
  const x = (time) => LEFT + room * (1 + (time - newest) / WINDOW);
  const y = (value) => TOP + (HIGH - TOP - BOTTOM) * (1 - value / most);
  const minutes = (room * 60) / WINDOW < WIDE ? 300 : 60;
  return html`<svg width=${width} height=${HIGH} aria-hidden="true">
    ${steps(0, most, roundStep(most)).map((value) => html`<path d=${`M${LEFT} ${y(value)}h${room}`} stroke="var(--line)" /><text x=${LEFT - 8} y=${y(value) + 4} text-anchor="end">${format(value)}</text>`)}
    ${steps(newest - WINDOW, newest, minutes).map((time) => html`<text x=${x(time)} y=${HIGH - 10} text-anchor="middle">${clock(time, 5)}</text>`)}
    ${index != null && html`<path d=${`M${x(at[index])} ${TOP}V${y(0)}`} stroke="var(--strong)" />`}
    ${lines.map(({ tone, fill, values }) => {
      const points = at.flatMap((time, number) => (values[number] == null ? [] : [[x(time), y(values[number])]]));
      if (!points.length) return null;
      const path = `M${points.join("L")}`;
      const colour = `var(--${tone})`;
      return html`${fill && html`<path d=${`${path}V${y(0)}H${points[0][0]}`} fill=${colour} fill-opacity=".13" />`}<path d=${path} fill="none" stroke=${colour} stroke-width="1.6" />
        ${values[index] != null && html`<circle cx=${x(at[index])} cy=${y(values[index])} r="3" fill=${colour} />`}`;
    })}
  </svg>`;
}

/** A chart of `lines`: `{ label, tone, values, fill }`, over the moments `at`. For those who don't see it, its newest and its highest values are told. */
export function Chart({ title, at, lines, format }) {
  const place = useRef();
  const [width, resize] = useState(0);
  const [pointer, point] = useState(null); // its place among the moments, from 0 for the first of the window to 1
  useEffect(() => {
    const sized = new ResizeObserver(([{ contentRect }]) => resize(contentRect.width));
    sized.observe(place.current);
    return () => sized.disconnect();
  }, []);

  const last = (values) => values.findLast((value) => value != null);
  const told = lines.map(({ label, values }) => `${label}: now ${format(last(values))}, highest ${format(Math.max(0, ...values))}`).join("; ");
  const distance = (time) => Math.abs(time - at.at(-1) - (pointer - 1) * WINDOW);
  const index = pointer === null ? null : at.reduce((nearest, time, number) => (distance(time) < distance(at[nearest]) ? number : nearest), 0);
  return html`<figure class="chart">
    <figcaption>
      <strong>${title}</strong>
      ${lines.map(({ label, tone, values }) => html`<span key=${label}><i class=${`tone ${tone}`}></i>${label} <b>${format(index === null ? last(values) : values[index])}</b></span>`)}
      <time>${index === null ? "now" : clock(at[index], 8)}</time>
    </figcaption>
    <div ref=${place} class="plot" role="img" aria-label=${`${title}, last 15 minutes. ${told}`}
      onPointerMove=${({ clientX, currentTarget }) => point((clientX - currentTarget.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT))} onPointerLeave=${() => point(null)}>
      ${width > 0 && html`<${Plot} at=${at} lines=${lines} format=${format} width=${width} index=${index} />`}
    </div>
  </figure>`;
}
