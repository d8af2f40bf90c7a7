// Conversations: sessions, their turns, and a new question whose answer streams.

import { ask, collect } from "./api.js";
import { ChatTurn } from "./chat_turn.js";
import { fill, h, keyed, say } from "./dom.js";
import { agentChoice } from "./filters.js";
import { moment } from "./format.js";
import { keepFresh } from "./poll.js";

const LOOK_SECONDS = 10;
const SESSIONS = 30;
const TURNS = 30;
const DEFAULT_AGENT = "rag";

/** Show a session, or a new one when `id` is empty, until `signal` is aborted. */
export async function chatView(main, { id, signal }) {
  const sessions = h("ul", { class: "sessions" });
  const page = new Conversation(id, signal);
  main.append(h("div", { class: "chat" },
    h("details", { class: "side", open: window.matchMedia("(min-width: 50rem)").matches },
      h("summary", {}, "Sessions"),
      h("p", {}, h("a", { href: "#/chat" }, "New session")),
      sessions),
    page.element));
  await Promise.all([
    keepFresh(LOOK_SECONDS, signal, async () => {
      const { found } = await collect("/api/v1/sessions", "sessions", { wanted: SESSIONS, signal });
      keyed(sessions, found, { key: (one) => one.session_id, make: sessionEntry, update: (entry, one) => {
        say(entry.querySelector("a"), one.title || "Untitled");
        if (one.session_id === page.sessionId) entry.firstChild.setAttribute("aria-current", "page");
      } });
    }),
    id ? page.load() : null,
  ]);
}

function sessionEntry(session) {
  return h("li", {}, h("a", { href: `#/chat/${session.session_id}` }),
    h("span", { class: "quiet" }, session.agent ? `${session.agent} · ` : "", moment(session.update_time)));
}

class Conversation {
  constructor(sessionId, signal) {
    this.sessionId = sessionId;
    this._signal = signal;
    this._turns = h("div", { class: "turns" });
    this._agent = agentChoice("Agent", signal, () => {}, DEFAULT_AGENT);
    this._message = h("textarea", {
      id: "message", rows: 3, required: true, placeholder: "Ask something",
      keydown: (event) => {
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
          event.preventDefault();
          this._form.requestSubmit();
        }
      },
    });
    this._send = h("button", { type: "submit", class: "yes" }, "Send");
    this._stop = h("button", {
      type: "button", class: "no", hidden: true, click: () => this._running?.cancel(),
    }, "Stop");
    this._form = h("form", { class: "composer", submit: (event) => {
      event.preventDefault();
      return this._ask();
    } },
    h("div", { class: "field" }, h("label", { for: "message" }, "Message"), this._message),
    // A session keeps the agent that it began with unless a turn names another one.
    h("div", { class: "buttons" }, this._agent.element, this._stop, this._send));
    this.element = h("div", { class: "conversation" }, h("h1", { tabindex: -1 }, "Chat"), this._turns, this._form);
  }

  /** Show what was said before; a turn that goes on is followed. */
  async load() {
    const path = `/api/v1/sessions/${encodeURIComponent(this.sessionId)}`;
    const session = await ask(path, {}, this._signal);
    fill(this.element.querySelector("h1"), session.title || "Chat");
    const { turns, next_page_token: older } = await ask(`${path}/turns`, { page_size: TURNS }, this._signal);
    const agent = turns[0]?.agent || session.agent;
    if (agent) this._agent.choose(agent);
    if (older) this._turns.append(h("p", { class: "quiet" }, `The last ${TURNS} questions.`));
    for (const told of turns.reverse()) {
      if (told.withdrawn) continue;
      const turn = new ChatTurn(told.question, this._signal);
      this._turns.append(turn.element);
      if (turn.show(told)) await this._follow(turn, () => turn.follow(told.turn_id));
    }
  }

  async _ask() {
    const question = this._message.value.trim();
    if (!question || this._running) return;
    const turn = new ChatTurn(question, this._signal);
    this._turns.append(turn.element);
    this._message.value = "";
    const took = await this._follow(turn, () => turn.start({
      message: question,
      agent: this._agent.value(),
      ...(this.sessionId ? { session_id: this.sessionId } : {}),
    }, (sessionId) => this._began(sessionId)));
    // What was refused can be mended and sent again.
    if (!took && !this._message.value) this._message.value = question;
  }

  async _follow(turn, follow) {
    this._running = turn;
    this._send.disabled = true;
    this._stop.hidden = false;
    try {
      return await follow();
    } finally {
      this._running = null;
      this._send.disabled = false;
      this._stop.hidden = true;
    }
  }

  _began(sessionId) {
    if (this.sessionId === sessionId) return;
    this.sessionId = sessionId;
    // The address names the session now, but the page goes on: no navigation.
    history.replaceState(null, "", `#/chat/${sessionId}`);
  }
}
