// The console: who is signed in, which page is shown.

import { agentsView } from "./agents.js";
import { ask, Problem } from "./api.js";
import { chatView } from "./chat.js";
import { fill, say } from "./dom.js";
import { currentKey, forgetKey, whenForgotten } from "./key.js";
import { keepFresh } from "./poll.js";
import { problemBox, showTrouble } from "./problem.js";
import { runView } from "./run.js";
import { runsView } from "./runs.js";
import { signIn } from "./sign_in.js";
import { taskView } from "./task.js";
import { tasksView } from "./tasks.js";
import { openInterrupts, waitingView } from "./waiting.js";

const COUNT_SECONDS = 5;
const HOME = "#/waiting";
const VIEWS = [
  { path: /^#\/waiting$/, title: "Waiting for you", show: waitingView, counts: true },
  { path: /^#\/chat(?:\/([\w-]+))?$/, title: "Chat", show: chatView },
  { path: /^#\/tasks$/, title: "Tasks", show: tasksView },
  { path: /^#\/tasks\/([\w-]+)$/, title: "Task", show: taskView },
  { path: /^#\/runs$/, title: "Workflows", show: runsView },
  { path: /^#\/runs\/([\w-]+)$/, title: "Workflow run", show: runView },
  { path: /^#\/agents$/, title: "Agents", show: agentsView },
];

const main = document.getElementById("main");
const nav = document.querySelector("nav");
const who = document.querySelector(".who");
let leave = new AbortController();
let session = new AbortController();

function shownView() {
  for (const view of VIEWS) {
    const found = view.path.exec(location.hash);
    if (found) return { view, id: found[1] ?? "" };
  }
  return null;
}

async function show() {
  leave.abort(new DOMException("another page is shown", "AbortError"));
  leave = new AbortController();
  const { signal } = leave;
  const found = shownView();
  if (found === null) {
    location.replace(HOME);
    return;
  }
  const { view, id } = found;
  showTrouble("");
  fill(main);
  document.title = `${view.title} · Meshwright`;
  for (const link of nav.querySelectorAll("a")) {
    const here = location.hash.startsWith(link.getAttribute("href"));
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    const showing = view.show(main, { id, signal, counted });
    main.querySelector("h1")?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
    await showing;
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Problem)) console.error(error);
    main.append(problemBox(error));
  }
}

function counted(number, more) {
  say(document.getElementById("waiting-count"), number ? `${number}${more ? "+" : ""}` : "");
}

/** Show in the navigation how many wait, whatever page is shown. */
async function count(signal) {
  await keepFresh(COUNT_SECONDS, signal, async () => {
    if (shownView()?.view.counts) return;
    const answer = await openInterrupts(signal);
    counted(answer.interrupts.length, answer.next_page_token !== "");
  });
}

async function begin(why) {
  session.abort();
  leave.abort(new DOMException("signed out", "AbortError"));
  session = new AbortController();
  nav.hidden = who.hidden = true;
  showTrouble("");
  if (!currentKey()) {
    document.title = "Meshwright console";
    signIn(main, why, () => begin(""));
    return;
  }
  let caller;
  try {
    caller = await ask("/api/v1/me", {}, session.signal);
  } catch (error) {
    if (currentKey()) fill(main, problemBox(error));
    return;
  }
  say(document.getElementById("who-name"), caller.user?.name || caller.subject);
  nav.hidden = who.hidden = false;
  count(session.signal).catch((error) => showTrouble(error.message));
  await show();
}

whenForgotten((why) => begin(why));
document.getElementById("sign-out").addEventListener("click", () => forgetKey(""));
window.addEventListener("hashchange", () => {
  if (currentKey()) show();
});
begin("");
