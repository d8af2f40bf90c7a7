// Shows errors: what happened, which field, which limit, and the id that the log knows it by.

import { fill, h, say } from "./dom.js";

/** Return a problem as people read it. `role` alert: it is read out at once. */
export function problemBox(error) {
  const limits = Object.entries(error.metadata ?? {}).map(([name, value]) => `${name}: ${value}`);
  return h("div", { class: "problem", role: "alert" },
    h("p", {}, error.code ? h("strong", {}, error.code) : null, error.code ? " " : null, error.message),
    error.errors?.length
      ? h("ul", {}, error.errors.map((one) => h("li", {}, h("code", {}, one.field), ` ${one.message}`)))
      : null,
    limits.length ? h("p", { class: "quiet" }, limits.join(" · ")) : null,
    error.retryAfterSeconds
      ? h("p", { class: "quiet" }, `Try again in ${Math.ceil(error.retryAfterSeconds)} s.`)
      : null,
    error.requestId ? h("p", { class: "quiet" }, `request ${error.requestId}`) : null);
}

/** Show in `place` what `work` throws, or nothing when it goes well. Returns whether it did. */
export async function showing(place, work) {
  try {
    fill(place);
    await work();
    return true;
  } catch (error) {
    if (error.name === "AbortError") return false;
    fill(place, problemBox(error));
    return false;
  }
}

/** Say at the top of the page what is wrong with all of it; "": nothing. */
export function showTrouble(text) {
  say(document.getElementById("trouble"), text);
}
