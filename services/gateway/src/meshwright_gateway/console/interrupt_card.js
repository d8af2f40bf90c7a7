// What a task asks a person, with the means to answer: an exact call to approve or refuse, or a
// question with a form.

import { call, newRequestId } from "./api.js";
import { facts, fill, h, say, uniqueId } from "./dom.js";
import { duration, exactJson, json, linked, moment, secondsBetween, seen } from "./format.js";
import { problemBox } from "./problem.js";
import { schemaForm } from "./schema_form.js";

/**
 * Return the element of an interrupt of `taskId`. `answered` is called with the words for what was
 * answered, after the platform took it.
 */
export function interruptCard(interrupt, taskId, answered) {
  const heading = uniqueId("asks");
  const place = h("div");
  const answer = new Answer(interrupt, taskId, place, answered);
  const approves = interrupt.kind === "approval";
  return h("section", { class: "card asks", "aria-labelledby": heading, tabindex: -1 },
    h("h3", { id: heading }, interrupt.question || (approves ? "May this be done?" : "The task asks.")),
    interrupt.agent !== undefined
      ? facts([
        ["agent", interrupt.agent],
        ["task", linked("tasks", taskId)],
        ["asked", moment(interrupt.create_time)],
        ["expires", expiry(interrupt.expire_time)],
      ])
      : facts([["asked", interrupt.create_time ? moment(interrupt.create_time) : ""],
        ["expires", expiry(interrupt.expire_time)]]),
    interrupt.tool_call ? exactCall(interrupt.tool_call) : null,
    interrupt.payload ? h("pre", { class: "code" }, seen(json(interrupt.payload))) : null,
    approves ? approval(answer) : question(interrupt, answer),
    place);
}

/** Write anew what depends on the time of day. */
export function refreshExpiry(card) {
  for (const element of card.querySelectorAll("time.expiry")) say(element, leftText(element.dateTime));
}

function expiry(time) {
  if (!time) return "";
  return h("time", { class: "expiry", datetime: time, title: new Date(time).toLocaleString() }, leftText(time));
}

function leftText(time) {
  const left = -secondsBetween(time);
  return left > 0 ? `in ${duration(left)}` : "now";
}

function exactCall(toolCall) {
  return h("div", { class: "call" },
    h("p", {}, "Exactly this call, once: ", h("code", { class: "tool" }, seen(toolCall.name))),
    h("pre", { class: "code", tabindex: 0, role: "group", "aria-label": "Arguments" },
      exactJson(toolCall.arguments_json)));
}

function approval(answer) {
  const comment = h("input", { type: "text", id: uniqueId("comment"), maxlength: 2000, autocomplete: "off" });
  const decide = (approved) => {
    const text = comment.value.trim();
    return answer.give({ approved, ...(text ? { comment: text } : {}) }, approved ? "Approved" : "Refused");
  };
  return h("form", { class: "answer-form", submit: (event) => event.preventDefault() },
    h("div", { class: "field" },
      h("label", { for: comment.id }, "Comment", h("span", { class: "quiet" }, " (optional)")), comment),
    h("div", { class: "buttons" },
      h("button", { type: "button", class: "yes", click: () => decide(true) }, "Approve"),
      h("button", { type: "button", class: "no", click: () => decide(false) }, "Refuse")));
}

function question(interrupt, answer) {
  const form = schemaForm(interrupt.answer_schema, "answer");
  answer.mark = form.mark;
  return h("form", {
    class: "answer-form",
    novalidate: true,
    submit: (event) => {
      event.preventDefault();
      return answer.read(form.read);
    },
  }, form.element, h("div", { class: "buttons" }, h("button", { type: "submit", class: "yes" }, "Answer")));
}

class Answer {
  constructor(interrupt, taskId, place, answered) {
    this._interrupt = interrupt;
    this._path = `/api/v1/tasks/${encodeURIComponent(taskId)}/resume`;
    this._place = place;
    this._answered = answered;
    this._sent = { text: "", key: "" };
    this._busy = false;
    this.mark = (errors) => errors;
  }

  /** Give what `read` returns, or show why it cannot. */
  async read(read) {
    try {
      this.mark([]);
      await this.give(read(), "Answered");
    } catch (error) {
      fill(this._place, problemBox(error));
    }
  }

  async give(answer, word) {
    if (this._busy) return;
    this._busy = true;
    fill(this._place, h("p", { role: "status" }, "Sending …"));
    // The same answer again is the same request, should the first reply have been lost.
    const text = JSON.stringify(answer);
    if (this._sent.text !== text) this._sent = { text, key: newRequestId() };
    try {
      await call("POST", this._path, {
        body: { interrupt_id: this._interrupt.interrupt_id, answer },
        headers: { "idempotency-key": this._sent.key },
      });
      fill(this._place);
      this._answered(word);
    } catch (error) {
      const left = error.errors?.length ? this.mark(error.errors) : [];
      fill(this._place, problemBox(Object.assign(error, { errors: left })));
    } finally {
      this._busy = false;
    }
  }
}
