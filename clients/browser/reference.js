/**
 * `ReferencePicture`: what a client compares its frames with, and which tiles it finds changed.
 *
 * Pixels in, tiles out: knows nothing of canvases, codecs or sockets. Pixels are RGBA as of a canvas, four bytes each in
 * one number of a Uint32Array. Nothing is allocated per frame.
 */

/**
 * The threshold is so many times the noise, at least what the server says and at most so many times that. The noise is the
 * lower quartile of the differences of all tiles, the least of the last frames: as in the Python client.
 */
const NOISE_FACTOR = 1.5;
const MOST_NOISE = 4;
const NOISE_FRAMES = 8;
/** Of a mosaic: all codecs take it. */
const LONGEST_ROW_PX = 4096;

export class ReferencePicture {
  /** Of the grid. */
  columns;
  rows;
  /** Per tile, row by row: 1 where the last `compare` found it changed. */
  changed;
  #seen;
  #means;
  #sorted;
  /** Lower quartiles of the last frames, and how many frames there were. */
  #quartiles = new Float32Array(NOISE_FRAMES);
  #frames = 0;
  /** The tile to be renewed next, how many are due with the frame that was compared, and until when none is owed. */
  #cursor = 0;
  #dueTiles = 0;
  #renewedMs = 0;
  #dueMs = 0;

  /**
   * @param {number} width px
   * @param {number} height px
   * @param {number} tilePx edge of a tile
   */
  constructor(width, height, tilePx) {
    this.width = width;
    this.height = height;
    this.tilePx = tilePx;
    this.columns = Math.ceil(width / tilePx);
    this.rows = Math.ceil(height / tilePx);
    const tiles = this.columns * this.rows;
    this.changed = new Uint8Array(tiles);
    this.#means = new Float32Array(tiles);
    this.#sorted = new Float32Array(tiles);
    this.#seen = new Uint32Array(width * height);
  }

