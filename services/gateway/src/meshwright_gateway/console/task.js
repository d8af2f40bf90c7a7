// One task: how it does, what it asks, what it does and says as it happens, and the tasks below it.

import { ask, call } from "./api.js";
import { facts, h, keyed, refill, say } from "./dom.js";
import { badge, duration, json, linked, moment, secondsBetween, usageText } from "./format.js";
import { interruptCard, refreshExpiry } from "./interrupt_card.js";
import { keepFresh } from "./poll.js";
import { showing } from "./problem.js";
import { followStream } from "./stream.js";
import { TaskTree } from "./task_tree.js";
import { failure, Transcript } from "./transcript.js";

const LOOK_SECONDS = 2;
const ENDS = new Set(["task.completed", "task.failed"]);
const FINAL = new Set(["completed", "failed", "cancelled", "expired"]);

/** Show a task, until `signal` is aborted. */
export async function taskView(main, { id, signal }) {
  const path = `/api/v1/tasks/${encodeURIComponent(id)}`;
  const page = new TaskPage(main, id, path, signal);
  const tree = new TaskTree(page.children, id, signal);
  const watching = keepFresh(LOOK_SECONDS, signal, async () => {
    const task = await ask(path, {}, signal);
    page.show(task);
    // What is below it may still end when it has.
    const settled = await tree.refresh(task);
    return !(FINAL.has(task.state) && settled);
  });
  await Promise.all([watching, page.follow()]);
}

class TaskPage {
  constructor(main, id, path, signal) {
    this._path = path;
    this._signal = signal;
    /** Whether the stream said why it failed. */
    this._told = false;
    this._facts = h("div");
    this._place = h("div");
    this._replayed = h("p", { role: "status" });
    this._asks = h("div", { class: "cards" });
    this._end = h("div");
    this._line = h("p", { role: "status", class: "news", hidden: true });
    this._transcript = new Transcript({ interrupted: () => this._look() });
    this._cancel = h("button", { type: "button", class: "no", hidden: true, click: () => this._stop() }, "Cancel");
    this._replay = h("button", { type: "button", hidden: true, click: () => this._check() }, "Replay");
    this.children = h("section", { "aria-label": "Tasks of its tree", hidden: true });
    main.append(
      h("h1", { tabindex: -1 }, "Task ", h("code", { class: "id" }, id)),
      this._facts,
      h("div", { class: "buttons" }, this._cancel, this._replay),
      this._replayed, this._place, this._asks,
      h("h2", {}, "What it does"), this._line, this._transcript.element, this._end, this.children);
  }

  show(task) {
    const isFinal = FINAL.has(task.state);
    this._cancel.hidden = isFinal;
    this._replay.hidden = false;
    const changing = [task.state, task.attempt, task.step_count, task.usage];
    refill(this._facts, changing, () => facts([
      ["state", badge(task.state)],
      ["agent", task.agent_version ? `${task.agent}, version ${task.agent_version}` : task.agent],
      ["created", moment(task.create_time)],
      ["not before", task.start_time ? moment(task.start_time) : ""],
      [isFinal ? "took" : "for", h("span", { class: "since" })],
      ["attempt", task.attempt || ""],
      ["steps", task.step_count || ""],
      ["used", usageText(task.usage)],
      ["parent", linked("tasks", task.parent_task_id)],
      ["session", linked("chat", task.session_id)],
    ]));
    say(this._facts.querySelector(".since"), duration(secondsBetween(task.create_time, task.end_time)));
    keyed(this._asks, task.interrupts, {
      key: (one) => one.interrupt_id,
      make: (one) => interruptCard(one, task.task_id, (word) => {
        say(this._line, `${word}: ${one.question}`);
        this._look();
      }),
      update: refreshExpiry,
    });
    const output = task.result?.output ?? {};
    refill(this._end, [task.state, task.error, this._told], () => [
      task.error && !this._told ? failure(task.error) : null,
      Object.keys(output).length ? [h("h2", {}, "Output"), h("pre", { class: "code" }, json(output))] : null,
    ]);
  }

  /** Show the events of the task as they come, to its end. */
  async follow() {
    await followStream({
      start: { method: "GET", path: `${this._path}/events` },
      follow: () => `${this._path}/events`,
      take: (name, data) => {
        this._told ||= name === "task.failed";
        const resumable = this._transcript.take(name, data);
        return resumable && name.startsWith("task.");
      },
      rewind: (last) => (last ? this._transcript.toCheckpoint() : this._transcript.toStart()),
      tell: (text) => say(this._line, text),
      ends: ENDS,
      signal: this._signal,
    });
    this._transcript.end();
  }

  /** Look at once: something happened that the page shows. */
  _look() {
    ask(this._path, {}, this._signal).then((task) => this.show(task)).catch(() => {
      // The next look tells what is wrong.
    });
    return null;
  }

  _stop() {
    return showing(this._place, async () => {
      this.show(await call("POST", `${this._path}/cancel`, { body: {}, signal: this._signal }));
    });
  }

  _check() {
    say(this._replayed, "Replaying …");
    return showing(this._place, async () => {
      const answer = await ask(`${this._path}/replay`, {}, this._signal).catch((error) => {
        say(this._replayed, "");
        throw error;
      });
      say(this._replayed, answer.identical
        ? "Replayed: it would decide the same today."
        : `Replayed: step ${answer.first_difference} would be another one today.`);
    });
  }
}
