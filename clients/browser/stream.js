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
  SUBPROTOCOL,
  WireError,
  decodeFrame,
  encodeBye,
  encodeFrame,
  encodeHello,
  follow,
  isRetryable,
  parseMessage,
  subprotocols,
} from "./wire.js";
import { release } from "./tile-coder.js";
import { TileEncoder, WORKER_LOST } from "./tiles.js";

const BYE_MS = 2000;
/** Errors about no frame that a server may send while it settles none. */
const MOST_NOISE = 64;
const SLEPT_MS = 1000;
/** How long frames that are under way when the stream moves are waited for. */
const LEAVE_MS = 10_000;
/** A connection that was open for so long ends a row of moves, as a frame that is settled does. */
const STEADY_MS = 10_000;

/**
 * @typedef {object} StreamOptions
 * @property {string | null} [token] of `POST /v1/streams`, or an API key; null on servers that take anonymous streams
 * @property {Record<string, unknown>} [hello] fields of the first message: model, policy, max_fps, min_confidence, outputs, ...
 * @property {boolean} [tiles] ask to be allowed to send only what changed: for `sendFrame`
 * @property {import("./tiles.js").EncoderOptions} [encoder] how `sendFrame` encodes
 * @property {number} [attempts] failures in a row before it gives up; 0 never comes back. A connection is a success once a
 *   frame is settled, or after `maximumMs`
 * @property {number} [initialMs] first wait; waits double, and each is drawn from its upper half
 * @property {number} [maximumMs] longest wait
 * @property {number} [askedMs] longest wait that a server gets by asking for one; jitter goes on top
 * @property {number} [openTimeoutMs] for the handshake
 * @property {number} [readyTimeoutMs] from the handshake to `ready`; a model's first use compiles it
 * @property {number} [stallMs] a connection on which a frame is under way and nothing comes for so long is given up; four
 *   round trips where that is longer, and twice as long each time until something comes
 * @property {number} [moves] how often in a row the stream may be sent to another server of a cluster, which is no failure; 0
 *   ends it. The token goes with it, to whatever host the server names, but never from wss to ws
 * @property {number} [maxBufferedBytes] no frame is sent while more than this waits in the socket: the line is slow
 */

