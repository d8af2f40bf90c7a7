// One turn of a conversation: the question, and the answer as it streams.

import { call, newRequestId } from "./api.js";
import { fill, h, say } from "./dom.js";
import { interruptCard } from "./interrupt_card.js";
import { problemBox, showing } from "./problem.js";
import { followStream } from "./stream.js";
import { failure, Transcript } from "./transcript.js";

const ENDS = new Set(["turn.completed", "turn.failed", "turn.cancelled"]);
const GOES_ON = new Set(["queued", "running", "waiting"]);
const WORDS = {
  "turn.queued": "Waits for its turn …",
  "turn.started": "Answering …",
  "turn.restarted": "Begun again …",
  interrupt: "Waits for a person.",
  "tool.call": "Using a tool …",
  "message.delta": "Answering …",
  "turn.completed": "",
  "turn.failed": "Failed.",
  "turn.cancelled": "Stopped.",
};

/** A turn on the page. */
export class ChatTurn {
  constructor(question, signal) {
    this._signal = signal;
    this._turnId = "";
    this._state = h("p", { role: "status", class: "news", hidden: true });
    this._place = h("div");
    this._transcript = new Transcript({ interrupted: (data) => this._asked(data) });
    this.element = h("article", { class: "turn", "aria-label": "Question and answer" },
      h("div", { class: "question said" }, question), this._transcript.element, this._state, this._place);
  }

  /** Show a stored turn. Returns whether it goes on, and so has to be followed. */
  show(turn) {
    if (GOES_ON.has(turn.state)) return true;
    this._transcript.show(turn);
    if (turn.state === "failed") {
      fill(this._place, failure({ reason: turn.error_reason, message: turn.error_message }));
    } else if (turn.state === "cancelled") say(this._state, WORDS["turn.cancelled"]);
    return false;
  }

  /** Ask, and follow the answer. `began` gets the session. Returns whether the question was taken. */
  start(body, began) {
    // Sent again after a break, it is the same turn.
    const headers = { "idempotency-key": newRequestId(), accept: "text/event-stream" };
    const start = { method: "POST", path: "/api/v1/chat", body, headers };
    return this._run(start, (answer) => answer.headers.get("content-location"), began);
  }

  /** Follow a turn that was begun before, from its beginning. */
  follow(turnId) {
    this._turnId = turnId;
    const path = `/api/v1/turns/${encodeURIComponent(turnId)}/events`;
    return this._run({ method: "GET", path }, () => path, () => {});
  }

  /** Stop the answer; what was said stays. */
  cancel() {
    if (!this._turnId) return;
    return showing(this._place, () =>
      call("POST", `/api/v1/turns/${encodeURIComponent(this._turnId)}/cancel`, { body: {}, signal: this._signal }));
  }

  async _run(start, locate, began) {
    let path = "";
    try {
      await followStream({
        start,
        follow: (answer) => (path ||= locate(answer)),
        take: (name, data) => {
          if (name === "turn.started" || name === "turn.queued") {
            this._turnId = data.turn_id;
            began(data.session_id);
          }
          if (name in WORDS) say(this._state, WORDS[name]);
          return this._transcript.take(name, data);
        },
        // Events of a turn have no gaps, and each can be gone on after: nothing is taken back.
        rewind: (last) => last || this._transcript.toStart(),
        tell: (text) => say(this._state, text),
        ends: ENDS,
        signal: this._signal,
      });
      return true;
    } catch (error) {
      if (this._signal.aborted) return true;
      say(this._state, "");
      fill(this._place, problemBox(error));
      return this._turnId !== "";
    } finally {
      this._transcript.end();
    }
  }

  _asked(data) {
    return interruptCard(data, data.task_id, (word) => {
      say(this._state, `${word}. Going on …`);
    });
  }
}
