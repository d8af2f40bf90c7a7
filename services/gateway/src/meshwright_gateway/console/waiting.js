// What waits for a person: approvals and questions of tasks, oldest first.

import { ask } from "./api.js";
import { h, keyed, say } from "./dom.js";
import { interruptCard, refreshExpiry } from "./interrupt_card.js";
import { keepFresh } from "./poll.js";

const LOOK_SECONDS = 2;
const SHOWN = 100;

/** Return what waits: the first hundred. */
export function openInterrupts(signal) {
  return ask("/api/v1/interrupts", { page_size: SHOWN }, signal);
}

/** Show what waits, until `signal` is aborted. `counted` gets their number and whether there are more. */
export async function waitingView(main, { signal, counted }) {
  const news = h("p", { role: "status", class: "news", hidden: true });
  const none = h("p", { class: "quiet", hidden: true },
    "Nothing waits for you. Approvals and questions of tasks appear here by themselves.");
  const list = h("div", { class: "cards" });
  main.append(h("h1", { tabindex: -1 }, "Waiting for you"), news, none, list);
  const answeredHere = new Set();

  await keepFresh(LOOK_SECONDS, signal, async () => {
    const answer = await openInterrupts(signal);
    const waiting = answer.interrupts.filter((one) => !answeredHere.has(one.interrupt_id));
    counted(waiting.length, answer.next_page_token !== "");
    const ids = new Set(answer.interrupts.map((one) => one.interrupt_id));
    const gone = [...list.children].filter((card) => !ids.has(card.dataset.key));
    if (gone.some((card) => !answeredHere.has(card.dataset.key))) {
      say(news, "One was answered elsewhere, cancelled, or has expired.");
    }
    if (gone.some((card) => card.contains(document.activeElement))) main.querySelector("h1").focus();
    keyed(list, waiting, {
      key: (one) => one.interrupt_id,
      make: (one) => interruptCard(one, one.task_id, (word) => {
        answeredHere.add(one.interrupt_id);
        const card = list.querySelector(`[data-key="${CSS.escape(one.interrupt_id)}"]`);
        card?.remove();
        say(news, `${word}: ${one.question}`);
        none.hidden = list.childElementCount > 0;
        counted(list.childElementCount, false);
        (list.querySelector(".card") ?? main.querySelector("h1")).focus();
      }),
      update: refreshExpiry,
    });
    none.hidden = waiting.length > 0;
  });
}
