/**
 * `TileCoder`: frames in, payloads of the wire out: a whole image, or the tiles that changed since the last one sent.
 *
 * It draws and encodes where it is made: in `tile-worker.js`, or on the page's own thread. Knows nothing of sockets.
 */

import { ReferencePicture, mosaicColumns } from "./reference.js";
import { Op, encodeTiles, referenceOf } from "./wire.js";

/** Tiles are sent where they take less than this share of the last whole frame's bytes, */
const CHEAPER = 0.9;
/** and at most this share of the tiles has changed. */
const MOST_CHANGED = 0.5;
const NOTHING = new Uint8Array(0);

export class TileCoder {
  #frame = new Painter();
  #mosaic = new Painter();
  #packed = new Uint32Array(0);
  /** @type {ReferencePicture | null} */
  #picture = null;
  #base = 0;
  #wholeBytes = 0;
  /** What is to be done once the frame has been sent: `{base, keep}`. */
  #pending = null;

  /**
   * Encode a frame. The one before it must have been settled by `confirm`, or counts as not sent.
   * @param {CanvasImageSource} source with a size above 0
   * @param {import("./tiles.js").Wanted & import("./tiles.js").Tuning} wanted
   * @returns {Promise<import("./tiles.js").Encoded>}
   * @throws {TypeError} where the browser has no encoder for the content type
   */
  async encode(source, wanted) {
    this.#pending = null;
    const [width, height] = fitted(sizeOf(source), wanted.size);
    this.#frame.draw(source, width, height);
    if (!wanted.tiles) {
      const payload = await this.#frame.encode(wanted.contentType, wanted.quality);
      this.#picture = null;
      return { op: Op.IMAGE, payload, width, height, changedTiles: null };
    }
    const pixels = this.#frame.pixels();
    const picture = this.#comparable(width, height, wanted);
    if (picture) {
      const encoded = await this.#encodeTiles(picture, pixels, wanted);
      if (encoded) return encoded;
    }
    const payload = await this.#frame.encode(wanted.contentType, wanted.quality);
    const bytes = payload.length; // the payload itself may have gone to another thread by then
    const frame = { width, height, tilePx: wanted.tiles.tile_px, atMs: wanted.atMs };
    this.#pending = { base: referenceOf(payload), keep: () => this.#keepWhole(pixels, bytes, frame) };
    return { op: Op.IMAGE, payload, width, height, changedTiles: null };
  }

  /** The frame encoded last has been sent: the next one is compared with it. */
  confirm() {
    if (!this.#pending) return;
    this.#base = this.#pending.base;
    this.#pending.keep();
    this.#pending = null;
  }

  /** The frame encoded last was not sent. */
  rollback() {
    this.#pending = null;
  }

  #keepWhole(pixels, bytes, { width, height, tilePx, atMs }) {
    this.#wholeBytes = bytes;
    if (!this.#fits(width, height, tilePx)) this.#picture = new ReferencePicture(width, height, tilePx);
    this.#picture.keepWhole(pixels, atMs);
  }

  #fits(width, height, tilePx) {
    const picture = this.#picture;
    return picture?.width === width && picture.height === height && picture.tilePx === tilePx;
  }

  #comparable(width, height, { tiles, whole }) {
    return !whole && this.#fits(width, height, tiles.tile_px) ? this.#picture : null;
  }

  /** The changed tiles as a payload; null where a whole frame is the better. */
  async #encodeTiles(picture, pixels, { tiles, atMs, refreshS, contentType, quality }) {
    const count = picture.compare(pixels, tiles.difference, { atMs, refreshMs: refreshS * 1000 });
    if (count > picture.changed.length * MOST_CHANGED) return null;
    const columns = count ? mosaicColumns(count, picture.tilePx) : 0;
    const image = count ? await this.#encodeMosaic(picture, pixels, columns, count, contentType, quality) : NOTHING;
    const { width, height, tilePx } = picture;
    const payload = encodeTiles({ base: this.#base, width, height, tilePx, columns, bitmap: picture.bitmap(), image });
    if (payload.length >= this.#wholeBytes * CHEAPER) return null;
    this.#pending = { base: referenceOf(payload), keep: () => picture.keepTiles(pixels) };
    return { op: Op.TILES, payload, width, height, changedTiles: count };
  }

  #encodeMosaic(picture, pixels, columns, count, contentType, quality) {
    const [width, height] = [columns * picture.tilePx, Math.ceil(count / columns) * picture.tilePx];
    if (this.#packed.length < width * height) this.#packed = new Uint32Array(width * height);
    const packed = this.#packed.subarray(0, width * height);
    picture.pack(pixels, columns, packed);
    this.#mosaic.put(packed, width, height);
    return this.#mosaic.encode(contentType, quality);
  }
}

/** A canvas without alpha that is mostly read. */
class Painter {
  #canvas = typeof OffscreenCanvas === "undefined" ? document.createElement("canvas") : new OffscreenCanvas(1, 1);
  #pen = this.#canvas.getContext("2d", { alpha: false, willReadFrequently: true });

  draw(source, width, height) {
    this.#resize(width, height);
    this.#pen.imageSmoothingQuality = "medium"; // lower ones skip pixels: fine patterns would flicker
    this.#pen.drawImage(source, 0, 0, width, height);
  }

  put(pixels, width, height) {
    this.#resize(width, height);
    const bytes = new Uint8ClampedArray(pixels.buffer, pixels.byteOffset, pixels.byteLength);
    this.#pen.putImageData(new ImageData(bytes, width, height), 0, 0);
  }

  pixels() {
    const { data } = this.#pen.getImageData(0, 0, this.#canvas.width, this.#canvas.height);
    return new Uint32Array(data.buffer);
  }

  async encode(type, quality) {
    const canvas = this.#canvas;
    const blob = await ("convertToBlob" in canvas
      ? canvas.convertToBlob({ type, quality })
      : new Promise((resolve) => canvas.toBlob(resolve, type, quality)));
    if (blob?.type !== type) throw new TypeError(`this browser encodes no ${type}`);
    return new Uint8Array(await blob.arrayBuffer());
  }

  #resize(width, height) {
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
  }
}

/**
 * Size of a picture, px; of a video, that of its frames.
 * @param {any} source
 * @returns {[number, number]}
 */
export function sizeOf(source) {
  return [
    source.displayWidth ?? source.videoWidth ?? source.naturalWidth ?? source.width,
    source.displayHeight ?? source.videoHeight ?? source.naturalHeight ?? source.height,
  ];
}

/**
 * The size of a frame that fits into another, never enlarged.
 * @param {[number, number]} from
 * @param {[number, number]} within
 * @returns {[number, number]}
 */
export function fitted([width, height], [most, highest]) {
  const scale = Math.min(1, most / width, highest / height);
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

/** Whether a picture can be handed to a worker, and is to be closed. */
export function isOwned(/** @type {any} */ source) {
  return source instanceof ImageBitmap || (typeof VideoFrame !== "undefined" && source instanceof VideoFrame);
}

/** Close a picture that was taken over; of one that has gone to a worker nothing is left to close. */
export function release(/** @type {any} */ source) {
  if (isOwned(source)) source.close();
}
