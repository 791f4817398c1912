// Numbers, sizes and times as text for people. Nothing here touches the page.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** A number of things: 12,345. */
export const count = (number) => (number == null ? "–" : whole.format(number));

/** A number of which the size matters: 12.3K. */
export const about = (number) => {
  if (number == null) return "–";
  if (number < 10 && number % 1) return String(Math.round(number * 10) / 10);
  return number < 10_000 ? whole.format(number) : short.format(number);
};

/** `1 message`, `2 messages`. */
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

export function bytes(number) {
  if (number == null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1024 && unit < 4; unit++) number /= 1024;
  return `${number < 10 && unit ? number.toFixed(1) : Math.round(number)} ${units[unit]}`;
}

export function milliseconds(number) {
  if (number == null) return "–";
  if (number >= 1000) return `${(number / 1000).toFixed(1)} s`;
  return `${number < 10 ? Number(number.toFixed(2)) : Math.round(number)} ms`;
}

/** A time that has passed: `3 d 4 h`, `12 min`, `45 s`. */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  const hours = Math.floor(seconds / 3600);
  if (hours < 24) return `${hours} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A moment, as text of the protocol or in Unix time, by the clock of the reader: `14:03:21`, with the date if it is not today. */
export function moment(value) {
  if (value == null) return "–";
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? time : `${date.toISOString().slice(0, 10)} ${time}`;
}

/** A wire name as words: `slow_consumer` is `slow consumer`. */
export const words = (name) => name.replaceAll("_", " ");
