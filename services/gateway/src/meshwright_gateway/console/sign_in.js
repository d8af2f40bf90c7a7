// Asks for the API key, once a tab.

import { fill, h, say } from "./dom.js";
import { useKey } from "./key.js";

/** Show the form; `done` is called when a key was typed. `why` says why it is asked for. */
export function signIn(main, why, done) {
  const input = h("input", {
    id: "api-key", type: "password", required: true, autocomplete: "off", spellcheck: "false",
    "aria-describedby": "api-key-about",
  });
  const wrong = h("p", { class: "field-error", role: "alert", hidden: true });
  fill(main,
    h("form", {
      class: "sign-in",
      submit: (event) => {
        event.preventDefault();
        const key = input.value.trim();
        if (!/^[\x21-\x7e]+$/.test(key)) {
          say(wrong, "This is no API key: it has characters that no key has.");
          return;
        }
        useKey(key);
        done();
      },
    },
    h("h1", {}, "Meshwright console"),
    why ? h("p", { class: "problem", role: "alert" }, why) : null,
    h("div", { class: "field" },
      h("label", { for: input.id }, "API key"),
      input,
      wrong,
      h("p", { class: "quiet", id: "api-key-about" },
        "It stays in this tab and is gone when you close it. ",
        h("code", {}, "meshwright up"), " prints one.")),
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "yes" }, "Sign in"))));
  input.focus();
}
