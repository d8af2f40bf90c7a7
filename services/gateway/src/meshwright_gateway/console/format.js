// How things are written: times, states, numbers, JSON.

import { h } from "./dom.js";

const WHEN = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const TODAY = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
const NUMBER = new Intl.NumberFormat();

/** Return a moment, short when it is today; "–" for none. */
export function moment(text) {
  if (!text) return "–";
  const time = new Date(text);
  const today = new Date().toDateString() === time.toDateString();
  return h("time", { datetime: text, title: WHEN.format(time) }, (today ? TODAY : WHEN).format(time));
}

/** Return a duration in its two largest units: "6 d 23 h". */
export function duration(seconds) {
  if (seconds < 1) return `${Math.round(Math.max(seconds, 0) * 1000)} ms`;
  const first = UNITS.findIndex(([, size]) => seconds >= size);
  let rest = Math.floor(seconds);
  return UNITS.slice(first, first + 2)
    .map(([unit, size]) => {
      const count = Math.floor(rest / size);
      rest -= count * size;
      return count ? `${count} ${unit}` : "";
    })
    .filter(Boolean)
    .join(" ");
}

/** Return the seconds from `start` to `end`, or to now. */
export function secondsBetween(start, end) {
  return ((end ? new Date(end) : new Date()) - new Date(start)) / 1000;
}

/** Return a state as a badge: its word, and a colour beside it. */
export function badge(state) {
  return h("span", { class: "badge", "data-state": state }, state.replaceAll("_", " "));
}

/** Return the beginning of an id, whole when pointed at. The end differs most between ids. */
export function shortId(id) {
  return h("code", { title: id }, `…${id.slice(-12)}`);
}

/** Return a link to a thing of the page `page` by its id; "" when there is none. */
export function linked(page, id) {
  return id ? h("a", { href: `#/${page}/${encodeURIComponent(id)}` }, shortId(id)) : "";
}

/** Return a count of tokens and what they cost. */
export function usageText(usage) {
  const tokens = usage.prompt_tokens + usage.completion_tokens;
  if (!tokens) return "";
  const cost = usage.cost_micro_usd ? ` · $${(usage.cost_micro_usd / 1e6).toFixed(4)}` : "";
  return `${NUMBER.format(usage.prompt_tokens)} + ${NUMBER.format(usage.completion_tokens)} tokens${cost}`;
}

/** Return a share as per cent; "–" for none. */
export function percent(share) {
  return share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`;
}

/** Return a value as JSON of several lines. */
export function json(value) {
  return JSON.stringify(value, null, 2);
}

/**
 * Return JSON with line breaks, otherwise exactly as it was written: to parse it would round large
 * numbers and drop repeated names, and people approve what is shown. Characters that cannot be
 * seen, or that change the order of others, are shown as escapes.
 */
export function exactJson(text) {
  try {
    JSON.parse(text);
  } catch {
    return seen(text);
  }
  return seen(text.match(PIECES).reduce(indented, { out: "", depth: 0 }).out);
}

// Of JSON that is known to be right: texts, brackets that hold nothing, punctuation, the rest.
const PIECES = /"(?:[^"\\]|\\.)*"|\{\s*\}|\[\s*\]|[{}[\],:]|[^\s"{}[\],:]+/g;

function indented({ out, depth }, piece) {
  const line = (level) => `\n${"  ".repeat(level)}`;
  if (piece === "{" || piece === "[") return { out: out + piece + line(depth + 1), depth: depth + 1 };
  if (piece === "}" || piece === "]") return { out: out + line(depth - 1) + piece, depth: depth - 1 };
  if (piece === ",") return { out: out + piece + line(depth), depth };
  return { out: out + (piece === ":" ? ": " : piece), depth };
}

/** Return a text in which nothing is invisible. */
export function seen(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    character === "\n" || character === "\t"
      ? character
      : `\\u{${character.codePointAt(0).toString(16)}}`);
}
