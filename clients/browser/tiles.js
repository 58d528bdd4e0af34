/**
 * `TileEncoder`: frames as the wire wants them, encoded beside the page's thread.
 *
 * In a module worker where the browser has workers with canvases, otherwise where it is called. `StreamClient.sendFrame`
 * uses it; a program with a socket of its own can do so too. One frame at a time.
 */

import { TileCoder, isOwned, release } from "./tile-coder.js";

/** Name of the error of a frame whose worker failed: the next one is encoded without. */
export const WORKER_LOST = "WorkerLostError";

/**
 * How frames are encoded.
 * @typedef {object} EncoderOptions
 * @property {number} [quality] of JPEG or WebP, 0 to 1
 * @property {number} [refreshS] within so many seconds every tile is sent again, unless it is identical
 * @property {boolean} [worker] false: encode on the calling thread
 */

/** @typedef {{quality: number, refreshS: number, atMs: number}} Tuning */

/**
 * One frame's wishes.
 * @typedef {object} Wanted
 * @property {[number, number]} size that the frame is made to fit into, px; it is never enlarged
 * @property {{tile_px: number, difference: number} | null} tiles as in `ready`; null: a whole frame
 * @property {string} contentType image/jpeg, image/png or image/webp
 * @property {boolean} [whole] the receiver has lost the reference: send a whole frame
 */

/**
 * A payload to send.
 * @typedef {object} Encoded
 * @property {number} op `Op.IMAGE` or `Op.TILES`
 * @property {Uint8Array<ArrayBuffer>} payload
 * @property {number} width of the frame, px
 * @property {number} height
 * @property {number | null} changedTiles that were packed; null for a whole frame
 */

/** @type {Required<EncoderOptions>} */
const DEFAULTS = { quality: 0.8, refreshS: 30, worker: true };

export class TileEncoder {
  #options;
  /** @type {Promise<Worker | null> | null} */
  #starting = null;
  /** @type {Worker | null} */
  #worker = null;
  /** @type {TileCoder | null} */
  #coder = null;
  #lastId = 0;
  /** The frame that the worker has: `{id, resolve, reject}`. */
  #waiting = null;
  #closed = false;

  /** @param {EncoderOptions} [options] */
  constructor(options = {}) {
    this.#options = { ...DEFAULTS, ...options };
  }

  /**
   * Encode a frame; then say by `confirm` or `rollback` whether it was sent, before the next.
   * @param {CanvasImageSource} source an ImageBitmap or VideoFrame is taken over and closed, whatever comes of it
   * @param {Wanted} wanted
   * @returns {Promise<Encoded>}
   * @throws {TypeError} where the browser has no encoder for the content type
   * @throws {DOMException} InvalidStateError: it has been closed, or a frame is under way
   */
  async encode(source, wanted) {
    if (this.#closed || this.#waiting) {
      release(source);
      throw new DOMException(this.#closed ? "the encoder is closed" : "a frame is under way", "InvalidStateError");
    }
    const waiting = (this.#waiting = { id: (this.#lastId += 1), resolve: null, reject: null });
    const { quality, refreshS } = this.#options;
    const tuned = { ...wanted, quality, refreshS, atMs: performance.now() };
    try {
      this.#starting ??= this.#start();
      this.#worker = await this.#starting;
      if (!this.#worker) return await (this.#coder ??= new TileCoder()).encode(source, tuned);
      return await this.#pass(source, tuned, waiting);
    } finally {
      release(source);
      this.#waiting = null;
    }
  }

  /** The frame encoded last has been sent: the next one is compared with it. */
  confirm() {
    this.#settle("confirm");
  }

  /** The frame encoded last was not sent. */
  rollback() {
    this.#settle("rollback");
  }

  /** Let the worker go. What is under way fails with an AbortError. */
  close() {
    this.#closed = true;
    this.#worker?.terminate();
    this.#starting?.then((worker) => worker?.terminate());
    this.#waiting?.reject?.(new DOMException("the encoder was closed", "AbortError"));
  }

  #settle(how) {
    if (this.#worker) this.#worker.postMessage({ settle: how });
    else this.#coder?.[how]();
  }

  /** A worker once it has loaded; null where there can be none: an old browser, or a page whose policy forbids it. */
  async #start() {
    if (!this.#options.worker || typeof Worker === "undefined" || typeof OffscreenCanvas === "undefined") return null;
    let worker;
    try {
      worker = new Worker(new URL("./tile-worker.js", import.meta.url), { type: "module", name: "afterimage tiles" });
    } catch {
      return null; // modules of another origin than the page's
    }
    const loaded = await new Promise((resolve) => {
      worker.onmessage = () => resolve(true);
      worker.onerror = () => resolve(false);
    });
    if (!loaded || this.#closed) worker.terminate();
    if (!loaded) return null;
    worker.onmessage = ({ data }) => this.#take(data);
    worker.onerror = () => this.#lose(worker);
    return worker;
  }

  async #pass(source, wanted, waiting) {
    const picture = isOwned(source) ? source : await createImageBitmap(source);
    if (this.#closed) {
      picture.close();
      throw new DOMException("the encoder was closed", "AbortError");
    }
    return new Promise((resolve, reject) => {
      Object.assign(waiting, { resolve, reject });
      this.#worker.postMessage({ id: waiting.id, source: picture, wanted }, [picture]);
    });
  }

  #take({ id, encoded, error }) {
    if (id !== this.#waiting?.id) return;
    if (encoded) return this.#waiting.resolve(encoded);
    const Kind = error.name === "TypeError" ? TypeError : Error;
    this.#waiting.reject(Object.assign(new Kind(error.message), { name: error.name }));
  }

  /** The worker broke: go on without one, from a whole frame. */
  #lose(worker) {
    worker.terminate();
    this.#worker = null;
    this.#starting = Promise.resolve(null);
    const lost = Object.assign(new Error("the worker that encodes frames has failed"), { name: WORKER_LOST });
    this.#waiting?.reject?.(lost);
  }
}
