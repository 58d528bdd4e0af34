/** The page: what is chosen, what is started, what is shown and said. Everything else is in the modules beside it. */

import { ApiError, listModels } from "./api.js";
import { Chart } from "./chart.js";
import { joined, onCode } from "./join.js";
import { draw } from "./overlay.js";
import { LOWEST_SCORE, Run } from "./run.js";
import { closeSource, openCamera, openFile } from "./source.js";
import { cameraWords, endWords, fileWords, insecureWords, serverWords, stateWords } from "./words.js";

const FIGURES_MS = 250;
const SPOKEN_MS = 5000;

/** @param {string} id */
const at = (id) => /** @type {any} */ (document.getElementById(id));
const [picture, video, overlay, placeholder] = ["picture", "video", "overlay", "placeholder"].map(at);
const [startButton, status, problem] = ["start", "status", "problem"].map(at);
const [keyRow, keyInput, fileRow, fileInput] = ["key-row", "key", "file-row", "file"].map(at);
const [modelSelect, threshold, thresholdValue] = ["model", "threshold", "threshold-value"].map(at);
const chart = new Chart(at("chart"));

let key = "";
/** @type {any[]} */
let models = [];
let running = false;
/** Counts starts and stops, so that what was waited for can tell whether it is still wanted. */
let turn = 0;
/** @type {Run | null} */
let run = null;
/** The last frame with its result, to be drawn again when the threshold moves. */
let latest = null;
let inTrouble = false;
let figuresAtMs = -Infinity;
let spokenAtMs = -Infinity;

function say(text, trouble = false) {
  inTrouble = trouble;
  if (status.textContent !== text) status.textContent = text;
}

/** Show what went wrong; "" takes it away. */
function complain(text) {
  if (problem.textContent !== text) problem.textContent = text;
  problem.hidden = !text;
}

function setRunning(now) {
  running = now;
  turn += 1;
  startButton.textContent = now ? "Stop" : "Start";
  startButton.classList.toggle("stop", now);
}

/** Use the key that a scanned code gives, if there is one, and see what is there. */
async function enter() {
  const { key: given, trouble } = await joined();
  key = given || key;
  await loadModels();
  if (trouble) complain(trouble);
}

/** Ask for the models, with the key there is. Whether there is one to use. */
async function loadModels() {
  try {
    models = (await listModels(key)).filter((model) => model.state !== "failed");
  } catch (error) {
    complain(serverWords(error, key !== ""));
    say("Not connected");
    if (error instanceof ApiError && error.status === 401) askForKey();
    return false;
  }
  keyRow.hidden = true;
  const chosen = modelSelect.value || models.find((model) => model.default)?.name;
  modelSelect.replaceChildren(...models.map((model) => new Option(model.name, model.name)));
  modelSelect.disabled = models.length < 1;
  if (models.some((model) => model.name === chosen)) modelSelect.value = chosen;
  useThresholdOfModel();
  complain(models.length ? "" : "The server has no model that works. Its log and GET /v1/models say why.");
  say(models.length ? "Ready to start" : "No model");
  return models.length > 0;
}

function askForKey() {
  const focus = keyRow.hidden;
  keyRow.hidden = false;
  if (focus) keyInput.focus();
}

async function useKey() {
  key = keyInput.value.trim();
  if (!key) return keyInput.focus();
  complain("");
  if (await loadModels()) {
    keyInput.value = "";
    startButton.focus();
  } else {
    keyInput.select();
  }
}

async function start() {
  complain("");
  const fromFile = document.querySelector('input[name="source"]:checked').value === "file";
  const file = fileInput.files[0];
  if (fromFile && !file) {
    complain("Choose a video file first.");
    return fileInput.focus();
  }
  if (!fromFile && !navigator.mediaDevices?.getUserMedia) {
    return complain(isSecureContext ? "This browser gives pages no camera. Choose a video file." : insecureWords());
  }
  setRunning(true);
  const mine = turn;
  say(fromFile ? "Opening the file…" : "Waiting for the camera…");
  try {
    if (!models.length && !(await loadModels())) return mine === turn && stop("Not connected");
    const camera = fromFile ? await openFile(video, file) : await openCamera(video);
    if (mine !== turn) return closeSource(video);
    camera?.getVideoTracks()[0].addEventListener("ended", () => mine === turn && cameraLost());
  } catch (error) {
    if (mine !== turn) return undefined;
    complain(fromFile ? fileWords() : cameraWords(error));
    return stop("Not started");
  }
  overlay.hidden = true;
  placeholder.hidden = true;
  latest = null;
  await startRun();
}

function cameraLost() {
  complain("The camera has stopped. Connect it again, or allow it again, then press Start.");
  stop("Stopped");
}

