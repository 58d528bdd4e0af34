/** More pictures beside the first: cameras and files of this device, and what other clients stream to this server. */

import { duration } from "./dense.js";
import { Others } from "./others.js";
import { View } from "./view.js";

/** Pictures at most, the first among them. */
export const MOST_PICTURES = 16;
const FIGURES_MS = 1000;

export class Wall {
  #grid;
  #template;
  #choices;
  #hooks;
  #others;
  /** @type {Set<{view: View, tile: HTMLElement}>} */
  #own = new Set();
  /** Pictures that were ever added: each has a number of its own. */
  #added = 0;

  /**
   * @param {HTMLElement} grid holds the first picture's tile
   * @param {HTMLTemplateElement} template of a tile
   * @param {HTMLElement} words where it is said that there are no others, or why
   * @param {() => import("./view.js").Choices} choices
   * @param {{changed: () => void, camera: () => void, key: () => void, first: View}} hooks changed: a picture came, went,
   *   started or stopped; camera, key: as a View tells them
   */
  constructor(grid, template, words, choices, hooks) {
    this.#grid = grid;
    this.#template = template;
    this.#choices = choices;
    this.#hooks = hooks;
    this.#others = new Others(words, choices, {
      tile: (name) => this.#tile(name),
      mine: () => new Set([hooks.first, ...this.#views()].map((view) => view.streamId)),
      changed: hooks.changed,
      room: () => MOST_PICTURES - 1 - this.#own.size,
    });
  }

  /** Whether one more picture of one's own fits. */
  get hasRoom() {
    return this.#own.size + this.#others.size < MOST_PICTURES - 1;
  }

  /** Whether any sends frames. */
  get running() {
    return [...this.#views()].some((view) => view.running);
  }

  /** Send what one more source shows. */
  add(/** @type {import("./view.js").Source} */ source, /** @type {string} */ called) {
    this.#added += 1;
    const name = `${this.#added + 1}. ${called}`;
    const tile = this.#tile(name);
    const part = (/** @type {string} */ which) => /** @type {any} */ (tile.querySelector(`.${which}`));
    let toldAtMs = -Infinity;
    const again = part("again");
    const view = new View(part("picture"), this.#choices, {
      running: (now) => {
        again.hidden = now;
        if (!now) part("figures").textContent = "";
        this.#hooks.changed();
      },
      state: (words) => (part("state").textContent = words),
      problem: (words) => {
        part("problem").textContent = words;
        part("problem").hidden = !words;
      },
      result: (result, latencyMs, shown) => {
        if (performance.now() - toldAtMs < FIGURES_MS) return;
        toldAtMs = performance.now();
        const found = shown.map((one) => one.label).join(", ") || "nothing";
        part("figures").textContent = `${Math.round(result.compute_fraction * 100)}% of the work, ${duration(latencyMs)}`;
        view.describe(`${name}. Found: ${found}`);
      },
      camera: this.#hooks.camera,
      key: this.#hooks.key,
    });
    const mine = { view, tile };
    this.#own.add(mine);
    again.addEventListener("click", () => view.start(source));
    part("remove").addEventListener("click", () => {
      this.#own.delete(mine);
      tile.remove();
      this.#hooks.changed();
      view.close();
    });
    this.#hooks.changed();
    return view.start(source);
  }

  /** Show what other clients stream, or no longer. */
  showOthers(/** @type {boolean} */ wanted) {
    this.#others.show(wanted);
  }

  redraw() {
    for (const view of this.#views()) view.redraw();
  }

  async changeModel() {
    await Promise.all([...this.#views()].map((view) => view.changeModel()));
  }

  /** End all streams of one's own; their tiles stay. */
  async stop() {
    await Promise.all([...this.#views()].map((view) => view.stop()));
  }

  *#views() {
    for (const { view } of this.#own) yield view;
  }

  #tile(/** @type {string} */ name) {
    const tile = /** @type {any} */ (this.#template.content.cloneNode(true)).firstElementChild;
    tile.setAttribute("aria-label", name);
    tile.querySelector(".name").textContent = name;
    tile.querySelector(".remove").setAttribute("aria-label", `Remove ${name}`);
    this.#grid.append(tile);
    return tile;
  }

  /** As many columns as rows; the style makes it one on a phone that is held upright. */
  arrange() {
    const shown = [...this.#grid.children].filter((tile) => !(/** @type {HTMLElement} */ (tile).hidden)).length;
    this.#grid.style.setProperty("--columns", String(Math.ceil(Math.sqrt(shown))));
  }

  /** How many pictures there are beside the first. */
  get size() {
    return this.#own.size + this.#others.size;
  }
}
