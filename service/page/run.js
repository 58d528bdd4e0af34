/** One run: a stream on the server, and frames of a <video> sent to it as fast as its credits allow. */

import { StreamClient, streamUrl } from "../clients/browser/stream.js";
import { BASE, createStream, deleteStream } from "./api.js";
import { Grabber, nextFrame } from "./source.js";

const LONGEST_PX = 640;
const AGAIN_MS = 1000;
/** Of a server that is starting: no answer, too many at once, no room yet. */
const PASSING = [0, 429, 503];
/** Lowest score that the server is asked for; the page shows what is above its slider. */
export const LOWEST_SCORE = 0.1;

/**
 * What a run tells.
 * @typedef {object} Listener
 * @property {(change: any) => void} state a StreamClient's `state` event
 * @property {(canvas: HTMLCanvasElement, result: any, latencyMs: number) => void} result the frame with what was found in
 *   it; the canvas is the run's, until the next result
 * @property {(detail: string) => void} refused a frame that the server did not compute, and will not by itself
 * @property {(error: unknown, ending: any) => void} ended for good: an error of this page or of `api.js`, or the ending
 */

export class Run {
  #video;
  #key;
  #model;
  #tell;
  #grabber = new Grabber();
  /** Frames under way, by seq. */
  #frames = new Map();
  #shown = null;
  #client = null;
  #made = null;
  #wasReady = false;
  #stopped = false;
  #resets = 0;

  /**
   * @param {HTMLVideoElement} video that plays
   * @param {string} key "" for none
   * @param {string} model
   * @param {Listener} tell
   */
  constructor(video, key, model, tell) {
    this.#video = video;
    this.#key = key;
    this.#model = model;
    this.#tell = tell;
  }

  /** Whether frames can be sent. */
  get open() {
    return this.#client?.state === "open";
  }

  /** The stream's id on the server; "" before there is one. */
  get streamId() {
    return this.#made?.stream_id ?? "";
  }

  /** Have the server compute the next frames whole. */
  computeWhole(/** @type {number} */ frames) {
    this.#resets = frames;
  }

  /** Make a stream and connect to it. What goes wrong is told as `ended`. */
  async start() {
    await this.#begin();
    if (!this.#stopped) this.#pump().catch((error) => this.#fail(error, null));
  }

  /** End the stream; the server frees what it kept. */
  async stop() {
    this.#stopped = true;
    const [client, made] = [this.#client, this.#made];
    this.#client = this.#made = null;
    const closed = client?.close();
    if (made) await deleteStream(made.stream_id, made.token);
    await closed;
  }

  /** again: a stream of before is gone, and what passes is waited for. */
  async #begin(again = false) {
    let made;
    try {
      made = await createStream(this.#key, this.#model);
    } catch (error) {
      if (!again || !PASSING.includes(error.status)) return this.#fail(error, null);
      this.#tell.state({ state: "waiting", waitMs: AGAIN_MS, code: 1006, reason: "", said: null });
      setTimeout(() => this.#stopped || this.#begin(true), AGAIN_MS);
      return;
    }
    if (this.#stopped) return deleteStream(made.stream_id, made.token);
    this.#made = made;
    this.#drop(Infinity); // numbers begin anew
    const client = new StreamClient(streamUrl(BASE, made.stream_id), {
      token: made.token,
      hello: { min_confidence: LOWEST_SCORE, outputs: ["detections", "changes"] },
      tiles: true,
      attempts: Infinity,
    });
    this.#client = client;
    client.addEventListener("state", (event) => client === this.#client && this.#changed(event.detail));
    client.addEventListener("result", (event) => client === this.#client && this.#found(event.detail.result));
    client.addEventListener("refused", (event) => client === this.#client && this.#refused(event.detail));
    client.addEventListener("lost", () => this.#drop(Infinity));
    client.open();
  }

  #changed(change) {
    if (change.state === "open") this.#wasReady = true;
    if (change.state !== "ended") return this.#tell.state(change);
    if (!change.final) return;
    if (this.#wasReady && change.said?.code === "unauthorized") {
      // A server that was started again knows no stream of before: make another, once.
      this.#wasReady = false;
      this.#made = null;
      this.#begin(true);
    } else {
      this.#fail(null, change);
    }
  }

  async #pump() {
    while (!this.#stopped) {
      await nextFrame(this.#video);
      const client = this.#client;
      if (!client || document.hidden || client.credits === 0) continue;
      const taken = this.#grabber.grab(this.#video, Math.max(LONGEST_PX, ...client.ready.size));
      if (!taken) continue;
      const reset = this.#resets > 0; // more may be asked for while this one is encoded
      const seq = await client.sendFrame(taken.canvas, taken.capturedUs, { reset });
      if (seq === null || client !== this.#client) this.#grabber.release(taken.canvas);
      else this.#frames.set(seq, taken);
      if (this.#frames.size > client.ready.window) this.#drop([...this.#frames.keys()].at(-client.ready.window));
      if (seq !== null && reset) this.#resets -= 1;
    }
  }

  #found(result) {
    const taken = this.#frames.get(result.seq);
    if (!taken) return;
    this.#frames.delete(result.seq);
    this.#drop(result.seq);
    if (this.#shown) this.#grabber.release(this.#shown);
    this.#shown = taken.canvas;
    const nowMs = performance.timeOrigin + performance.now();
    this.#tell.result(taken.canvas, result, nowMs - taken.capturedUs / 1000);
  }

  /** A frame gets no result. What heals itself with the next whole frame is not told. */
  #refused({ seq, code, detail }) {
    const taken = this.#frames.get(seq);
    if (taken) {
      this.#frames.delete(seq);
      this.#grabber.release(taken.canvas);
    }
    if (seq != null && code !== "reference_mismatch") this.#tell.refused(detail);
  }

  /** Frames before `seq` get no result any more. */
  #drop(seq) {
    for (const [known, taken] of this.#frames) {
      if (known >= seq) break;
      this.#frames.delete(known);
      this.#grabber.release(taken.canvas);
    }
  }

  #fail(error, ending) {
    if (!this.#stopped) this.#tell.ended(error, ending);
  }
}
