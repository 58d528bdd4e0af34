/**
 * `StreamClient`: one stream over one WebSocket, which comes back by itself.
 *
 * Frames go out while there are credits; results and changes of state come as events. Knows nothing of cameras or pages.
 */

import {
  CloseCode,
  Flags,
  MAX_SEQ,
  Op,
  WireError,
  decodeFrame,
  encodeBye,
  encodeFrame,
  encodeHello,
  isRetryable,
  parseMessage,
  subprotocols,
} from "./wire.js";

const BYE_MS = 2000;

/**
 * @typedef {object} StreamOptions
 * @property {string | null} [token] of `POST /v1/streams`, or an API key; null on servers that take anonymous streams
 * @property {Record<string, unknown>} [hello] fields of the first message: model, policy, max_fps, min_confidence, outputs, ...
 * @property {number} [attempts] failures in a row before it gives up; 0 never comes back
 * @property {number} [initialMs] first wait; waits double, and each is drawn from its upper half
 * @property {number} [maximumMs] longest wait
 * @property {number} [openTimeoutMs] for the handshake
 * @property {number} [readyTimeoutMs] from the handshake to `ready`; a model's first use compiles it
 * @property {number} [maxBufferedBytes] no frame is sent while more than this waits in the socket: the line is slow
 */

/** @type {Required<StreamOptions>} */
const DEFAULTS = {
  token: null,
  hello: {},
  attempts: 10,
  initialMs: 250,
  maximumMs: 10_000,
  openTimeoutMs: 10_000,
  readyTimeoutMs: 120_000,
  maxBufferedBytes: 128 * 1024,
};

/**
 * How a connection ended. `said`: the server's last error that concerned no frame.
 * @typedef {{code: number, reason: string, said: {code: string, detail: string} | null}} Ending
 */

/**
 * Events, each a CustomEvent with its `detail`:
 * - `state`: `{state}`: `connecting`, `greeting`, `open`, `draining`, `waiting` or `ended`. With `waiting` also `waitMs`,
 *   `attempt` and the Ending; with `ended` the Ending, and `final` (false where `close` was called).
 * - `ready`: the server's `ready`.
 * - `result`: `{result, roundTripMs, annotated}`; annotated is the JPEG with boxes, where `outputs` has it, else null.
 * - `refused`: the server's `error`: of a frame, where it has a `seq`.
 * - `lost`: `{seqs}`: frames that were under way when the connection broke; they get no result.
 */
export class StreamClient extends EventTarget {
  #url;
  #options;
  #state = "new";
  /** @type {WebSocket | null} */
  #socket = null;
  #ready = null;
  #resume = null;
  #lastSeq = 0;
  /** When each frame that is not settled was sent, by seq, oldest first. */
  #unacked = new Map();
  #sentMs = new Map();
  #waitingResult = null;
  #said = null;
  #retryAfterMs = 0;
  #failures = 0;
  #timer = 0;
  #closed = false;

  /**
   * @param {string | URL} url of the stream: see `streamUrl`
   * @param {StreamOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    this.#url = String(url);
    this.#options = { ...DEFAULTS, ...options };
  }

  /** Where it stands; the `state` event has the names. */
  get state() {
    return this.#state;
  }

  /** The server's last `ready`, or null. */
  get ready() {
    return this.#ready;
  }

  /** Frames sent and not settled yet. */
  get unacked() {
    return this.#unacked.size;
  }

  /** How many frames may be sent now: the window's room, and none while the line is behind. */
  get credits() {
    if (this.#state !== "open" || !this.#socket) return 0;
    if (this.#socket.bufferedAmount > this.#options.maxBufferedBytes) return 0;
    return Math.max(0, this.#ready.window - this.#unacked.size);
  }

  /** Connect. Nothing if it was called before. */
  open() {
    if (this.#state === "new") this.#connect();
  }

  /**
   * Send an encoded image, if there is a credit.
   * @param {Uint8Array} payload a whole JPEG, PNG or WebP, of `hello.content_type`
   * @param {number | bigint} captureTsUs when it was taken: microseconds since 1970, for the server to tell results' age
   * @param {{reset?: boolean}} [options] reset: have the server forget what it has cached
   * @returns {number | null} its sequence number; null where there is no credit
   * @throws {WireError} for an image that the server's limits do not allow
   */
  send(payload, captureTsUs, { reset = false } = {}) {
    if (this.credits === 0) return null;
    const seq = this.#lastSeq + 1;
    const data = encodeFrame({ flags: reset ? Flags.RESET : Flags.NONE, seq, captureTsUs, payload });
    const most = this.#ready.limits.max_message_bytes;
    if (data.length > most) {
      throw new WireError("message_too_large", `expected at most ${most} bytes, got ${data.length}`, seq);
    }
    this.#lastSeq = seq;
    this.#unacked.set(seq, performance.now());
    this.#sentMs.set(seq, performance.now());
    this.#socket.send(data);
    return seq;
  }

  /**
   * End the stream. With `bye` results still due come first; without, a resume by its token stays possible.
   * @param {{bye?: boolean}} [options]
   * @returns {Promise<void>} once the connection is closed
   */
  async close({ bye = true } = {}) {
    this.#closed = true;
    const socket = this.#socket;
    if (!socket) return this.#end({ code: CloseCode.NORMAL, reason: "", said: null });
    const gone = new Promise((resolve) => socket.addEventListener("close", resolve, { once: true }));
    if (bye && this.#state === "open") {
      this.#become("draining");
      socket.send(encodeBye());
      await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, BYE_MS))]);
    }
    socket.close();
    this.#lost(socket, { code: CloseCode.NORMAL, reason: "" });
  }

