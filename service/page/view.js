/** One picture of one's own: where its frames come from, the stream that they go to, and what is drawn of the results. */

import { ApiError } from "./api.js";
import { Heat } from "./heat.js";
import { draw } from "./overlay.js";
import { Run } from "./run.js";
import { closeSource, openCamera, openFile, showCamera, stopCamera } from "./source.js";
import { cameraWords, endWords, fileWords, serverWords, stateWords } from "./words.js";

/**
 * Where frames come from: a file, or a choice of `CameraChoice`.
 * @typedef {{file: File} | {camera: string}} Source
 *
 * What is chosen for all pictures.
 * @typedef {{key: string, model: string, threshold: number, heat: boolean}} Choices
 *
 * What a picture tells.
 * @typedef {object} Told
 * @property {(running: boolean) => void} running it was started, or has stopped
 * @property {(words: string) => void} state
 * @property {(words: string) => void} problem "" takes back what was said before
 * @property {(result: any, latencyMs: number, shown: any[]) => void} result drawn just now
 * @property {() => void} camera a camera was opened, so that the names of all may be told
 * @property {() => void} key the server refuses the key, or wants one
 */

export class View {
  #figure;
  #video;
  #overlay;
  #placeholder;
  #choices;
  #tell;
  #heat = new Heat();
  /** @type {Run | null} */
  #run = null;
  /** The last frame with its result, to be drawn again when a choice changes. */
  #latest = null;
  /** Counts starts and stops, so that what was waited for can tell whether it is still wanted. */
  #changes = 0;
  #turn = 0;
  #running = false;
  #closing = new AbortController();
  #inTrouble = false;
  #complained = false;

