// Choices that lists are filtered by.

import { collect } from "./api.js";
import { h, uniqueId } from "./dom.js";

const STATES = ["queued", "running", "waiting", "completed", "failed", "cancelled", "expired"];
const MOST_AGENTS = 400;

/** Return {element, value} of a choice of a state; "" is any. */
export function stateChoice(changed) {
  return choice("State", STATES.map((state) => [state, state]), changed);
}

/** Return what `choice` does, of an agent, filled when the platform has answered. */
export function agentChoice(label, signal, changed, chosen = "") {
  const made = choice(label, chosen ? [[chosen, chosen]] : [], changed, chosen);
  collect("/api/v1/agents", "agents", { wanted: MOST_AGENTS, signal }).then(({ found }) => {
    for (const agent of found) made.add(agent.name);
  }).catch((error) => {
    // The choice stays as it is: lists tell what is wrong themselves.
    if (!signal.aborted) made.element.append(h("span", { class: "quiet" }, ` ${error.message}`));
  });
  return made;
}

/** Return {element, value, add, choose} of a choice; without `chosen` "all" is the first. */
export function choice(label, pairs, changed, chosen = "") {
  const select = h("select", { id: uniqueId("choice"), change: changed },
    chosen ? null : h("option", { value: "" }, "all"),
    pairs.map(([value, text]) => h("option", { value }, text)));
  const add = (value, text = value) => {
    if (![...select.options].some((option) => option.value === value)) {
      select.append(h("option", { value }, text));
    }
  };
  return {
    element: h("div", { class: "field" }, h("label", { for: select.id }, label), select),
    value: () => select.value,
    add,
    choose: (value) => {
      add(value);
      select.value = value;
    },
  };
}