/** @type {Required<StreamOptions>} */
const DEFAULTS = {
  token: null,
  hello: {},
  tiles: false,
  encoder: {},
  attempts: 10,
  initialMs: 250,
  maximumMs: 10_000,
  askedMs: 60_000,
  openTimeoutMs: 10_000,
  readyTimeoutMs: 120_000,
  stallMs: 5000,
  moves: 4,
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
 * - `moved`: `{url}`: the stream is at another server, and the client on its way there.
 * - `lost`: `{seqs}`: frames that were under way when the connection broke; they get no result.
 */
export class StreamClient extends EventTarget {
  /** Where it was told to connect, where it does now, and the last other address that has said ready. */
  #firstUrl;
  #url;
  #lastUrl = null;
  /** Moves in a row, and where to go once nothing is under way here. */
  #moves = 0;
  #nextUrl = null;
  #options;
  #state = "new";
  /** @type {WebSocket | null} */
  #socket = null;
  #ready = null;
  /** @type {{url: string, token: string} | null} of the last ready */
  #resume = null;
  #lastSeq = 0;
  /** When each frame that is not settled was sent, by seq, oldest first. */
  #unacked = new Map();
  #sentMs = new Map();
  #waitingResult = null;
  #said = null;
  #retryAfterMs = 0;
  #failures = 0;
  #openedMs = Infinity;
  #noise = 0;
  #timer = 0;
  #closed = false;
  /** @type {TileEncoder | null} */
  #encoder = null;
  #encoding = false;
  /** Whether the server may lack the reference that tiles would lie on, and the last frame after which it had one. */
  #wholeDue = true;
  #wholeSeq = 0;
  #watchTimer = 0;
  #heardMs = 0;
  #tookMs = 0;
  #stalls = 0;
  #stalled = false;
  #notBeforeMs = 0;
  #listening = new AbortController();

  /**
   * @param {string | URL} url of the stream: see `streamUrl`
   * @param {StreamOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    this.#url = this.#firstUrl = String(url);
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

  /** Where the stream is, as far as is known: its WebSocket address. */
  get url() {
    return this.#url;
  }

  /** Frames sent and not settled yet. */
  get unacked() {
    return this.#unacked.size;
  }

  /** How many frames may be sent now: the window's room, and none while the line is behind. */
  get credits() {
    if (this.#state !== "open" || !this.#socket || this.#nextUrl) return 0;
    if (this.#socket.bufferedAmount > this.#options.maxBufferedBytes) return 0;
    return Math.max(0, this.#ready.window - this.#unacked.size);
  }

  /** Connect. Nothing if it was called before. */
  open() {
    if (this.#state !== "new") return;
    const { signal } = this.#listening;
    addEventListener("online", () => this.#wake(true), { signal });
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden || this.#wake(false), { signal });
    this.#connect();
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
    const seq = this.#transmit(Op.IMAGE, payload, captureTsUs, reset);
    this.#wholeDue = true; // what `sendFrame` compares with is not what the server has now
    return seq;
  }

  /**
   * Scale a picture to what the model takes in, encode it, and send it, if there is a credit: whole, or as the tiles that
   * changed where the server takes them (`tiles` among the options). One at a time; what comes meanwhile is not sent.
   * @param {CanvasImageSource} source an ImageBitmap or VideoFrame is taken over and closed, whatever comes of it
   * @param {number | bigint} captureTsUs as for `send`
   * @param {{reset?: boolean, size?: [number, number]}} [options] size: for it to fit into, px, instead of `ready.size`
   * @returns {Promise<number | null>} its sequence number; null where there was no credit, before or after encoding
   * @throws {WireError} for an image that the server's limits do not allow
   * @throws {TypeError} where the browser cannot encode `hello.content_type`
   */
  async sendFrame(source, captureTsUs, { reset = false, size } = {}) {
    const socket = this.#socket;
    if (this.credits === 0 || this.#encoding) {
      release(source);
      return null;
    }
    this.#encoding = true;
    const encoder = (this.#encoder ??= new TileEncoder(this.#options.encoder));
    const contentType = this.#options.hello.content_type ?? "image/jpeg";
    const tiles = (this.#options.tiles && this.#ready.tiles) || null;
    try {
      const wanted = { size: size ?? this.#ready.size, tiles, contentType, whole: this.#wholeDue };
      const { op, payload } = await encoder.encode(source, wanted);
      const baseless = op === Op.TILES && this.#wholeDue; // it was lost meanwhile
      if (socket !== this.#socket || this.credits === 0 || baseless) {
        encoder.rollback();
        return null;
      }
      const seq = this.#transmit(op, payload, captureTsUs, reset);
      encoder.confirm();
      if (op === Op.IMAGE) [this.#wholeDue, this.#wholeSeq] = [false, seq];
      return seq;
    } catch (error) {
      if (this.#state === "ended" && error.name === "AbortError") return null;
      if (error.name === WORKER_LOST) {
        this.#wholeDue = true;
        return null;
      }
      throw error;
    } finally {
      this.#encoding = false;
    }
  }

  #transmit(op, payload, captureTsUs, reset) {
    const seq = this.#lastSeq + 1;
    const data = encodeFrame({ op, flags: reset ? Flags.RESET : Flags.NONE, seq, captureTsUs, payload });
    const most = this.#ready.limits.max_message_bytes;
    if (data.length > most) {
      throw new WireError("message_too_large", `expected at most ${most} bytes, got ${data.length}`, seq);
    }
    this.#lastSeq = seq;
    this.#unacked.set(seq, performance.now());
    this.#sentMs.set(seq, performance.now());
    this.#socket.send(data);
    if (this.#unacked.size === 1) this.#heardMs = performance.now();
    this.#watch();
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
    [this.#openedMs, this.#noise] = [Infinity, 0];
    [this.#wholeDue, this.#wholeSeq] = [true, 0];
    this.#become("connecting");
    const socket = new WebSocket(this.#url, subprotocols(this.#options.token));
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#after(this.#options.openTimeoutMs, () => this.#abandon(socket, "no connection in time"));
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      if (socket.protocol !== SUBPROTOCOL) return this.#complain(socket, "another subprotocol than was offered first");
      this.#become("greeting");
      this.#after(this.#options.readyTimeoutMs, () => this.#abandon(socket, "the server was not ready in time"));
      socket.send(encodeHello(this.#hello()));
    };
    socket.onmessage = ({ data }) => socket === this.#socket && this.#take(socket, data);
    socket.onclose = ({ code, reason }) => this.#lost(socket, { code, reason });
  }

  #hello() {
    const { hello, tiles } = this.#options;
    const resume = this.#resume?.url === this.#url ? this.#resume.token : null; // to another server it would mean nothing
    return { ...hello, ...(tiles && { tiles }), ...(resume && { resume }) };
  }

  /** Give up a connection that the browser would wait for. */
  #abandon(socket, reason) {
    socket.close();
    this.#lost(socket, { code: 1006, reason });
  }

  /** The network is back, or somebody looks: end a wait, but for what the server asked for, and an attempt from before. */
  #wake(online) {
    if (online && this.#state === "connecting") this.#abandon(this.#socket, "the network changed");
    if (this.#state !== "waiting") return;
    this.#after(Math.max(0, this.#notBeforeMs - performance.now()), () => this.#connect());
  }

  /** Give up a connection on which nothing comes any more: a network that was left says no goodbye. */
  #watch() {
    clearTimeout(this.#watchTimer);
    const socket = this.#socket;
    if (!socket || !this.#unacked.size) return;
    const patienceMs = Math.max(this.#options.stallMs * 2 ** Math.min(this.#stalls, 6), 4 * this.#tookMs);
    const dueMs = this.#heardMs + patienceMs;
    this.#watchTimer = setTimeout(() => {
      if (performance.now() - dueMs > SLEPT_MS) {
        this.#heardMs = performance.now(); // this page slept, or was busy: what came meanwhile is read first
        return this.#watch();
      }
      this.#stalls += 1;
      this.#stalled = true;
      this.#abandon(socket, "nothing came for too long");
    }, Math.max(0, dueMs - performance.now()));
  }

  #take(socket, data) {
    this.#heardMs = performance.now();
    try {
      if (typeof data === "string") this.#receive(parseMessage(data));
      else this.#pair(decodeFrame(data));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#complain(socket, error.message);
    }
    if (this.#nextUrl && !this.#unacked.size && !this.#waitingResult) this.#move();
    this.#watch();
  }

  /** The server does what no server should: it would do so again. */
  #complain(socket, what) {
    socket.close();
    this.#nextUrl = null;
    this.#lost(socket, { code: CloseCode.PROTOCOL_ERROR, reason: `the server broke the protocol: ${what}` });
  }

  /** Refuse what does not fit into the conversation so far. */
  #check({ type, seq }) {
    const open = this.#openedMs < Infinity;
    if (type === "ready" ? open : !open && (type === "result" || type === "ack")) {
      throw new WireError("bad_message", `expected ${open ? "no second ready" : "ready first"}, got ${type}`);
    }
    if (type === "result" && !this.#unacked.has(seq)) {
      throw new WireError("bad_seq", `expected a result of a frame under way, got seq ${seq}`);
    }
    if (type === "result" && this.#waitingResult) {
      throw new WireError("bad_message", `expected the annotated frame ${this.#waitingResult.seq}, got result ${seq}`);
    }
    if (seq > this.#lastSeq) throw new WireError("bad_seq", `expected a seq that was sent, got ${seq}`);
  }

  #receive(message) {
    this.#check(message);
    if (message.type === "moved") return this.#leave(follow(message.ws_url, this.#url));
    if (message.ack != null) this.#settle(message.ack);
    if (message.type === "ready") {
      clearTimeout(this.#timer);
      this.#openedMs = performance.now();
      this.#ready = message;
      this.#resume = { url: this.#url, token: message.resume };
      this.#lastUrl = this.#url === this.#firstUrl ? null : this.#url;
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
        this.#noise += 1;
        if (this.#noise > MOST_NOISE) throw new WireError("bad_message", `${this.#noise} errors about no frame`);
        this.#said = { code: message.code, detail: message.detail };
        this.#retryAfterMs = message.retry_after_ms ?? 0;
      } else if (message.seq >= this.#wholeSeq) {
        this.#wholeDue = true; // a frame before the last whole one does not matter any more
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
    for (const [seq, sentMs] of this.#unacked) {
      if (seq > ack) break;
      this.#unacked.delete(seq);
      this.#failures = this.#noise = this.#stalls = this.#moves = 0;
      this.#tookMs = Math.max(performance.now() - sentMs, 0.9 * this.#tookMs); // a heavy frame may come again
    }
  }

  /** Drop the times of frames that are settled and told of. */
  #forget() {
    for (const seq of this.#sentMs.keys()) {
      if (!this.#unacked.has(seq) && seq !== this.#waitingResult?.seq) this.#sentMs.delete(seq);
    }
  }

  /** The stream is to go on at another server: send nothing more here, and go when what is under way is answered. */
  #leave(url) {
    if (this.#nextUrl) throw new WireError("bad_message", "expected one move, got another");
    this.#nextUrl = url;
    const due = this.#unacked.size > 0 || this.#waitingResult;
    if (due && !blocked(url) && this.#options.moves > 0) this.#after(LEAVE_MS, () => this.#move());
    else this.#move();
  }

  #move() {
    const [socket, url] = [this.#socket, this.#nextUrl];
    this.#nextUrl = null;
    if (performance.now() - this.#openedMs > STEADY_MS) this.#moves = 0;
    socket.close();
    const why = this.#options.moves ? blocked(url) : "the option moves is 0";
    if (why) {
      this.#said = { code: "moved", detail: `the stream belongs to another server, and ${why}` };
      return this.#lost(socket, { code: CloseCode.UNAUTHORIZED, reason: this.#said.detail });
    }
    if (this.#closed || this.#moves >= this.#options.moves) {
      return this.#lost(socket, { code: CloseCode.DRAINING, reason: "sent to another server too often" });
    }
    this.#moves += 1;
    this.#url = url;
    this.#drop();
    this.#tell("moved", { url });
    if (!this.#closed) this.#connect();
  }

  /** Let go of a connection that is gone, and tell what is lost. */
  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watchTimer);
    this.#socket = this.#nextUrl = null;
    const seqs = [...this.#unacked.keys()];
    this.#unacked.clear();
    this.#sentMs.clear();
    this.#waitingResult = null;
    if (this.#lastSeq > MAX_SEQ / 2) this.#lastSeq = 0;
    if (seqs.length) this.#tell("lost", { seqs });
  }

  /** The first address again; where that fails, once the last other one: the server that is gone may be the first. */
  #turnBack() {
    this.#moves = 0;
    if (this.#url === this.#firstUrl) this.#url = this.#lastUrl ?? this.#firstUrl;
    else {
      if (this.#openedMs === Infinity) this.#lastUrl = null;
      this.#url = this.#firstUrl;
    }
  }

  /** The connection is gone, by whichever side: tell what is lost, then come back or end. */
  #lost(socket, { code, reason }) {
    if (socket !== this.#socket) return;
    if (this.#nextUrl && !this.#closed) return this.#move();
    this.#drop();
    const ending = { code, reason, said: this.#said };
    // One that was silent for long is no success, however long it took to find that out.
    if (performance.now() - this.#openedMs > this.#options.maximumMs && !this.#stalled) this.#failures = 0;
    this.#stalled = false;
    if (this.#closed || !isRetryable(code) || this.#failures >= this.#options.attempts) return this.#end(ending);
    // The jitter goes on top of what the server asked for, so that clients do not all come back at once.
    const full = Math.min(this.#options.maximumMs, this.#options.initialMs * 2 ** Math.min(this.#failures, 60));
    const waitMs = Math.min(this.#retryAfterMs, this.#options.askedMs) + full * (0.5 + 0.5 * Math.random());
    this.#failures += 1;
    this.#turnBack();
    this.#notBeforeMs = performance.now() + Math.min(this.#retryAfterMs, this.#options.askedMs);
    this.#after(waitMs, () => this.#connect());
    this.#become("waiting", { waitMs, attempt: this.#failures, ...ending });
  }

  #end(ending) {
    clearTimeout(this.#timer);
    this.#encoder?.close();
    this.#listening.abort();
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

/** Why a browser would not let this page connect there, where it says nothing itself; null if it may. */
function blocked(/** @type {string} */ url) {
  const clear = url.startsWith("ws:") && !/^ws:\/\/(localhost|127\.[0-9.]+|\[::1\])[:/]/.test(url);
  if (!clear || globalThis.location?.protocol !== "https:") return null;
  return "a page that came over https may not connect over ws: all servers of a cluster need certificates, or none";
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
