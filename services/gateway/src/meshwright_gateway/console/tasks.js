// Tasks of the tenant, newest first, and a form to hand in one.

import { call, collect, newRequestId } from "./api.js";
import { fill, h, keyed, say, table } from "./dom.js";
import { badge, duration, linked, moment, secondsBetween } from "./format.js";
import { agentChoice, stateChoice } from "./filters.js";
import { keepFresh } from "./poll.js";
import { showing, showTrouble } from "./problem.js";

const LOOK_SECONDS = 3;
const ROWS = 50;
const MOST_ROWS = 400;

/** Show the tasks, until `signal` is aborted. */
export async function tasksView(main, { signal }) {
  const wanted = { rows: ROWS };
  const none = h("p", { class: "quiet", hidden: true }, "No tasks.");
  const more = h("button", { type: "button", hidden: true, click: () => {
    wanted.rows += ROWS;
    changed();
  } }, "Show older");
  const changed = () => refresh().catch((error) => signal.aborted || showTrouble(error.message));
  const { element, body } = table("Tasks", ["State", "Task", "Agent", "Created", "Took", "Steps", "Parent"]);
  const state = stateChoice(changed);
  const agent = await listed(main, signal, state, changed);
  main.append(none, element, more);

  async function refresh() {
    const { found, more: isMore } = await collect("/api/v1/tasks", "tasks", {
      query: { state: state.value() },
      keep: agent.value() ? (task) => task.agent === agent.value() : null,
      wanted: wanted.rows,
      signal,
    });
    keyed(body, found, { key: (task) => task.task_id, make: row, update });
    none.hidden = found.length > 0;
    more.hidden = !isMore || wanted.rows >= MOST_ROWS;
  }
  await keepFresh(LOOK_SECONDS, signal, refresh);
}

async function listed(main, signal, state, changed) {
  const agent = agentChoice("Agent", signal, changed);
  main.append(h("h1", { tabindex: -1 }, "Tasks"), newTask(signal),
    h("div", { class: "filters", role: "search", "aria-label": "Tasks" }, state.element, agent.element));
  return agent;
}

function row() {
  return h("tr", {}, h("td"), h("td"), h("td"), h("td"), h("td"), h("td"), h("td"));
}

function update(element, task) {
  const version = `${task.state} ${task.update_time} ${task.step_count}`;
  const [state, id, agent, created, took, steps, parent] = element.children;
  say(took, duration(secondsBetween(task.create_time, task.end_time)));
  if (element.dataset.version === version) return;
  element.dataset.version = version;
  fill(state, badge(task.state));
  // The link stays the same element: it may have the focus.
  if (!id.firstChild) fill(id, linked("tasks", task.task_id));
  fill(agent, task.agent);
  fill(created, moment(task.create_time));
  fill(steps, String(task.step_count));
  if (task.parent_task_id && !parent.firstChild) {
    fill(parent, linked("tasks", task.parent_task_id));
  }
}

function newTask(signal) {
  const agent = agentChoice("Agent of the new task", signal, () => {}, "chat");
  const message = h("textarea", { id: "new-task", rows: 3, required: true });
  const place = h("div");
  const sent = { text: "", key: "" };
  const submit = (event) => {
    event.preventDefault();
    return showing(place, async () => {
      const body = { agent: agent.value(), message: message.value };
      // The same again is the same request, until it was answered.
      const text = JSON.stringify(body);
      if (sent.text !== text) Object.assign(sent, { text, key: newRequestId() });
      const task = await call("POST", "/api/v1/tasks", {
        body, headers: { "idempotency-key": sent.key }, signal,
      });
      sent.text = "";
      location.hash = `#/tasks/${task.task_id}`;
    });
  };
  return h("details", { class: "new" },
    h("summary", {}, "Hand in a task"),
    h("form", { submit },
      agent.element,
      h("div", { class: "field" }, h("label", { for: message.id }, "Message"), message),
      h("div", { class: "buttons" }, h("button", { type: "submit", class: "yes" }, "Hand in")),
      place));
}
