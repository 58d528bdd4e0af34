/** The last results: the share of the work that was computed as an area, latency as a line, the frame rate as a number. */

const KEPT = 120;
const RATE_MS = 2000;
const STEPS_MS = [20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

export class Chart {
  #canvas;
  /** @type {{fraction: number, latencyMs: number, atMs: number}[]} */
  #points = [];
  #due = false;

  /** @param {HTMLCanvasElement} canvas its colours are the page's: --work, --latency, --line, --quiet */
  constructor(canvas) {
    this.#canvas = canvas;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
    new ResizeObserver(() => this.#redraw()).observe(canvas);
  }

  clear() {
    this.#points = [];
    this.#redraw();
  }

  /**
   * @param {number} fraction of a whole frame's work, 0 to 1
   * @param {number} latencyMs from the frame's capture until its result is here
   */
  add(fraction, latencyMs) {
    this.#points.push({ fraction, latencyMs, atMs: performance.now() });
    if (this.#points.length > KEPT) this.#points.shift();
    this.#redraw();
  }

  /** Means over the last two seconds; the rate is in results a second. Null where there is nothing. */
  get figures() {
    const since = performance.now() - RATE_MS;
    const recent = this.#points.filter((point) => point.atMs >= since);
    if (recent.length < 2) return null;
    const mean = (of) => recent.reduce((sum, point) => sum + of(point), 0) / recent.length;
    const spanS = (recent.at(-1).atMs - recent[0].atMs) / 1000;
    return {
      fraction: mean((point) => point.fraction),
      latencyMs: mean((point) => point.latencyMs),
      rate: spanS > 0 ? (recent.length - 1) / spanS : 0,
    };
  }

  #redraw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#draw();
    });
  }

  #draw() {
    const canvas = this.#canvas;
    const perPx = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return;
    canvas.width = Math.round(width * perPx);
    canvas.height = Math.round(height * perPx);
    const pen = canvas.getContext("2d");
    pen.scale(perPx, perPx);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const longest = Math.max(0, ...this.#points.map((point) => point.latencyMs));
    const topMs = STEPS_MS.find((step) => step >= longest) ?? Math.ceil(longest / 10_000) * 10_000;
    const box = { left: 44, right: width - 52, top: 8, bottom: height - 8 };
    this.#axes(pen, box, topMs, colour);
    if (!this.#points.length) return;
    const step = (box.right - box.left) / (KEPT - 1);
    const x = (index) => box.right - (this.#points.length - 1 - index) * step;
    const y = (share) => box.bottom - Math.min(1, share) * (box.bottom - box.top);
    pen.beginPath();
    pen.moveTo(x(0), box.bottom);
    this.#points.forEach((point, index) => pen.lineTo(x(index), y(point.fraction)));
    pen.lineTo(box.right, box.bottom);
    pen.fillStyle = colour("--work");
    pen.globalAlpha = 0.75;
    pen.fill();
    pen.globalAlpha = 1;
    pen.beginPath();
    this.#points.forEach((point, index) => pen.lineTo(x(index), y(point.latencyMs / topMs)));
    pen.strokeStyle = colour("--latency");
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.stroke();
  }

  #axes(pen, box, topMs, colour) {
    pen.strokeStyle = colour("--line");
    pen.fillStyle = colour("--quiet");
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.lineWidth = 1;
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(box.bottom - share * (box.bottom - box.top)) + 0.5;
      pen.beginPath();
      pen.moveTo(box.left, y);
      pen.lineTo(box.right, y);
      pen.stroke();
      pen.textAlign = "right";
      pen.fillText(`${share * 100}%`, box.left - 5, y);
      pen.textAlign = "left";
      pen.fillText(topMs >= 2000 ? `${(share * topMs) / 1000} s` : `${share * topMs} ms`, box.right + 5, y);
    }
  }
}
