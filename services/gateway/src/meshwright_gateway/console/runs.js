// Runs of workflows, newest first.

import { collect } from "./api.js";
import { fill, h, keyed, say, table } from "./dom.js";
import { choice, stateChoice } from "./filters.js";
import { badge, duration, linked, moment, secondsBetween } from "./format.js";
import { keepFresh } from "./poll.js";
import { showTrouble } from "./problem.js";

const LOOK_SECONDS = 3;
const ROWS = 50;
const MOST_ROWS = 400;
const MOST_WORKFLOWS = 400;

/** Show the runs, until `signal` is aborted. */
export async function runsView(main, { signal }) {
  const wanted = { rows: ROWS };
  const names = new Map();
  const none = h("p", { class: "quiet", hidden: true },
    "No runs. Workflows are started by the API, by schedules, or with ",
    h("code", {}, "meshwright workflows start"), ".");
  const more = h("button", { type: "button", hidden: true, click: () => {
    wanted.rows += ROWS;
    changed();
  } }, "Show older");
  const changed = () => refresh().catch((error) => signal.aborted || showTrouble(error.message));
  const state = stateChoice(changed);
  const workflow = choice("Workflow", [], changed);
  const { element, body } = table("Runs", ["State", "Run", "Workflow", "Begun", "Took", "Started by"]);
  main.append(h("h1", { tabindex: -1 }, "Workflows"),
    h("div", { class: "filters", role: "search", "aria-label": "Runs" }, state.element, workflow.element),
    none, element, more);

  async function refresh() {
    const { found, more: isMore } = await collect("/api/v1/workflows/runs", "runs", {
      query: { state: state.value(), workflow_id: workflow.value() }, wanted: wanted.rows, signal,
    });
    if (found.some((run) => !names.has(run.workflow_id))) await learn();
    keyed(body, found, {
      key: (run) => run.run_id,
      make: (run) => row(run, names.get(run.workflow_id) ?? run.workflow_id),
      update,
    });
    none.hidden = found.length > 0;
    more.hidden = !isMore || wanted.rows >= MOST_ROWS;
  }

  async function learn() {
    const { found } = await collect("/api/v1/workflows", "workflows", { wanted: MOST_WORKFLOWS, signal });
    for (const one of found) {
      if (!names.has(one.workflow_id)) workflow.add(one.workflow_id, one.name);
      names.set(one.workflow_id, one.name);
    }
  }

  await keepFresh(LOOK_SECONDS, signal, refresh);
}

function row(run, name) {
  const by = run.parent_run_id
    ? ["run ", linked("runs", run.parent_run_id)]
    : run.schedule_id ? "schedule" : "a person or program";
  return h("tr", {},
    h("td"), h("td", {}, linked("runs", run.run_id)),
    h("td", {}, `${name} ${run.workflow_version}`), h("td", {}, moment(run.create_time)), h("td"), h("td", {}, by));
}

function update(element, run) {
  const [state, , , , took] = element.children;
  say(took, duration(secondsBetween(run.create_time, run.end_time)));
  if (element.dataset.version === run.state) return;
  element.dataset.version = run.state;
  fill(state, badge(run.state));
}
