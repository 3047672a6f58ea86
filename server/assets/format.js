// Numbers, times and foreign text in words for people. Pure: no document, no clock.

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SMALL = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 0 });

// What cannot be seen, but turns or hides what stands beside it: made visible. Marks of direction alone are harmless and
// belong to some languages; line breaks become spaces where a value is one line.
const CONTROLS =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff\ufff9-\ufffb]/g;
const BREAKS = /[\t\n\r\u2028\u2029]+/g;
// Half of a character in two parts, which is no character.
const HALVES = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

export function clean(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.replace(BREAKS, " ").replace(HALVES, "\ufffd").replace(CONTROLS, shown);
}

// The same, with its lines.
export function cleanLines(value) {
  return String(value ?? "")
    .replace(/\r\n?/g, "\n")
    .split("\n")
    .map(clean)
    .join("\n");
}

function shown(character) {
  return `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

// At most `max` characters, none of them halved.
export function cut(text, max) {
  if (text.length <= max) return text;
  const characters = Array.from(text.slice(0, max + 1));
  return `${characters.slice(0, max).join("")}…`;
}

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

export function count(value) {
  return isNumber(value) ? NUMBER.format(value) : "–";
}

// 1,234 and 12.3k, 4.5M: where there is little room.
export function brief(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size < 10000) return NUMBER.format(value);
  if (size < 1e6) return `${SMALL.format(Math.floor(value / 100) / 10)}k`;
  if (size < 1e9) return `${SMALL.format(Math.floor(value / 1e5) / 10)}M`;
  return `${SMALL.format(Math.floor(value / 1e8) / 10)}G`;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

// Whole percents, downwards: 100 only when it is through.
export function points(share) {
  if (!isNumber(share)) return null;
  return Math.floor(Math.min(1, Math.max(0, share)) * 100 + 1e-9);
}

export function percent(share) {
  const value = points(share);
  return value === null ? "–" : `${value} %`;
}

export function rate(perSecond) {
  if (!isNumber(perSecond)) return "–";
  if (perSecond === 0) return "0/s";
  if (perSecond < 0.1) return `${SMALL.format(perSecond * 60)}/min`;
  return perSecond < 100 ? `${SMALL.format(perSecond)}/s` : `${brief(Math.round(perSecond))}/s`;
}

// "42 s", "3 min 20 s", "2 h 5 min", "3 d 4 h".
export function span(ms) {
  if (!isNumber(ms)) return "–";
  const seconds = Math.max(0, Math.round(ms / 1000));
  const two = (whole, part, a, b) => (part === 0 ? `${whole} ${a}` : `${whole} ${a} ${part} ${b}`);
  if (seconds < 1 && ms > 0) return "under 1 s";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return two(Math.floor(seconds / 60), seconds < 600 ? seconds % 60 : 0, "min", "s");
  if (seconds < 86400) return two(Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), "h", "min");
  return two(Math.floor(seconds / 86400), Math.floor((seconds % 86400) / 3600), "d", "h");
}

// The rough measure: "42 s", "3 min", "2 h", "3 d".
export function about(ms) {
  if (!isNumber(ms)) return "–";
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

// "12 to 18 min", "50 s to 2 min", and one number where both ends look alike.
export function range(lowMs, highMs) {
  const [low, high] = [about(lowMs), about(highMs)];
  if (low === high) return low === "0 s" ? "under 1 s" : `about ${low}`;
  const [lowNumber, lowUnit] = low.split(" ");
  return lowUnit === high.split(" ")[1] ? `${lowNumber} to ${high}` : `${low} to ${high}`;
}

export function millis(at) {
  const value = typeof at === "string" ? Date.parse(at) : NaN;
  return Number.isNaN(value) ? null : value;
}

export function ago(at, now) {
  const then = typeof at === "number" ? at : millis(at);
  if (then === null) return "–";
  const gone = now - then;
  if (gone < -1500) return `in ${about(-gone)}`;
  return gone < 1500 ? "just now" : `${about(gone)} ago`;
}

const pad = (value) => String(value).padStart(2, "0");

// Time of day of this browser.
export function clock(at) {
  const value = typeof at === "number" ? at : millis(at);
  if (value === null) return "–";
  const date = new Date(value);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

// "2026-11-21 23:14:05"; only the time where it is the day of `now`.
export function moment(at, now) {
  const value = typeof at === "number" ? at : millis(at);
  if (value === null) return "–";
  const date = new Date(value);
  const today = isNumber(now) && new Date(now).toDateString() === date.toDateString();
  return today
    ? clock(value)
    : `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clock(value)}`;
}

export function bytes(value) {
  if (!isNumber(value)) return "–";
  if (value < 1024) return `${value} B`;
  if (value < 1024 ** 2) return `${SMALL.format(value / 1024)} KiB`;
  if (value < 1024 ** 3) return `${SMALL.format(value / 1024 ** 2)} MiB`;
  return `${SMALL.format(value / 1024 ** 3)} GiB`;
}
