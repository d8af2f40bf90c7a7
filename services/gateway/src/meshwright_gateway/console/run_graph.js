// A run as a picture: its steps in layers by the longest way from the beginning, an edge for each
// `after`. The same arrangement as GET /api/v1/workflows/runs/{id}/graph, in the colours of the page.

import { s } from "./dom.js";

const WIDTH = 228;
const HEIGHT = 48;
const ACROSS = 24;
const DOWN = 40;
const MARGIN = 12;
/** Characters that fit into a box, of what it does and of the name in bold. */
const LONGEST = 32;
const LONGEST_NAME = 25;

/** Return the SVG of `steps`: name, after, action and state of each. */
export function runGraph(title, steps) {
  const layers = layersOf(steps);
  const widest = Math.max(...layers.map((layer) => layer.length), 1);
  const width = 2 * MARGIN + widest * (WIDTH + ACROSS) - ACROSS;
  const height = 2 * MARGIN + layers.length * (HEIGHT + DOWN) - DOWN;
  const places = placesOf(layers, width);
  const edges = steps.flatMap((step) =>
    step.after.filter((name) => places.has(name)).map((name) => edge(places.get(name), places.get(step.name))));
  const said = steps.map((step) => `${step.name} ${step.state}`).join(", ");
  const head = { viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" };
  return s("svg", {
    viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${title}: ${said}`,
  },
    s("defs", {}, s("marker", { id: "arrow", ...head }, s("path", { d: "M0,0 L8,4 L0,8 z", class: "arrow" }))),
    edges, steps.map((step) => box(step, places.get(step.name))));
}

function layersOf(steps) {
  const byName = new Map(steps.map((step) => [step.name, step]));
  const depth = new Map();
  let waiting = [...steps];
  while (waiting.length) {
    let ready = waiting.filter((step) => step.after.every((name) => depth.has(name) || !byName.has(name)));
    // A circle, which no stored workflow has.
    if (!ready.length) ready = waiting;
    for (const step of ready) {
      const before = step.after.filter((name) => depth.has(name)).map((name) => depth.get(name));
      depth.set(step.name, 1 + Math.max(-1, ...before));
    }
    waiting = waiting.filter((step) => !depth.has(step.name));
  }
  const layers = [];
  for (const step of steps) (layers[depth.get(step.name)] ??= []).push(step);
  const centre = new Map();
  for (const layer of layers) {
    // Near those before them: fewer edges cross.
    const middle = new Map(layer.map((step) =>
      [step, mean(step.after.filter((name) => centre.has(name)).map((name) => centre.get(name)))]));
    layer.sort((one, other) => middle.get(one) - middle.get(other));
    layer.forEach((step, index) => centre.set(step.name, index - (layer.length - 1) / 2));
  }
  return layers;
}

function mean(numbers) {
  return numbers.length ? numbers.reduce((sum, one) => sum + one, 0) / numbers.length : 0;
}

function placesOf(layers, width) {
  const places = new Map();
  layers.forEach((layer, number) => {
    const left = (width - (layer.length * (WIDTH + ACROSS) - ACROSS)) / 2;
    layer.forEach((step, index) => places.set(step.name, {
      x: left + index * (WIDTH + ACROSS), y: MARGIN + number * (HEIGHT + DOWN),
    }));
  });
  return places;
}

function edge(from, to) {
  const [x1, y1] = [from.x + WIDTH / 2, from.y + HEIGHT];
  const [x2, y2] = [to.x + WIDTH / 2, to.y - 2];
  const middle = (y1 + y2) / 2;
  const d = `M${x1},${y1} C${x1},${middle} ${x2},${middle} ${x2},${y2}`;
  return s("path", { class: "edge", d, "marker-end": "url(#arrow)" });
}

function box(step, { x, y }) {
  return s("g", { class: "step", "data-state": step.state },
    s("title", {}, `${step.name}: ${step.state}${step.error?.message ? ` – ${step.error.message}` : ""}`),
    s("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 4 }),
    s("text", { x: x + 12, y: y + 20, class: "name" }, cut(step.name, LONGEST_NAME)),
    s("text", { x: x + 12, y: y + 37 }, cut(`${step.action} · ${step.state}`, LONGEST)));
}

function cut(text, longest) {
  return text.length > longest ? `${text.slice(0, longest - 1)}…` : text;
}
