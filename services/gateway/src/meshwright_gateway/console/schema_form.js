// A form for a JSON Schema of type object: a field for each property that a person can type, and
// JSON for what is too involved for that. The platform judges the answer; nothing is checked twice.

import { fill, h, uniqueId } from "./dom.js";

const LONG_TEXT = 120;

/**
 * Return {element, read, mark}. `read` returns the object that was typed, and throws an Error that
 * names the field for text that is no JSON or no number. `mark` shows errors of the API, [{field,
 * message}] with paths below `prefix`, at their fields, and returns those that it has no field for.
 */
export function schemaForm(schema, prefix) {
  const fields = [];
  const element = h("div", { class: "form" }, objectFields(schema, prefix, fields));
  return {
    element,
    read: () => readObject(fields),
    mark: (errors) => markErrors(fields, errors),
  };
}

function objectFields(schema, path, fields) {
  const required = new Set(schema?.required ?? []);
  // What must be there comes first: the wire keeps no order.
  const properties = Object.entries(schema?.properties ?? {})
    .sort(([one], [other]) => required.has(other) - required.has(one));
  if (properties.length === 0) {
    const field = jsonField({ title: "Answer (a JSON object)" }, path, true);
    field.whole = true;
    field.input.value = "{}";
    fields.push(field);
    return [field.element];
  }
  return properties.map(([name, property]) => {
    const at = `${path}.${name}`;
    const isRequired = required.has(name);
    const field = isPlainObject(property)
      ? nestedField(name, property, at)
      : inputField(name, property, at, isRequired);
    field.name = name;
    field.required = isRequired;
    fields.push(field);
    return field.element;
  });
}

function isPlainObject(schema) {
  return schema.type === "object" && Object.keys(schema.properties ?? {}).length > 0;
}

function nestedField(name, schema, path) {
  const inner = [];
  const element = h("fieldset", {},
    h("legend", {}, schema.title ?? name),
    schema.description ? h("p", { class: "quiet" }, schema.description) : null,
    objectFields(schema, path, inner));
  return { path, element, inner, value: () => readObject(inner) };
}

function inputField(name, schema, path, required) {
  const titled = { ...schema, title: schema.title ?? name };
  if (Array.isArray(schema.enum)) return choiceField(titled, path, required);
  if (schema.type === "boolean") {
    return choiceField({ ...titled, enum: [true, false], words: ["yes", "no"] }, path, required);
  }
  if (schema.type === "string") return textField(titled, path, required);
  if (schema.type === "number" || schema.type === "integer") return numberField(titled, path, required);
  return jsonField(titled, path, required);
}

/** Put a label, a description and a place for errors around an input. */
function labelled(schema, path, required, input, value) {
  const id = uniqueId("field");
  const errors = h("p", { class: "field-error", id: `${id}-error`, role: "alert" });
  const description = [schema.description, limitsOf(schema)].filter(Boolean).join(" ");
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-about ${id}-error`);
  if (required) input.setAttribute("aria-required", "true");
  const element = h("div", { class: "field" },
    h("label", { for: id }, schema.title, required ? null : h("span", { class: "quiet" }, " (optional)")),
    h("p", { class: "quiet", id: `${id}-about` }, description),
    input, errors);
  return { path, element, input, errors, value, title: schema.title };
}

function limitsOf(schema) {
  const limits = [
    schema.minLength ? `at least ${schema.minLength} characters` : "",
    schema.maxLength ? `at most ${schema.maxLength} characters` : "",
    schema.minimum !== undefined ? `at least ${schema.minimum}` : "",
    schema.maximum !== undefined ? `at most ${schema.maximum}` : "",
    schema.format ? `format ${schema.format}` : "",
  ].filter(Boolean);
  return limits.length ? `(${limits.join(", ")})` : "";
}

function choiceField(schema, path, required) {
  const words = schema.words ?? schema.enum.map((one) => (typeof one === "string" ? one : JSON.stringify(one)));
  const chosen = schema.enum.indexOf(schema.default);
  const input = h("select", {},
    h("option", { value: "" }, required ? "choose …" : "–"),
    words.map((word, index) => h("option", { value: index, selected: index === chosen }, word)));
  return labelled(schema, path, required, input, () =>
    input.value === "" ? undefined : schema.enum[Number(input.value)]);
}

function textField(schema, path, required) {
  const long = !schema.format && (schema.maxLength ?? Infinity) > LONG_TEXT;
  const input = long ? h("textarea", { rows: 2 }) : h("input", { type: "text", autocomplete: "off" });
  input.value = typeof schema.default === "string" ? schema.default : "";
  // An empty text that must be there is a text; one that need not be is nothing.
  return labelled(schema, path, required, input, () =>
    input.value === "" && !required ? undefined : input.value);
}

function numberField(schema, path, required) {
  const input = h("input", { type: "text", inputmode: "decimal", autocomplete: "off" });
  input.value = schema.default ?? "";
  return labelled(schema, path, required, input, () => {
    const text = input.value.trim();
    if (text === "") return undefined;
    if (!Number.isFinite(Number(text))) throw new Error("must be a number");
    return Number(text);
  });
}

function jsonField(schema, path, required) {
  const input = h("textarea", { rows: 3, class: "code", spellcheck: "false" });
  const about = { ...schema, description: `${schema.description ?? ""} As JSON.`.trim() };
  return labelled(about, path, required, input, () => {
    if (input.value.trim() === "") return undefined;
    try {
      return JSON.parse(input.value);
    } catch {
      throw new Error("must be JSON");
    }
  });
}

function readObject(fields) {
  const answer = {};
  for (const field of fields) {
    let value;
    try {
      value = field.value();
    } catch (error) {
      if (field.errors) fill(field.errors, error.message);
      throw field.errors ? new Error(`${field.title} ${error.message}`) : error;
    }
    if (field.whole) return value ?? {};
    const isEmpty = field.inner && Object.keys(value).length === 0;
    if (value !== undefined && !(isEmpty && !field.required)) answer[field.name] = value;
  }
  return answer;
}

function markErrors(fields, errors) {
  let left = errors;
  for (const field of fields) {
    if (field.inner) {
      left = markErrors(field.inner, left);
      continue;
    }
    const mine = left.filter((one) => one.field === field.path || one.field.startsWith(`${field.path}.`));
    left = left.filter((one) => !mine.includes(one));
    fill(field.errors, mine.map((one) => one.message).join("; "));
    if (mine.length) field.input.setAttribute("aria-invalid", "true");
    else field.input.removeAttribute("aria-invalid");
  }
  return left;
}
