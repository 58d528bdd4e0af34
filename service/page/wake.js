/** Keeps the screen on while pictures are sent: a phone that goes to sleep stops its camera. */

export class WakeLock {
  #wanted = false;
  #lock = null;

  constructor() {
    // The browser takes the lock away from a hidden page.
    document.addEventListener("visibilitychange", () => this.#follow());
  }

  /** Nothing happens where the browser has no such lock, or refuses it (a battery that is low). */
  hold(/** @type {boolean} */ wanted) {
    this.#wanted = wanted;
    this.#follow();
  }

  async #follow() {
    if (!this.#wanted) {
      const lock = this.#lock;
      this.#lock = null;
      await lock?.release().catch(() => null);
      return;
    }
    if (document.hidden || (this.#lock && !this.#lock.released)) return;
    const lock = await navigator.wakeLock?.request("screen").catch(() => null);
    if (!lock) return;
    const spare = this.#wanted ? this.#lock : lock;
    if (this.#wanted) this.#lock = lock;
    if (spare && !spare.released) await spare.release().catch(() => null);
  }
}
