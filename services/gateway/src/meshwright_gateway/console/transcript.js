// What the events of a turn or a task say, on the page: what was done, then the answer as it comes.

import { fill, h } from "./dom.js";
import { badge, exactJson, linked, seen, usageText } from "./format.js";

/**
 * Shows the events of one turn or task. `interrupted` gets the data of an interrupt and returns the
 * element that asks, or null when it is shown elsewhere.
 */
export class Transcript {
  constructor({ interrupted }) {
    this._interrupted = interrupted;
    this._reasoning = h("p", { class: "said" });
    this._thoughts = h("details", { class: "thoughts", hidden: true }, h("summary", {}, "Reasoning"), this._reasoning);
    this._doings = h("ol", { class: "doings", "aria-label": "What was done" });
    this._asks = h("div");
    this._text = document.createTextNode("");
    this._answer = h("div", { class: "said answer", "aria-live": "polite", "aria-busy": "true" }, this._text);
    this._sources = h("ol", { class: "sources", "aria-label": "Sources" });
    this._usage = h("p", { class: "quiet" });
    this._byId = new Map();
    this._checkpoint = { doings: 0, characters: 0 };
    this.element = h("div", { class: "transcript" },
      this._thoughts, this._doings, this._asks, this._answer, this._sources, this._usage);
  }

  /** Show an event. Returns whether the stream can be resumed after it. */
  take(name, data) {
    if (this._asks.firstChild && name !== "interrupt" && name !== "usage") fill(this._asks);
    EVENTS[name]?.call(this, data);
    return !name.startsWith("task.") || name === "task.checkpoint" || ENDS_OF_TASKS.has(name);
  }

  /** Take back what came after the last event after which the stream can be resumed. */
  toCheckpoint() {
    for (const doing of [...this._doings.children].slice(this._checkpoint.doings)) this._forget(doing);
    this._keep(this._checkpoint.characters);
  }

  /** Take back everything: the stream begins anew. */
  toStart() {
    this._checkpoint = { doings: 0, characters: 0 };
    this.toCheckpoint();
    fill(this._sources);
    fill(this._asks);
  }

  /** No more comes. */
  end() {
    this._answer.removeAttribute("aria-busy");
  }

  /** Show the end of what is stored, for which there are no events. */
  show({ answer = "", citations = [], usage = null }) {
    this._text.data = answer;
    fill(this._sources, citations.map(source));
    if (usage) this._usage.textContent = usageText(usage);
    this.end();
  }

  _forget(doing) {
    this._byId.delete(doing.dataset.id);
    doing.remove();
  }

  /** Keep so many characters of the answer, counted as the platform does: code points. */
  _keep(characters) {
    this._text.data = Array.from(this._text.data).slice(0, characters).join("");
    this._reasoning.textContent = "";
    this._thoughts.hidden = true;
  }

  /** Return the entry of this id, made if it is new. */
  _doing(id, make) {
    let doing = this._byId.get(id);
    if (doing === undefined) {
      doing = h("li", { "data-id": id });
      this._byId.set(id, doing);
      this._doings.append(doing);
      fill(doing, make());
    }
    return doing;
  }
}

const ENDS_OF_TASKS = new Set(["task.completed", "task.failed"]);

const EVENTS = {
  "message.delta"(data) {
    this._text.appendData(data.text);
  },
  "reasoning.delta"(data) {
    this._thoughts.hidden = false;
    this._reasoning.append(data.text);
  },
  "turn.restarted"(data) {
    this._keep(data.keep_characters);
    fill(this._sources);
  },
  "task.started"() {
    this.toCheckpoint();
  },
  "task.checkpoint"(data) {
    this._checkpoint = { doings: this._doings.childElementCount, characters: data.answer_characters };
  },
  recall(data) {
    this._doing("recall", () => [
      `Passages found: ${data.passages.length}`,
      data.degraded.length ? h("span", { class: "quiet" }, ` (without ${data.degraded.join(", ")})`) : null,
    ]);
  },
  "tool.call"(data) {
    this._doing(data.id, () => toolCall(data));
  },
  "tool.result"(data) {
    const doing = this._doing(data.tool_call_id, () => toolCall({ name: data.name, arguments_json: "{}" }));
    doing.querySelector(".badge").replaceWith(badge(data.is_error ? "failed" : "completed"));
    doing.querySelector(".result")?.remove();
    doing.querySelector("details").append(
      h("div", { class: "result" }, h("p", { class: "quiet" }, data.truncated ? "Result (its beginning)" : "Result"),
        h("pre", { class: "code" }, exactJson(data.result_json))));
  },
  citation(data) {
    this._sources.append(source(data));
  },
  "task.child"(data) {
    // The stream tells of its beginning and its end alone.
    const state = badge(data.state === "queued" ? "handed over" : data.state);
    const doing = this._doing(data.task_id, () => [
      state, " Agent ", h("strong", {}, data.agent), " ",
      linked("tasks", data.task_id),
    ]);
    doing.querySelector(".badge").replaceWith(state);
  },
  plan(data) {
    const doing = this._doing("plan", () => []);
    fill(doing, `Plan${data.revision > 1 ? `, revision ${data.revision}` : ""}`,
      data.note ? h("p", { class: "quiet" }, data.note) : null,
      h("ul", { class: "plan" }, data.steps.map((step) => h("li", {}, badge(step.state), ` ${step.text}`))));
  },
  interrupt(data) {
    const asked = this._interrupted(data);
    if (asked) this._asks.append(asked);
  },
  usage(data) {
    this._usage.textContent = usageText(data);
  },
  "turn.completed"(data) {
    this._text.data = data.answer;
    this._usage.textContent = usageText(data.usage);
    this.end();
  },
  "task.completed"(data) {
    this._text.data = data.answer;
    fill(this._sources, data.citations.map(source));
    this._usage.textContent = usageText(data.usage);
    this.end();
  },
  "turn.failed"(data) {
    this._fail(data);
  },
  "task.failed"(data) {
    this._fail(data);
  },
  "turn.cancelled"() {
    this.end();
  },
};

Transcript.prototype._fail = function fail(data) {
  this.element.append(failure(data));
  this.end();
};

/** Return how something failed. */
export function failure({ reason, message }) {
  return h("p", { class: "problem" }, h("strong", {}, reason), " ", message);
}

function toolCall(data) {
  return h("details", {},
    h("summary", {}, badge("running"), " ", h("code", { class: "tool" }, seen(data.name)), " ",
      h("span", { class: "quiet brief" }, brief(data.arguments_json))),
    h("p", { class: "quiet" }, "Arguments"),
    h("pre", { class: "code" }, exactJson(data.arguments_json)));
}

function brief(text) {
  return seen(text.length > 120 ? `${text.slice(0, 120)}…` : text);
}

function source(citation) {
  const page = citation.page ? `, page ${citation.page}` : "";
  const heading = citation.heading_path?.length ? ` · ${citation.heading_path.join(" › ")}` : "";
  return h("li", { value: citation.number },
    h("details", {},
      h("summary", {}, `${citation.document_name}${page}`, h("span", { class: "quiet" }, heading)),
      h("blockquote", {}, citation.quote)));
}
