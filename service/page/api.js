/** The few requests that the page makes over HTTP. */

/** Where the server is, whatever path the page is served below. */
export const BASE = new URL(".", document.baseURI);

const SNAPSHOT_PX = 640;

/** An answer that says no. `status` 0: there was none. */
export class ApiError extends Error {
  constructor(status, problem = {}, retryAfterS = 0) {
    super(problem.detail ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
    this.detail = problem.detail ?? "";
    this.retryAfterS = retryAfterS;
  }
}

/** @param {string} key "" for none */
export async function listModels(key) {
  return (await ask("GET", "v1/models", key)).models;
}

/**
 * @param {string} key "" for none
 * @param {string} model
 * @returns {Promise<{stream_id: string, token: string}>}
 */
export function createStream(key, model) {
  return ask("POST", "v1/streams", key, { model });
}

/** Streams that this key may see: all there are, where the server has no keys. */
export async function listStreams(/** @type {string} */ key) {
  return (await ask("GET", "v1/streams", key)).streams;
}

/**
 * The last frame of a stream with its boxes.
 * @param {string} key "" for none
 * @param {string} id
 * @param {boolean} heat with what was recomputed
 * @returns {Promise<Blob>}
 */
export async function snapshot(key, id, heat) {
  const path = `v1/streams/${encodeURIComponent(id)}/snapshot.jpg?width=${SNAPSHOT_PX}${heat ? "&overlay=changes" : ""}`;
  return (await request("GET", path, key)).blob();
}

/** Free what the server keeps of a stream; goes out even while the page is left. Never fails: it expires otherwise. */
export async function deleteStream(id, token) {
  await ask("DELETE", `v1/streams/${id}`, token).catch(() => null);
}

/** Ask the server; its answer as an object. Throws ApiError. */
export async function ask(method, path, secret, body) {
  const response = await request(method, path, secret, body);
  return response.status === 204 ? {} : response.json().catch(() => ({}));
}

async function request(method, path, secret, body) {
  const headers = {};
  if (secret) headers.authorization = `Bearer ${secret}`;
  if (body) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method,
      headers,
      body: body && JSON.stringify(body),
      keepalive: method === "DELETE",
    });
  } catch {
    throw new ApiError(0);
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(response.status, problem, Number(response.headers.get("retry-after")) || 0);
}
