// Agents, the programs that joined as remote agents, and the models behind them: how they do.

import { ask, collect } from "./api.js";
import { fill, h, keyed, table } from "./dom.js";
import { badge, duration, moment, percent, secondsBetween } from "./format.js";
import { keepFresh } from "./poll.js";

const LOOK_SECONDS = 5;
const MOST = 400;

/** Show them, until `signal` is aborted. */
export async function agentsView(main, { signal }) {
  const remote = table("Remote agents",
    ["State", "Agent", "Address", "Weight", "CPU free", "Memory free", "Pending", "Errors", "Heard"]);
  const models = table("Models",
    ["Breaker", "Deployment", "In flight", "Last minute", "Errors", "First token p50", "p99", "Last failure"]);
  const agents = table("Agents", ["Agent", "Type", "Version", "Online", "What it does"]);
  const none = h("p", { class: "quiet", hidden: true }, "No program has joined.");
  main.append(h("h1", { tabindex: -1 }, "Agents"),
    h("h2", {}, "Remote agents"), none, remote.element,
    h("h2", {}, "Models"), models.element,
    h("h2", {}, "All agents"), agents.element);

  await keepFresh(LOOK_SECONDS, signal, async () => {
    const [{ found }, health] = await Promise.all([
      collect("/api/v1/agents", "agents", { wanted: MOST, signal }),
      deploymentsHealth(signal),
    ]);
    keyed(agents.body, found, { key: (one) => one.name, make: () => cells(5, "text"), update: updateAgent });
    const joined = await Promise.all(found.filter((one) => one.type === "remote").map((one) =>
      ask(`/api/v1/agents/${encodeURIComponent(one.name)}`, {}, signal)));
    const instances = joined.flatMap((agent) =>
      agent.instances.map((one) => ({ ...one, agent: agent.name })));
    keyed(remote.body, instances, {
      key: (one) => one.agent_instance_id, make: () => cells(9), update: updateInstance,
    });
    none.hidden = instances.length > 0;
    remote.element.hidden = instances.length === 0;
    keyed(models.body, health, { key: (one) => one.deployment, make: () => cells(8), update: updateDeployment });
  });
}

/** Return how the deployments do; none for a caller who may not see that. */
async function deploymentsHealth(signal) {
  try {
    return (await collect("/api/v1/routing/health", "deployments", { wanted: MOST, signal })).found;
  } catch (error) {
    if (error.status === 403) return [];
    throw error;
  }
}

/** Return a row of so many cells, the last one of this class. */
function cells(count, last = null) {
  return h("tr", {}, Array.from({ length: count - 1 }, () => h("td")), h("td", { class: last }));
}

function set(element, ...values) {
  values.forEach((value, index) => fill(element.children[index], value));
}

function updateAgent(element, agent) {
  set(element, agent.name, agent.type.replaceAll("_", " "), String(agent.version),
    agent.type === "remote" ? String(agent.online_instances) : "–", agent.description);
}

function updateInstance(element, one) {
  const pending = one.pending_tasks === null ? "–" : `${one.pending_tasks} of ${one.max_concurrent_tasks}`;
  set(element, badge(one.state), one.agent, h("code", {}, one.address), String(one.weight),
    percent(one.cpu_free), percent(one.memory_free), pending, percent(one.error_rate),
    one.heartbeat_time ? `${duration(Math.max(1, secondsBetween(one.heartbeat_time)))} ago` : "never");
}

function updateDeployment(element, one) {
  set(element, badge(one.breaker_state), one.deployment, String(one.requests_in_flight),
    String(one.recent_requests), percent(one.error_rate), seconds(one.first_token_p50_seconds),
    seconds(one.first_token_p99_seconds),
    one.last_failure_reason ? [one.last_failure_reason, " ", moment(one.last_failure_time)] : "–");
}

function seconds(value) {
  return value === null ? "–" : duration(value);
}