/** Send what the video shows to the model that is chosen. */
async function startRun() {
  chart.clear();
  delete picture.dataset.seq;
  figuresAtMs = spokenAtMs = -Infinity;
  at("figures").hidden = false;
  const mine = new Run(video, key, modelSelect.value, {
    state: (change) => mine === run && showState(change),
    result: (canvas, result, latencyMs) => mine === run && showResult(canvas, result, latencyMs),
    refused: (detail) => mine === run && complain(`The server refused a frame: ${detail}`),
    ended: (error, ending) => mine === run && ended(error, ending),
  });
  run = mine;
  say("Connecting…");
  await mine.start();
}

async function stop(words = "Stopped") {
  const old = run;
  run = null;
  setRunning(false);
  closeSource(video);
  placeholder.hidden = !overlay.hidden;
  say(words);
  await old?.stop();
}

function ended(error, ending) {
  if (error instanceof ApiError) complain(serverWords(error, key !== ""));
  else complain(error ? `Something failed in this page: ${error.message}` : endWords(ending));
  stop("Stopped");
  if (error instanceof ApiError && error.status === 401) askForKey();
}

function showState(change) {
  if (change.state === "connecting" && inTrouble) return; // what is the matter stays to be read until it is over
  if (change.state === "open") complain("");
  if (change.state === "open" && document.hidden) return say("Paused while this page is hidden");
  say(stateWords(change), change.state === "waiting" || change.state === "draining");
}

function showResult(canvas, result, latencyMs) {
  latest = { canvas, result };
  overlay.hidden = false;
  const shown = redraw();
  if (!problem.hidden) complain("");
  chart.add(result.compute_fraction, latencyMs);
  const nowMs = performance.now();
  if (nowMs - figuresAtMs < FIGURES_MS) return;
  const figures = chart.figures;
  if (!figures) return;
  figuresAtMs = nowMs;
  at("work").textContent = percent(figures.fraction);
  at("latency").textContent = duration(figures.latencyMs);
  at("rate").textContent = figures.rate.toFixed(figures.rate < 10 ? 1 : 0);
  at("objects").textContent = String(shown.length);
  if (nowMs - spokenAtMs >= SPOKEN_MS) {
    spokenAtMs = nowMs;
    speak(shown, figures);
  }
}

/** For those who do not see picture and chart, seldom enough to be listened to. */
function speak(shown, figures) {
  const counts = new Map();
  for (const { label } of shown) counts.set(label, (counts.get(label) ?? 0) + 1);
  const seen = [...counts].map(([label, count]) => `${label}: ${count}`).join(", ") || "nothing";
  const measured = `${percent(figures.fraction)} of the work, ${duration(figures.latencyMs)}, ${figures.rate.toFixed(0)} frames a second`;
  overlay.setAttribute("aria-label", `Live picture. Found: ${seen}`);
  at("chart").setAttribute("aria-label", `Chart of the last results: ${measured}`);
  at("spoken").textContent = `Found: ${seen}. ${measured}.`;
}

const percent = (share) => `${Math.round(share * 100)}%`;
const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

function redraw() {
  const shown = draw(overlay, latest.canvas, latest.result, Number(threshold.value));
  picture.dataset.seq = latest.result.seq;
  picture.dataset.found = shown.map((one) => one.label).join(",");
  return shown;
}

function showThreshold() {
  thresholdValue.textContent = percent(threshold.value);
  threshold.setAttribute("aria-valuetext", thresholdValue.textContent);
}

function useThresholdOfModel() {
  const model = models.find(({ name }) => name === modelSelect.value);
  threshold.value = String(Math.max(LOWEST_SCORE, model?.min_confidence ?? 0.5));
  showThreshold();
}

startButton.addEventListener("click", () => (running ? stop() : start()));
keyRow.addEventListener("submit", (event) => {
  event.preventDefault();
  useKey();
});
threshold.addEventListener("input", () => {
  showThreshold();
  if (latest) redraw();
});
modelSelect.addEventListener("change", async () => {
  useThresholdOfModel();
  const old = run;
  if (!running || !old) return;
  await Promise.all([startRun(), old.stop()]);
});
for (const radio of document.querySelectorAll('input[name="source"]')) {
  radio.addEventListener("change", () => {
    fileRow.hidden = radio.value !== "file";
    if (running) stop();
  });
}
fileInput.addEventListener("change", () => running && stop());
for (const event of ["loadedmetadata", "resize"]) {
  video.addEventListener(event, () => {
    if (video.videoWidth) picture.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
  });
}
document.addEventListener("visibilitychange", () => {
  if (run?.open) say(document.hidden ? "Paused while this page is hidden" : "Running");
});
addEventListener("pagehide", () => running && stop());
onCode(enter);
showThreshold();
enter();
