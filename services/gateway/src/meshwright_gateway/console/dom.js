// Makes elements. Content only ever becomes text: there is no way here to turn it into markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return an element. `attributes` are attributes, but for functions, which listen to the event of
 * that name, and for null and false, which are left out. Children are nodes, texts or lists of
 * them; null and false are left out.
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Return an element of SVG, by the same rules. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...nodes(children));
  return element;
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Put `children` in the place of whatever `element` has. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/**
 * Put what `make` returns into `element`, unless it shows this `version` already: what is selected
 * or has the focus stays while nothing changes.
 */
export function refill(element, version, make) {
  const text = JSON.stringify(version);
  if (element.dataset.version === text) return;
  element.dataset.version = text;
  fill(element, make());
}

/** Change the text of `element` if it is another one: screen readers hear only what changed. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = text === "";
}

/**
 * Make the children of `container` those of `items`, in their order. Elements of items that were
 * there before stay the same elements, so focus and what was typed are kept.
 *
 * `key` names an item, `make` returns its element, `update` changes that for a newer item.
 */
export function keyed(container, items, { key, make, update }) {
  const before = new Map([...container.children].map((child) => [child.dataset.key, child]));
  let place = container.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let element = before.get(name);
    before.delete(name);
    if (element === undefined) {
      element = make(item);
      element.dataset.key = name;
    }
    update?.(element, item);
    if (element === place) place = place.nextElementSibling;
    else container.insertBefore(element, place);
  }
  for (const gone of before.values()) gone.remove();
}

/** Return a table with these headings; rows go into `body`. It can be scrolled by keys where it is wide. */
export function table(label, headings) {
  const body = h("tbody");
  const element = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h("table", {},
      h("thead", {}, h("tr", {}, headings.map((heading) => h("th", { scope: "col" }, heading)))),
      body));
  return { element, body };
}

/** Return a list of facts: pairs of a name and a value, those with an empty value left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return h("dl", { class: "facts" },
    shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** Return a name that no other element of the page has. */
export function uniqueId(prefix) {
  uniqueId.last = (uniqueId.last ?? 0) + 1;
  return `${prefix}-${uniqueId.last}`;
}
