/** What other clients stream to this server: the last picture of each, asked for about once a second. */

import { listStreams, snapshot } from "./api.js";
import { serverWords, snapshotWords } from "./words.js";

const ROUND_MS = 1000;
const TROUBLE_MS = 5000;

/**
 * @typedef {object} Host
 * @property {(name: string) => HTMLElement} tile a new one, in its place
 * @property {() => Set<string>} mine ids of streams that are shown already
 * @property {() => void} changed tiles came or went
 * @property {() => number} room for how many
 */

export class Others {
  #words;
  #choices;
  #host;
  /** @type {Map<string, {tile: HTMLElement, refused: boolean}>} by stream */
  #known = new Map();
  #turn = 0;

  /**
   * @param {HTMLElement} words
   * @param {() => import("./view.js").Choices} choices
   * @param {Host} host
   */
  constructor(words, choices, host) {
    this.#words = words;
    this.#choices = choices;
    this.#host = host;
  }

  get size() {
    return this.#known.size;
  }

  show(/** @type {boolean} */ wanted) {
    this.#turn += 1;
    if (wanted) this.#watch(this.#turn);
    else this.#clear();
  }

  async #watch(turn) {
    while (turn === this.#turn) {
      const waitMs = document.hidden ? ROUND_MS : await this.#round(turn);
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }

  /** Ask once for all. Returns how long to wait, ms. */
  async #round(turn) {
    try {
      const streams = await listStreams(this.#choices().key);
      if (turn !== this.#turn) return 0;
      this.#sync(streams);
      for (const [id, one] of this.#known) {
        if (!one.refused) await this.#refresh(id, one);
        if (turn !== this.#turn) return 0;
      }
      return ROUND_MS;
    } catch (error) {
      if (turn === this.#turn) this.#say(serverWords(error, this.#choices().key !== ""));
      return Math.max(TROUBLE_MS, (/** @type {any} */ (error).retryAfterS ?? 0) * 1000);
    }
  }

  #sync(streams) {
    const mine = this.#host.mine();
    const others = streams.filter((stream) => !mine.has(stream.stream_id));
    const shown = others.slice(0, this.#host.room());
    const ids = new Set(shown.map((stream) => stream.stream_id));
    const before = [...this.#known.keys()].join();
    for (const id of this.#known.keys()) if (!ids.has(id)) this.#remove(id);
    for (const stream of shown) this.#tell(stream);
    if ([...this.#known.keys()].join() !== before) this.#host.changed();
    const left = others.length - shown.length;
    if (!others.length) this.#say("No other streams on this server now. They appear here by themselves.");
    else this.#say(left ? `${left} more do not fit on this wall.` : "");
  }

  #tell(stream) {
    const id = stream.stream_id;
    let one = this.#known.get(id);
    if (!one) {
      one = { tile: this.#host.tile(`Stream ${id}`), refused: false };
      one.tile.querySelector(".remove").remove();
      one.tile.querySelector(".picture").replaceChildren(placeholder("Waiting for its first picture…"));
      this.#known.set(id, one);
    }
    const mean = stream.compute_fraction_mean;
    const work = mean === null ? "" : `, ${Math.round(mean * 100)}% of the work`;
    one.tile.querySelector(".figures").textContent = `${stream.model}${work}${stream.connected ? "" : ", nobody sends"}`;
  }

  async #refresh(id, one) {
    const picture = one.tile.querySelector(".picture");
    const { key, heat } = this.#choices();
    let blob;
    try {
      blob = await snapshot(key, id, heat);
    } catch (error) {
      const { status } = /** @type {any} */ (error);
      if (![401, 403, 404].includes(status)) throw error;
      one.refused = status !== 404 || /** @type {any} */ (error).code === "not_found"; // asking again changes nothing
      if (!picture.querySelector("img")) picture.replaceChildren(placeholder(snapshotWords(error)));
      return;
    }
    const image = new Image();
    image.alt = `Last picture of stream ${id}`;
    image.src = URL.createObjectURL(blob);
    try {
      await image.decode();
      picture.replaceChildren(image);
    } catch {
      picture.replaceChildren(placeholder("The last picture cannot be shown."));
    }
    URL.revokeObjectURL(image.src);
  }

  #remove(id) {
    this.#known.get(id)?.tile.remove();
    this.#known.delete(id);
  }

  #clear() {
    for (const id of [...this.#known.keys()]) this.#remove(id);
    this.#say("");
    this.#host.changed();
  }

  #say(words) {
    if (this.#words.textContent !== words) this.#words.textContent = words;
  }
}

function placeholder(words) {
  const line = document.createElement("p");
  line.className = "placeholder";
  line.textContent = words;
  return line;
}
