/** What was recomputed: tiles of the picture, which fade, and how much of each part of the network. */

const FADE_MS = 1000;
/** Amber stands out from grey, and from red and green for eyes that confuse those; fresh tiles have an edge besides. */
const COLOUR = "255 176 0";
const FRESH_ALPHA = 0.45;
const OLD_ALPHA = 0.35;

export class Heat {
  #size = "";
  #rows = 0;
  #columns = 0;
  #xyxy = [0, 0, 0, 0];
  /** When each tile was last recomputed, by the clock of captures, ms. */
  #atMs = new Float64Array(0);
  #nowMs = 0;
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  /**
   * Take in a result.
   * @param {any} changes of the result; undefined where the server does not tell
   * @param {number} capturedMs when its frame was taken
   */
  take(changes, capturedMs) {
    if (!changes) return this.clear();
    const [rows, columns] = changes.size;
    const size = `${rows} ${columns} ${changes.xyxy}`;
    if (size !== this.#size) {
      this.#size = size;
      [this.#rows, this.#columns, this.#xyxy] = [rows, columns, changes.xyxy];
      this.#atMs = new Float64Array(rows * columns).fill(-Infinity);
    }
    this.#nowMs = capturedMs;
    let at = 0;
    changes.counts.forEach((count, index) => {
      if (index % 2) this.#atMs.fill(capturedMs, at, at + count);
      at += count;
    });
  }

  clear() {
    this.#size = "";
    this.#rows = this.#columns = 0;
  }

  /**
   * Tint what was recomputed for the frame that was taken in last, and less what was before.
   * @param {CanvasRenderingContext2D} pen
   * @param {number} scale of a pixel of the frame, on the canvas
   * @param {number} px a pixel of the page, on the canvas
   */
  draw(pen, scale, px) {
    const [left, top, right, bottom] = this.#xyxy.map((side) => side * scale);
    const [width, height] = [(right - left) / this.#columns, (bottom - top) / this.#rows];
    const fade = this.#still.matches ? 1 : FADE_MS;
    pen.lineWidth = px;
    for (let row = 0; row < this.#rows; row += 1) {
      for (let column = 0; column < this.#columns; column += 1) {
        const left1 = 1 - (this.#nowMs - this.#atMs[row * this.#columns + column]) / fade;
        if (left1 <= 0) continue;
        const box = [left + column * width, top + row * height, width, height];
        pen.fillStyle = `rgb(${COLOUR} / ${left1 === 1 ? FRESH_ALPHA : OLD_ALPHA * left1})`;
        pen.fillRect(...box);
        if (left1 < 1) continue;
        pen.strokeStyle = `rgb(${COLOUR} / 0.8)`;
        pen.strokeRect(box[0] + px / 2, box[1] + px / 2, width - px, height - px);
      }
    }
  }
}

/** The strip of the network's parts, from the picture to the answer. */
export class Stages {
  #strip;

  constructor(/** @type {HTMLElement} */ strip) {
    this.#strip = strip;
  }

  /** @param {number[] | undefined} shares recomputed, 0 to 1; undefined where the server does not tell */
  show(shares) {
    const strip = this.#strip;
    if (!shares) {
      strip.replaceChildren();
      return strip.setAttribute("aria-label", "How much of the network was recomputed is not told for this model");
    }
    while (strip.children.length < shares.length) strip.append(document.createElement("span"));
    while (strip.children.length > shares.length) strip.lastElementChild.remove();
    shares.forEach((share, index) => strip.children[index].style.setProperty("--share", String(share)));
    const told = shares.map((share) => `${Math.round(share * 100)}%`).join(", ");
    return strip.setAttribute("aria-label", `Recomputed of each part of the network, from the picture to the answer: ${told}`);
  }
}
