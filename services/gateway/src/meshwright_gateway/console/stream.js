// Server-sent events with the key in a header, which EventSource cannot send. A stream that breaks
// goes on after the last event that was taken (Last-Event-ID).

import { Problem, send } from "./api.js";

const PAUSES_SECONDS = [0.5, 1, 2, 4, 8];
/** Comments come at least every 15 s: after so long without anything the connection is dead. */
const SILENCE_SECONDS = 60;
const EXPIRED = 410;

/**
 * Follow a stream to an event whose name is in `ends`, over as many connections as it takes.
 *
 * `start` is the first request, {method, path, body, headers}; `follow` returns the path of the
 * next ones from the first answer. `take` gets name and data of each event. It returns false for
 * an event after which the stream can NOT be resumed: then the last one before counts.
 * `rewind` is called when a stream is resumed, with the id it goes on after, and with "" when it
 * begins anew. `tell` gets what people should know about the connection, "" when all is well.
 * Throws Problem when the stream is refused; whatever `signal` was aborted with.
 */
export async function followStream({ start, follow, take, rewind, tell, ends, signal }) {
  const position = { last: "" };
  let request = start;
  let failures = 0;
  for (;;) {
    const silence = new Silence(signal);
    try {
      const answer = await send(request.method, request.path, { ...request, signal: silence.signal });
      request = { method: "GET", path: follow(answer) };
      for await (const event of eventsOf(answer.body, silence)) {
        if (event.name === "error") throw new Problem(503, event.data);
        if (failures > 0) tell("");
        failures = 0;
        if (take(event.name, event.data) && event.id) position.last = event.id;
        if (ends.has(event.name)) return;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof Problem && error.status === EXPIRED) position.last = "";
      else if (error instanceof Problem && !isGoneOn(error, request === start && start.method === "POST")) throw error;
      tell("The connection broke: going on …");
      const pause = PAUSES_SECONDS[Math.min(failures, PAUSES_SECONDS.length - 1)];
      await sleep(Math.max(pause, error.retryAfterSeconds ?? 0), signal);
    } finally {
      silence.end();
    }
    failures += 1;
    if (request !== start) {
      rewind(position.last);
      request.headers = position.last ? { "last-event-id": position.last } : {};
    }
  }
}

/** Whether a stream is tried again after `error`. Who asks for work is told at once that it is refused. */
function isGoneOn(error, asksForWork) {
  return asksForWork ? error.status === 0 : error.passes;
}

/** Aborts a connection on which nothing comes, or when the page leaves. */
class Silence {
  constructor(signal) {
    this._controller = new AbortController();
    this._outer = signal;
    this._leave = () => this._controller.abort(signal.reason);
    signal.addEventListener("abort", this._leave);
    if (signal.aborted) this._leave();
    this.heard();
  }

  get signal() {
    return this._controller.signal;
  }

  heard() {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._controller.abort(), SILENCE_SECONDS * 1000);
  }

  end() {
    clearTimeout(this._timer);
    this._outer.removeEventListener("abort", this._leave);
    // A stream that was left early is closed, or it would hold one of the browser's few connections.
    this._controller.abort();
  }
}

async function* eventsOf(body, silence) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { id: "", name: "message", data: "" };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    silence.heard();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (event.data) yield { ...event, data: JSON.parse(event.data) };
        event = { id: "", name: "message", data: "" };
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "id") event.id = text;
      else if (field === "event") event.name = text;
      else if (field === "data") event.data += event.data ? `\n${text}` : text;
    }
  }
}

/** Wait; throws when `signal` is aborted. */
export function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", leave);
      resolve();
    }, seconds * 1000);
    signal.addEventListener("abort", leave, { once: true });
  });
}