  /**
   * Find the tiles of a frame to send: those whose mean absolute difference reaches the threshold, and those whose turn to
   * be renewed it is, unless they are identical. What they are compared with, and whose turn it is, stays as it is.
   * @param {Uint32Array} pixels width x height
   * @param {number} difference 0 to 255, over a tile's pixels and the three channels
   * @param {{atMs: number, refreshMs: number}} time of the frame, and within which every tile comes again
   * @returns {number} how many there are; `changed` says which
   */
  compare(pixels, difference, { atMs, refreshMs }) {
    const means = this.#means;
    measure(this, this.#seen, pixels, means);
    this.#quartiles[this.#frames % NOISE_FRAMES] = this.#lowerQuartile();
    this.#frames += 1;
    const threshold = this.threshold(difference);
    const { changed } = this;
    for (let tile = 0; tile < means.length; tile += 1) changed[tile] = means[tile] >= threshold && means[tile] > 0 ? 1 : 0;
    const perTileMs = refreshMs / means.length;
    this.#dueTiles = Math.max(0, Math.floor((atMs - this.#renewedMs) / perTileMs));
    this.#dueMs = this.#dueTiles * perTileMs;
    for (let turn = Math.min(this.#dueTiles, means.length) - 1; turn >= 0; turn -= 1) {
      const tile = (this.#cursor + turn) % means.length;
      if (means[tile] > 0) changed[tile] = 1;
    }
    let count = 0;
    for (let tile = 0; tile < changed.length; tile += 1) count += changed[tile];
    return count;
  }

  /** The changed tiles of the frame that was compared last have been sent. */
  keepTiles(/** @type {Uint32Array} */ pixels) {
    const { width, height, tilePx, columns, changed } = this;
    const seen = this.#seen;
    for (let tile = 0; tile < changed.length; tile += 1) {
      if (!changed[tile]) continue;
      const top = Math.floor(tile / columns) * tilePx;
      const left = (tile % columns) * tilePx;
      const right = Math.min(left + tilePx, width);
      for (let y = top; y < Math.min(top + tilePx, height); y += 1) {
        for (let at = y * width + left; at < y * width + right; at += 1) seen[at] = pixels[at];
      }
    }
    this.#cursor = (this.#cursor + this.#dueTiles) % changed.length;
    this.#renewedMs += this.#dueMs;
  }

  /** The whole frame has been sent. */
  keepWhole(/** @type {Uint32Array} */ pixels, /** @type {number} */ atMs) {
    this.#seen.set(pixels);
    this.#renewedMs = atMs;
  }

  /**
   * Lay the changed tiles out, `mosaicColumns` to a row. Tiles that are cut off at an edge of the frame repeat their last
   * column and row, places left over repeat the last tile.
   * @param {Uint32Array} pixels of the frame that was compared last
   * @param {number} mosaicColumns
   * @param {Uint32Array} out (mosaicColumns * tilePx) px wide
   */
  pack(pixels, mosaicColumns, out) {
    const { changed, tilePx } = this;
    const places = out.length / (tilePx * tilePx);
    let place = 0;
    let last = 0;
    for (let tile = 0; tile < changed.length; tile += 1) {
      if (!changed[tile]) continue;
      this.#lay(pixels, tile, out, mosaicColumns, place);
      last = tile;
      place += 1;
    }
    for (; place < places; place += 1) this.#lay(pixels, last, out, mosaicColumns, place);
  }

  #lay(pixels, tile, out, mosaicColumns, place) {
    const { width, height, tilePx, columns } = this;
    const left = (tile % columns) * tilePx;
    const top = Math.floor(tile / columns) * tilePx;
    const inside = Math.min(tilePx, width - left);
    const stride = mosaicColumns * tilePx;
    let to = Math.floor(place / mosaicColumns) * tilePx * stride + (place % mosaicColumns) * tilePx;
    for (let y = top; y < top + tilePx; y += 1, to += stride) {
      const from = Math.min(y, height - 1) * width + left;
      for (let x = 0; x < tilePx; x += 1) out[to + x] = pixels[from + (x < inside ? x : inside - 1)];
    }
  }

  /** One bit per tile, row by row, most significant first. */
  bitmap() {
    const { changed } = this;
    const bits = new Uint8Array(Math.ceil(changed.length / 8));
    for (let tile = 0; tile < changed.length; tile += 1) if (changed[tile]) bits[tile >> 3] |= 0x80 >> (tile & 7);
    return bits;
  }

  /** Mean absolute difference from which a tile is sent now, where the server asks for those from `difference`. */
  threshold(/** @type {number} */ difference) {
    const noise = this.#frames < NOISE_FRAMES ? 0 : Math.min(...this.#quartiles);
    return Math.min(Math.max(difference, NOISE_FACTOR * noise), MOST_NOISE * difference);
  }

  #lowerQuartile() {
    const sorted = this.#sorted;
    sorted.set(this.#means);
    sorted.sort();
    return sorted[sorted.length >> 2];
  }
}

/**
 * How to lay out a mosaic: in rows so long that next to no place is left over.
 * @param {number} count of tiles, 1 or more
 * @param {number} tilePx
 * @returns {number} columns
 */
export function mosaicColumns(count, tilePx) {
  const most = Math.max(1, Math.floor(LONGEST_ROW_PX / tilePx));
  return Math.ceil(count / Math.ceil(count / most));
}

/** Mean absolute difference of each tile, over its pixels and three channels. */
function measure({ width, height, tilePx }, seen, pixels, means) {
  let tile = 0;
  for (let top = 0; top < height; top += tilePx) {
    const bottom = Math.min(top + tilePx, height);
    for (let left = 0; left < width; left += tilePx) {
      const right = Math.min(left + tilePx, width);
      let sum = 0;
      for (let y = top; y < bottom; y += 1) {
        const end = y * width + right;
        for (let at = y * width + left; at < end; at += 1) {
          const now = pixels[at];
          const was = seen[at];
          if (now === was) continue;
          sum +=
            Math.abs((now & 255) - (was & 255)) +
            Math.abs(((now >>> 8) & 255) - ((was >>> 8) & 255)) +
            Math.abs(((now >>> 16) & 255) - ((was >>> 16) & 255));
        }
      }
      means[tile] = sum / (3 * (bottom - top) * (right - left));
      tile += 1;
    }
  }
}
