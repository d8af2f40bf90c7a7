// One run of a workflow: its picture, its steps, what they ask.

import { ask, call } from "./api.js";
import { facts, fill, h, keyed, refill, say, table } from "./dom.js";
import { badge, duration, json, linked, moment, secondsBetween, seen, usageText } from "./format.js";
import { interruptCard, refreshExpiry } from "./interrupt_card.js";
import { keepFresh } from "./poll.js";
import { showing } from "./problem.js";
import { runGraph } from "./run_graph.js";
import { failure } from "./transcript.js";

const LOOK_SECONDS = 2;
const BEGUN = new Set(["queued", "running", "waiting"]);

/** Show a run, until `signal` is aborted. */
export async function runView(main, { id, signal }) {
  const path = `/api/v1/workflows/runs/${encodeURIComponent(id)}`;
  const page = new RunPage(main, id, path, signal);
  let workflow = null;
  await keepFresh(LOOK_SECONDS, signal, async () => {
    const run = await ask(path, {}, signal);
    // A run keeps its version of the workflow, which never changes.
    workflow ??= await ask(`/api/v1/workflows/${encodeURIComponent(run.workflow_id)}`,
      { version: run.workflow_version }, signal);
    page.show(run, workflow);
    await page.showQuestions(run);
    // It has an end only when its compensations were done as well.
    return BEGUN.has(run.state) || run.end_time === null;
  });
}

class RunPage {
  constructor(main, id, path, signal) {
    this._path = path;
    this._signal = signal;
    this._name = h("h1", { tabindex: -1 }, "Run ", h("code", { class: "id" }, id));
    this._facts = h("div");
    this._place = h("div");
    this._graph = h("div", { class: "scroll graph", tabindex: 0, role: "region", "aria-label": "Graph of the run" });
    this._asks = h("div", { class: "cards" });
    this._ends = h("div");
    this._cancel = h("button", { type: "button", class: "no", hidden: true, click: () => this._stop() }, "Cancel");
    const { element, body } = table("Steps", ["State", "Step", "Does", "Attempt", "Took", "Work", "Result"]);
    this._rows = body;
    main.append(this._name, this._facts, h("div", { class: "buttons" }, this._cancel), this._place,
      this._graph, this._asks, h("h2", {}, "Steps"), element, this._ends);
  }

  show(run, workflow) {
    this._workflow = workflow;
    this._cancel.hidden = !BEGUN.has(run.state);
    refill(this._facts, [run.state, run.end_time, run.usage], () => facts([
      ["state", badge(run.state)],
      ["workflow", `${workflow.name} ${run.workflow_version}`],
      ["begun", moment(run.create_time)],
      [run.end_time ? "took" : "for", h("span", { class: "since" })],
      ["used", usageText(run.usage)],
      ["parent", linked("runs", run.parent_run_id)],
    ]));
    say(this._facts.querySelector(".since"), duration(secondsBetween(run.create_time, run.end_time)));
    const steps = stepsOf(run, workflow);
    refill(this._graph, steps.map((step) => step.state), () =>
      runGraph(`${workflow.name} ${run.workflow_version}`, steps));
    keyed(this._rows, steps, { key: (step) => step.name, make: (step) => stepRow(step), update: updateStep });
    refill(this._ends, [run.error, run.output], () => [
      run.error ? failure(run.error) : null,
      h("h2", {}, "Input"), h("pre", { class: "code" }, json(run.input)),
      run.output === null ? null : [h("h2", {}, "Output"), h("pre", { class: "code" }, json(run.output))],
    ]);
  }

  /** Show what steps of the run ask people. */
  async showQuestions(run) {
    const asking = run.steps.filter((step) => step.interrupt_id && step.child_ids.length);
    // Those of them that the user may answer.
    const lists = await Promise.all(asking.map((step) =>
      ask("/api/v1/interrupts", { task_id: step.child_ids.at(-1) }, this._signal)));
    keyed(this._asks, lists.flatMap((list) => list.interrupts), {
      key: (one) => one.interrupt_id,
      make: (one) => interruptCard(one, one.task_id, () => {
        this._asks.querySelector(`[data-key="${CSS.escape(one.interrupt_id)}"]`)?.remove();
        this._name.focus();
      }),
      update: refreshExpiry,
    });
  }

  _stop() {
    return showing(this._place, async () => {
      const run = await call("POST", `${this._path}/cancel`, { body: {}, signal: this._signal });
      this.show(run, this._workflow);
    });
  }
}

/** Return the steps of the definition with what the run made of them. */
function stepsOf(run, workflow) {
  const done = new Map(run.steps.map((step) => [step.name, step]));
  return workflow.definition.steps.map((step) => ({
    name: step.name,
    after: step.after,
    action: actionText(step.action),
    isRun: Boolean(step.action.subworkflow),
    state: "pending",
    attempt: 0,
    child_ids: [],
    output: null,
    error: null,
    start_time: null,
    end_time: null,
    ...done.get(step.name),
  }));
}

function actionText(action) {
  if (action.agent) return `agent ${action.agent.agent}`;
  if (action.tool) return `tool ${action.tool.tool}`;
  if (action.subworkflow) return `workflow ${action.subworkflow.workflow}`;
  if (action.approval) return "approval";
  return `delay ${action.delay}`;
}

function stepRow(step) {
  return h("tr", {}, h("td"), h("th", { scope: "row" }, step.name), h("td", {}, step.action),
    h("td"), h("td"), h("td"), h("td", { class: "text" }));
}

function updateStep(element, step) {
  const version = JSON.stringify([step.state, step.attempt, step.child_ids, step.end_time]);
  const [state, , , attempt, took, work, result] = element.children;
  say(took, step.start_time ? duration(secondsBetween(step.start_time, step.end_time)) : "–");
  if (element.dataset.version === version) return;
  element.dataset.version = version;
  fill(state, badge(step.state));
  fill(attempt, step.attempt ? String(step.attempt) : "–");
  fill(work, step.child_ids.map((id) =>
    h("div", {}, linked(step.isRun ? "runs" : "tasks", id))));
  fill(result, resultOf(step));
}

function resultOf(step) {
  if (step.error && step.error.reason) {
    return h("span", { class: "wrong" }, `${step.error.reason} ${step.error.message}`);
  }
  if (step.output === null) return "";
  const text = seen(JSON.stringify(step.output));
  if (text.length <= 60) return h("code", {}, text);
  return h("details", {}, h("summary", {}, h("code", {}, `${text.slice(0, 60)}…`)),
    h("pre", { class: "code" }, json(step.output)));
}