  /**
   * @param {HTMLElement} figure with a <video>, a <canvas> and a <p> that says what to do while there is no picture
   * @param {() => Choices} choices
   * @param {Told} tell
   */
  constructor(figure, choices, tell) {
    this.#figure = figure;
    [this.#video, this.#overlay, this.#placeholder] = ["video", "canvas", "p"].map((name) => figure.querySelector(name));
    this.#choices = choices;
    this.#tell = tell;
    for (const event of ["loadedmetadata", "resize"]) this.#video.addEventListener(event, () => this.#reshape());
    const { signal } = this.#closing;
    document.addEventListener("visibilitychange", () => this.#shownOrHidden(), { signal });
  }

  get running() {
    return this.#running;
  }

  /** "" where there is no stream. */
  get streamId() {
    return this.#run?.streamId ?? "";
  }

  /** Have the next frames computed whole, to measure what that takes. */
  computeWhole(/** @type {number} */ frames) {
    this.#run?.computeWhole(frames);
  }

  /** Open a source, and send what it shows. What goes wrong is told. */
  async start(/** @type {Source} */ source) {
    this.#complain("");
    this.#setRunning(true);
    if (!(await this.#open(source))) return;
    this.#overlay.hidden = true;
    this.#placeholder.hidden = true;
    this.#latest = null;
    await this.#startRun();
  }

  /** Show another camera in the same stream. */
  async switchTo(/** @type {Source} */ source) {
    if (!this.#running) return undefined;
    closeSource(this.#video);
    if (!this.#run) return this.start(source);
    if (await this.#open(source)) this.#say(this.#run?.open ? runningWords() : "Connecting…");
    return undefined;
  }

  /** Go on with another model: a new stream, as the cache is of no use to it. */
  async changeModel() {
    const old = this.#run;
    if (!old) return;
    const mine = ++this.#changes;
    await old.stop(); // first: the server counts it until then
    if (mine === this.#changes && this.#run === old) await this.#startRun();
  }

  async stop(words = "Stopped") {
    const old = this.#run;
    this.#run = null;
    this.#setRunning(false);
    closeSource(this.#video);
    this.#placeholder.hidden = !this.#overlay.hidden;
    this.#say(words);
    await old?.stop();
  }

  /** Stop for good: the page no longer has the picture. */
  close() {
    this.#closing.abort();
    return this.stop();
  }

  /** Draw the last frame again, by what is chosen now. */
  redraw() {
    if (!this.#latest) return [];
    const { canvas, result } = this.#latest;
    const { threshold, heat } = this.#choices();
    const shown = draw(this.#overlay, canvas, result, threshold, heat ? this.#heat : null);
    this.#figure.dataset.seq = result.seq;
    this.#figure.dataset.found = shown.map((one) => one.label).join(",");
    return shown;
  }

  /** What screen readers say of the picture. */
  describe(/** @type {string} */ words) {
    this.#overlay.setAttribute("aria-label", words);
  }

  #setRunning(now) {
    this.#running = now;
    this.#turn += 1;
    this.#tell.running(now);
  }

  /** Whether it plays, and is still wanted. */
  async #open(source) {
    const mine = ++this.#turn;
    const fromFile = "file" in source;
    try {
      if (fromFile) {
        this.#say("Opening the file…");
        await openFile(this.#video, source.file);
      } else {
        if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("", "MissingError");
        this.#say("Waiting for the camera…");
        await this.#openCamera(source.camera, mine);
      }
    } catch (error) {
      if (mine === this.#turn) {
        this.#complain(fromFile ? fileWords() : cameraWords(error));
        this.stop("Not started");
      }
    }
    return mine === this.#turn;
  }

  async #openCamera(choice, mine) {
    const camera = await openCamera(choice);
    if (mine !== this.#turn) return stopCamera(camera);
    camera.getVideoTracks()[0].addEventListener("ended", () => mine === this.#turn && this.#cameraLost());
    await showCamera(this.#video, camera);
    this.#tell.camera();
  }

  #cameraLost() {
    this.#complain("The camera has stopped. Connect it again, or allow it again, then press Start.");
    this.stop();
  }

  /** Send what the video shows to the model that is chosen. */
  async #startRun() {
    delete this.#figure.dataset.seq;
    this.#heat.clear();
    const { key, model } = this.#choices();
    const mine = new Run(this.#video, key, model, {
      state: (change) => mine === this.#run && this.#showState(change),
      result: (canvas, result, latencyMs) => mine === this.#run && this.#showResult(canvas, result, latencyMs),
      refused: (detail) => mine === this.#run && this.#complain(`The server refused a frame: ${detail}`),
      ended: (error, ending) => mine === this.#run && this.#ended(error, ending, key !== ""),
    });
    this.#run = mine;
    this.#say("Connecting…");
    await mine.start();
  }

  #ended(error, ending, hadKey) {
    if (error instanceof ApiError) this.#complain(serverWords(error, hadKey));
    else this.#complain(error ? `Something failed in this page: ${error.message}` : endWords(ending));
    this.stop();
    if (error instanceof ApiError && error.status === 401) this.#tell.key();
  }

  #showState(change) {
    if (change.state === "connecting" && this.#inTrouble) return; // what is the matter stays to be read until it is over
    if (change.state === "open") this.#complain("");
    this.#say(change.state === "open" ? runningWords() : stateWords(change));
    this.#inTrouble = change.state === "waiting" || change.state === "draining";
  }

  #showResult(canvas, result, latencyMs) {
    this.#latest = { canvas, result };
    this.#heat.take(result.changes, performance.now() - latencyMs);
    this.#overlay.hidden = false;
    const shown = this.redraw();
    this.#complain("");
    this.#tell.result(result, latencyMs, shown);
  }

  #shownOrHidden() {
    if (!this.#run) return;
    if (this.#run.open) this.#say(runningWords());
    if (!document.hidden) this.#video.play().catch(() => null); // phones pause what is not seen
  }

  /** The picture's shape follows the video's: a phone that is turned sends another. */
  #reshape() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (width && height) this.#figure.style.setProperty("--aspect", `${width} / ${height}`);
  }

  #say(words) {
    this.#inTrouble = false;
    this.#tell.state(words);
  }

  #complain(words) {
    if (!words && !this.#complained) return;
    this.#complained = words !== "";
    this.#tell.problem(words);
  }
}

function runningWords() {
  return document.hidden ? "Paused while this page is hidden" : "Running";
}