  #connect() {
    this.#said = null;
    this.#retryAfterMs = 0;
    this.#become("connecting");
    const socket = new WebSocket(this.#url, subprotocols(this.#options.token));
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#after(this.#options.openTimeoutMs, () => this.#abandon(socket, "no connection in time"));
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      this.#become("greeting");
      this.#after(this.#options.readyTimeoutMs, () => this.#abandon(socket, "the server was not ready in time"));
      socket.send(encodeHello({ ...this.#options.hello, ...(this.#resume && { resume: this.#resume }) }));
    };
    socket.onmessage = ({ data }) => socket === this.#socket && this.#take(socket, data);
    socket.onclose = ({ code, reason }) => this.#lost(socket, { code, reason });
  }

  /** Give up a connection that the browser would wait for. */
  #abandon(socket, reason) {
    socket.close();
    this.#lost(socket, { code: 1006, reason });
  }

  #take(socket, data) {
    try {
      if (typeof data === "string") this.#receive(parseMessage(data));
      else this.#pair(decodeFrame(data));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      socket.close();
      this.#lost(socket, { code: CloseCode.PROTOCOL_ERROR, reason: `the server broke the protocol: ${error.message}` });
    }
  }

  #receive(message) {
    if (typeof message.ack === "number") this.#settle(message.ack);
    if (message.type === "ready") {
      clearTimeout(this.#timer);
      this.#ready = message;
      this.#resume = message.resume;
      this.#failures = 0;
      this.#become("open");
      this.#tell("ready", message);
    } else if (message.type === "draining") {
      this.#retryAfterMs = message.retry_after_ms;
      this.#become("draining");
    } else if (message.type === "result") {
      if (this.#annotated) this.#waitingResult = message;
      else this.#finish(message, null);
    } else if (message.type === "error") {
      if (message.seq == null) {
        this.#said = { code: message.code, detail: message.detail };
        this.#retryAfterMs = message.retry_after_ms ?? 0;
      }
      this.#tell("refused", message);
    }
    this.#forget();
  }

  get #annotated() {
    const outputs = this.#options.hello.outputs;
    return Array.isArray(outputs) && outputs.includes("annotated");
  }

  /** An annotated frame follows its result. */
  #pair(frame) {
    const result = this.#waitingResult;
    this.#waitingResult = null;
    if (frame.op !== Op.ANNOTATED || result?.seq !== frame.seq) {
      throw new WireError("bad_message", `expected an annotated frame after its result, got seq ${frame.seq} alone`);
    }
    this.#finish(result, frame.payload);
    this.#forget();
  }

  #finish(result, annotated) {
    const roundTripMs = performance.now() - (this.#sentMs.get(result.seq) ?? performance.now());
    this.#tell("result", { result, roundTripMs, annotated });
  }

  #settle(ack) {
    if (ack > this.#lastSeq) throw new WireError("bad_seq", `expected an ack of at most ${this.#lastSeq}, got ${ack}`);
    for (const seq of this.#unacked.keys()) if (seq <= ack) this.#unacked.delete(seq);
  }

  /** Drop the times of frames that are settled and told of. */
  #forget() {
    for (const seq of this.#sentMs.keys()) {
      if (!this.#unacked.has(seq) && seq !== this.#waitingResult?.seq) this.#sentMs.delete(seq);
    }
  }

  /** The connection is gone, by whichever side: tell what is lost, then come back or end. */
  #lost(socket, { code, reason }) {
    if (socket !== this.#socket) return;
    clearTimeout(this.#timer);
    this.#socket = null;
    const seqs = [...this.#unacked.keys()];
    this.#unacked.clear();
    this.#sentMs.clear();
    this.#waitingResult = null;
    if (this.#lastSeq > MAX_SEQ / 2) this.#lastSeq = 0;
    if (seqs.length) this.#tell("lost", { seqs });
    const ending = { code, reason, said: this.#said };
    if (this.#closed || !isRetryable(code) || this.#failures >= this.#options.attempts) return this.#end(ending);
    // The jitter goes on top of what the server asked for, so that clients do not all come back at once.
    const full = Math.min(this.#options.maximumMs, this.#options.initialMs * 2 ** Math.min(this.#failures, 60));
    const waitMs = this.#retryAfterMs + full * (0.5 + 0.5 * Math.random());
    this.#failures += 1;
    this.#after(waitMs, () => this.#connect());
    this.#become("waiting", { waitMs, attempt: this.#failures, ...ending });
  }

  #end(ending) {
    clearTimeout(this.#timer);
    if (this.#state !== "ended") this.#become("ended", { final: !this.#closed, ...ending });
  }

  #after(ms, call) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(call, ms);
  }

  #become(state, more = {}) {
    this.#state = state;
    this.#tell("state", { state, ...more });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * The WebSocket address of a stream.
 * @param {string | URL} base of the server, http(s) or ws(s), with the path it is served below
 * @param {string} streamId 1 to 64 characters of A-Z a-z 0-9 _ -
 * @returns {string}
 */
export function streamUrl(base, streamId) {
  const url = new URL(base);
  if (!["http:", "https:", "ws:", "wss:"].includes(url.protocol)) {
    throw new TypeError(`expected an address such as http://127.0.0.1:8000, got ${url}`);
  }
  url.protocol = ["https:", "wss:"].includes(url.protocol) ? "wss:" : "ws:";
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/v1/streams/${encodeURIComponent(streamId)}/ws`;
  url.search = url.hash = "";
  return url.href;
}
