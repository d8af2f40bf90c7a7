// The tree that a task belongs to: tasks that handed work to others, as far as lists tell.

import { ask, collect } from "./api.js";
import { fill, h } from "./dom.js";
import { badge, linked, shortId } from "./format.js";

/** A tree has 1000 tasks at most; among those of others the newest so many are looked through. */
const MOST = 1000;
const ENDED = new Set(["completed", "failed", "cancelled", "expired"]);

/** Shows the tree in `place`, or nothing while the task is alone. */
export class TaskTree {
  constructor(place, taskId, signal) {
    this._place = place;
    this._taskId = taskId;
    this._signal = signal;
    this._shown = "";
  }

  /** Look again at the tree of `task`. Returns whether all of it has ended. */
  async refresh(task) {
    // A task that began nothing has no root, nor has anything it as root.
    if (!task.root_task_id) return true;
    const root = task.root_task_id;
    // Ids rise with time: what is older than the root is not of its tree.
    const { found } = await collect("/api/v1/tasks", "tasks", {
      wanted: MOST,
      keep: (one) => one.root_task_id === root || one.task_id === root,
      until: (one) => one.task_id < root,
      signal: this._signal,
    });
    const members = new Map(found.map((one) => [one.task_id, one]));
    members.set(task.task_id, task);
    if (!members.has(root)) {
      members.set(root, await ask(`/api/v1/tasks/${encodeURIComponent(root)}`, {}, this._signal));
    }
    const all = [...members.values()].sort((one, other) => (one.task_id < other.task_id ? -1 : 1));
    this._show(all, root);
    return all.every((one) => ENDED.has(one.state));
  }

  _show(tasks, root) {
    const shown = tasks.map((one) => `${one.task_id} ${one.state}`).join();
    if (shown === this._shown) return;
    this._shown = shown;
    this._place.hidden = tasks.length < 2;
    const below = grouped(tasks);
    const top = tasks.find((one) => one.task_id === root);
    fill(this._place, h("h2", {}, "Its tree"), h("ul", { class: "tree" }, this._branch(top, below)));
  }

  _branch(task, below) {
    const children = below.get(task.task_id) ?? [];
    const isHere = task.task_id === this._taskId;
    return h("li", {},
      badge(task.state), ` ${task.agent} `,
      isHere
        ? h("strong", { "aria-current": "true" }, shortId(task.task_id))
        : linked("tasks", task.task_id),
      children.length ? h("ul", {}, children.map((child) => this._branch(child, below))) : null);
  }
}

function grouped(tasks) {
  const groups = new Map();
  for (const task of tasks) {
    groups.set(task.parent_task_id, [...(groups.get(task.parent_task_id) ?? []), task]);
  }
  return groups;
}
