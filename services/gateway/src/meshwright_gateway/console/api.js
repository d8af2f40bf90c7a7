// Calls of the public API with the user's key, and its errors (problem+json, RFC 9457).

import { currentKey, forgetKey } from "./key.js";

const REQUEST_SECONDS = 30;
/** Rows of a page of a list: the most that the API gives. */
const PAGE_ROWS = 200;

/** An error that the API answered with, or that it could not be reached (`status` 0). */
export class Problem extends Error {
  constructor(status, content) {
    super(content.detail || content.title || `the answer was ${status}`);
    this.name = "Problem";
    this.status = status;
    this.code = content.code ?? "";
    this.errors = content.errors ?? [];
    this.metadata = content.metadata ?? {};
    this.requestId = content.request_id ?? "";
    this.retryAfterSeconds = content.retry_after_ms ? content.retry_after_ms / 1000 : 0;
  }

  /** Whether the same request may succeed a little later. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status === 503 || this.status === 504;
  }
}

/**
 * Send a request and return its answer when its status says that it went well.
 * Throws Problem; whatever `signal` was aborted with.
 */
export async function send(method, path, { body, headers = {}, signal } = {}) {
  const all = { authorization: `Bearer ${currentKey()}`, ...headers };
  if (body !== undefined) all["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method, signal, headers: all, body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store", credentials: "omit", redirect: "error",
    });
  } catch (error) {
    signal?.throwIfAborted();
    throw new Problem(0, { detail: "the platform cannot be reached", title: error.message });
  }
  if (answer.ok) return answer;
  const problem = new Problem(answer.status, await problemOf(answer));
  if (problem.status === 401) forgetKey(problem.message);
  throw problem;
}

async function problemOf(answer) {
  try {
    return await answer.json();
  } catch {
    return { detail: `the answer was ${answer.status}, without a reason` };
  }
}

/** Send a request and return the JSON that it is answered with. Throws Problem. */
export async function call(method, path, { body, headers, signal } = {}) {
  const limit = AbortSignal.timeout(REQUEST_SECONDS * 1000);
  try {
    const either = signal ? AbortSignal.any([signal, limit]) : limit;
    const answer = await send(method, path, { body, headers, signal: either });
    return await answer.json();
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof Problem) throw error;
    throw new Problem(0, { detail: `no answer within ${REQUEST_SECONDS} s` });
  }
}

/** Ask for JSON. `query` has texts, numbers or lists of them; empty ones are left out. */
export function ask(path, query = {}, signal = undefined) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) {
      if (one !== "" && one !== null && one !== undefined) parameters.append(name, one);
    }
  }
  const text = parameters.toString();
  return call("GET", text ? `${path}?${text}` : path, { signal });
}

/**
 * Return the first `wanted` members of a list that `keep` is true for, and whether there may be
 * more; looks at `pages` pages of 200 at most, and no further than a member that `until` is true for.
 */
export async function collect(path, name, {
  query = {}, wanted, pages = 5, keep = null, until = () => false, signal,
}) {
  const found = [];
  let token = "";
  // Of rows of which some are left out, the largest pages make the fewest requests.
  const rows = keep ? PAGE_ROWS : Math.min(wanted, PAGE_ROWS);
  for (let page = 0; page < pages; page += 1) {
    const answer = await ask(path, { ...query, page_size: rows, page_token: token }, signal);
    found.push(...(keep ? answer[name].filter(keep) : answer[name]));
    token = answer.next_page_token;
    if (!token || found.length >= wanted || answer[name].some(until)) break;
  }
  return { found: found.slice(0, wanted), more: token !== "" || found.length > wanted };
}

/** Return a new Idempotency-Key: sent again with the same body, work is done once. */
export function newRequestId() {
  // Not randomUUID: browsers have that only where the page came by TLS or from the same machine.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
