/** The last minute: share of the work, latency and frame rate, one above the other, each with what dense would be. */

const WINDOW_MS = 60_000;
const RATE_MS = 2000;
const REDRAW_MS = 200;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];

/**
 * A result's figures.
 * @typedef {{fraction: number, latencyMs: number, inferMs: number, rate: number, atMs: number}} Point
 */

export class Chart {
  #canvas;
  #dense;
  /** @type {Point[]} */
  #points = [];
  #timer = 0;

  /**
   * @param {HTMLCanvasElement} canvas its colours are the page's: --work, --latency, --rate, --line, --text, --quiet
   * @param {import("./dense.js").Dense} dense
   */
  constructor(canvas, dense) {
    this.#canvas = canvas;
    this.#dense = dense;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
    new ResizeObserver(() => this.#draw()).observe(canvas);
  }

  clear() {
    this.#points = [];
    this.#redraw();
  }

  /**
   * @param {any} result
   * @param {number} latencyMs from the frame's capture until its result is here
   */
  add(result, latencyMs) {
    const atMs = performance.now();
    const points = this.#points;
    points.push({ fraction: result.compute_fraction, latencyMs, inferMs: result.timing_ms.infer, rate: 0, atMs });
    points.at(-1).rate = rateOf(this.#recent());
    const first = points.findIndex((point) => point.atMs >= atMs - WINDOW_MS);
    if (first > 0) points.splice(0, first);
    this.#redraw();
  }

  #recent() {
    const since = performance.now() - RATE_MS;
    const first = this.#points.findLastIndex((point) => point.atMs < since) + 1;
    return this.#points.slice(first);
  }

  /** Means over the last two seconds; the rate is in results a second. Null where there is nothing. */
  get figures() {
    const recent = this.#recent();
    if (recent.length < 2) return null;
    const mean = (of) => recent.reduce((sum, point) => sum + of(point), 0) / recent.length;
    return {
      fraction: mean((point) => point.fraction),
      latencyMs: mean((point) => point.latencyMs),
      inferMs: mean((point) => point.inferMs),
      rate: rateOf(recent),
    };
  }

  /** Latency and rate if every frame were computed whole, from what was measured. Null where it was not. */
  get dense() {
    const { inferMs } = this.#dense;
    const figures = this.figures;
    if (inferMs === null || !figures) return null;
    return { latencyMs: figures.latencyMs - figures.inferMs + inferMs, rate: 1000 / Math.max(inferMs, 0.01) };
  }

  #redraw() {
    this.#timer ||= window.setTimeout(() => {
      this.#timer = 0;
      this.#draw();
    }, REDRAW_MS);
  }

  #draw() {
    const canvas = this.#canvas;
    const perPx = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    canvas.width = Math.round(width * perPx);
    canvas.height = Math.round(height * perPx);
    const pen = canvas.getContext("2d");
    pen.scale(perPx, perPx);
    pen.font = "12px system-ui, sans-serif";
    const { dense } = this;
    const ms = (value) => (value >= 1000 ? `${Math.round(value / 100) / 10} s` : `${value} ms`);
    const panels = [
      { name: "Work", colour: "--work", of: (point) => point.fraction * 100, dense: 100, unit: (value) => `${value}%`, top: 100 },
      { name: "Latency", colour: "--latency", of: (point) => point.latencyMs, dense: dense?.latencyMs, unit: ms },
      { name: "Frames/s", colour: "--rate", of: (point) => point.rate, dense: dense?.rate, unit: String },
    ];
    const each = height / panels.length;
    panels.forEach((panel, index) => {
      const box = { left: 4, right: width - 52, top: index * each + 20, bottom: (index + 1) * each - 6 };
      this.#panel(pen, box, panel);
    });
  }

  #panel(pen, box, panel) {
    const style = getComputedStyle(this.#canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const largest = Math.max(0, ...this.#points.map(panel.of));
    // A dense line far above all else is left out of the picture rather than flattening it.
    const wanted = panel.dense > largest * 4 && largest > 0 ? largest : Math.max(largest, panel.dense ?? 0);
    const top = panel.top ?? STEPS.find((step) => step >= wanted * 1.05) ?? wanted;
    const y = (value) => box.bottom - Math.min(1.05, value / top) * (box.bottom - box.top);
    const nowMs = performance.now();
    const x = (point) => box.right - ((nowMs - point.atMs) / WINDOW_MS) * (box.right - box.left);
    pen.fillStyle = colour("--quiet");
    pen.textBaseline = "middle";
    for (const share of [0, 1]) {
      pen.textAlign = "left";
      pen.fillText(panel.unit(share * top), box.right + 6, y(share * top));
      line(pen, box, Math.round(y(share * top)) + 0.5, colour("--line"), []);
    }
    const denseShown = panel.dense !== undefined && panel.dense <= top;
    if (denseShown) line(pen, box, y(panel.dense), colour("--text"), [6, 4]);
    pen.fillStyle = colour("--text");
    pen.fillText(panel.name, box.left, box.top - 11);
    const told = panel.dense === undefined ? "dense: not measured yet" : `- - dense: ${panel.unit(Math.round(panel.dense))}`;
    pen.fillStyle = colour("--quiet");
    pen.textAlign = "right";
    pen.fillText(denseShown || panel.dense === undefined ? told : `${told}, above`, box.right, box.top - 11);
    if (this.#points.length) this.#trace(pen, box, panel, colour(panel.colour), x, y);
  }

  #trace(pen, box, panel, colour, x, y) {
    const points = this.#points;
    pen.save();
    pen.beginPath();
    pen.rect(box.left, box.top - 3, box.right - box.left, box.bottom - box.top + 6);
    pen.clip();
    pen.beginPath();
    for (const point of points) pen.lineTo(x(point), y(panel.of(point)));
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.stroke();
    pen.lineTo(x(points.at(-1)), box.bottom);
    pen.lineTo(x(points[0]), box.bottom);
    pen.globalAlpha = 0.3;
    pen.fill();
    pen.restore();
  }
}

/** @param {Point[]} points */
function rateOf(points) {
  const spanMs = points.length > 1 ? points.at(-1).atMs - points[0].atMs : 0;
  return spanMs > 0 ? ((points.length - 1) * 1000) / spanMs : 0;
}

function line(pen, box, y, colour, dashes) {
  pen.save();
  pen.beginPath();
  pen.setLineDash(dashes);
  pen.moveTo(box.left, y);
  pen.lineTo(box.right, y);
  pen.strokeStyle = colour;
  pen.lineWidth = 1;
  pen.stroke();
  pen.restore();
}
