/** What a dense engine would take, as far as it was measured here: frames that were computed whole say so. */

const KEPT = 15;

export class Dense {
  #inferMs = [];

  clear() {
    this.#inferMs = [];
  }

  /** @param {any} result its `timing_ms.infer` is a dense frame's time where all of the network was computed */
  add(result) {
    if (result.decision !== "keyframe" || result.compute_fraction < 1) return;
    this.#inferMs.push(result.timing_ms.infer);
    if (this.#inferMs.length > KEPT) this.#inferMs.shift();
  }

  /** Frames that were measured. */
  get frames() {
    return this.#inferMs.length;
  }

  /** Median, ms; null where no frame was computed whole yet. */
  get inferMs() {
    const sorted = [...this.#inferMs].sort((one, other) => one - other);
    const middle = sorted.length >> 1;
    if (!sorted.length) return null;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
}

/**
 * @param {Dense} dense
 * @param {{inferMs: number}} figures of the last seconds
 * @returns {string}
 */
export function denseWords(dense, figures) {
  const whole = dense.inferMs;
  if (whole === null) return "What a dense frame would take is not known yet: none was computed whole.";
  const basis = dense.frames === 1 ? "one frame, computed whole here" : `median of ${dense.frames} frames computed whole here`;
  const now = `The network takes ${duration(figures.inferMs)} a frame; dense it takes ${duration(whole)} (${basis})`;
  const times = whole / Math.max(0.01, figures.inferMs);
  if (times >= 1.1) return `${now}: ${times >= 100 ? "over 100" : times.toFixed(1)} times faster.`;
  return times > 0.9 ? `${now}: no gain now.` : `${now}: slower now.`;
}

/** @param {number} ms */
export function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return ms < 9.95 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}
