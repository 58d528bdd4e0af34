/** The cameras to choose from: by direction on phones, and by name once the browser may tell the names. */

import { recall, remember } from "./store.js";

const ANY = "environment";

export class CameraChoice {
  #select;
  #told;

  /**
   * @param {HTMLSelectElement} select to be filled
   * @param {(cameras: MediaDeviceInfo[]) => void} told whenever it is filled anew
   */
  constructor(select, told) {
    this.#select = select;
    this.#told = told;
    select.addEventListener("change", () => remember("camera", select.value));
    navigator.mediaDevices?.addEventListener?.("devicechange", () => this.refresh());
    this.#fill([]);
    this.refresh();
  }

  /** A `deviceId`, or a `facingMode`. */
  get value() {
    return this.#select.value;
  }

  /** What the browser knows now. Names and ids come with the permission. */
  async refresh() {
    const devices = await navigator.mediaDevices?.enumerateDevices?.().catch(() => []);
    this.#fill((devices ?? []).filter((device) => device.kind === "videoinput" && device.deviceId));
  }

  #fill(cameras) {
    const wanted = this.#select.value || recall("camera");
    this.#select.replaceChildren(...cameraOptions(cameras));
    const known = [...this.#select.options].some((option) => option.value === wanted);
    if (!known && wanted && !cameras.length) this.#select.append(new Option("The camera of last time", wanted));
    this.#told(cameras);
    this.#select.value = known || !cameras.length ? wanted || ANY : ANY;
  }
}

/** @param {MediaDeviceInfo[]} cameras */
export function cameraOptions(cameras) {
  const turns = matchMedia("(pointer: coarse)").matches;
  const named = cameras.map((camera, index) => new Option(camera.label || `Camera ${index + 1}`, camera.deviceId));
  const facing = turns ? [new Option("Back camera", ANY), new Option("Front camera", "user")] : [new Option("Any camera", ANY)];
  return [...facing, ...named];
}
