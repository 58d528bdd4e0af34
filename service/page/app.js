/** The page: what is chosen, what is started, what is shown and said. Everything else is in the modules beside it. */

import { ApiError, listModels } from "./api.js";
import { CameraChoice, cameraOptions } from "./cameras.js";
import { Chart } from "./chart.js";
import { Dense, denseWords, duration } from "./dense.js";
import { Stages } from "./heat.js";
import { joined, onCode } from "./join.js";
import { LOWEST_SCORE } from "./run.js";
import { recall, remember } from "./store.js";
import { View } from "./view.js";
import { WakeLock } from "./wake.js";
import { Wall } from "./wall.js";
import { UNTOLD, serverWords } from "./words.js";

const FIGURES_MS = 250;
const SPOKEN_MS = 5000;
const MEASURED_FRAMES = 5;
const A_FILE = "file";

/** @param {string} id */
const at = (id) => /** @type {any} */ (document.getElementById(id));
const [startButton, status, problem, heat, measure] = ["start", "status", "problem", "heat", "measure"].map(at);
const [keyRow, keyInput, fileRow, fileInput, cameraRow] = ["key-row", "key", "file-row", "file", "camera-row"].map(at);
const [modelSelect, threshold, thresholdValue] = ["model", "threshold", "threshold-value"].map(at);
const [more, moreSource, moreFile, others] = ["more", "more-source", "more-file", "others"].map(at);
const cameras = new CameraChoice(at("camera-choice"), fillMore);
const dense = new Dense();
const chart = new Chart(at("chart"), dense);
const stages = new Stages(at("stages"));
const awake = new WakeLock();

let key = "";
/** @type {any[]} */
let models = [];
let figuresAtMs = -Infinity;
let spokenAtMs = -Infinity;

const choices = () => ({
  key,
  model: modelSelect.value,
  threshold: Number(threshold.value),
  heat: heat.checked,
});
const view = new View(at("picture"), choices, {
  running: showRunning,
  state: say,
  problem: complain,
  result: showResult,
  camera: () => cameras.refresh(),
  key: askForKey,
});
const wall = new Wall(at("pictures"), at("tile"), at("others-words"), choices, {
  changed: arrange,
  camera: () => cameras.refresh(),
  key: askForKey,
  first: view,
});

function say(text) {
  if (status.textContent !== text) status.textContent = text;
}

/** Show what went wrong; "" takes it away. */
function complain(text) {
  if (problem.textContent !== text) problem.textContent = text;
  problem.hidden = !text;
}

function showRunning(now) {
  startButton.textContent = now ? "Stop" : "Start";
  startButton.classList.toggle("stop", now);
  arrange();
}

/** The first picture's place is kept free only where there is no other. */
function arrange() {
  const walled = wall.size > 0;
  document.body.classList.toggle("wall", walled);
  at("first").hidden = walled && !view.running;
  wall.arrange();
  more.disabled = !wall.hasRoom;
  awake.hold(view.running || wall.running);
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
  const known = (name) => models.some((model) => model.name === name);
  const chosen = [modelSelect.value, recall("model"), models.find((model) => model.default)?.name].find(known);
  modelSelect.replaceChildren(...models.map((model) => new Option(model.name, model.name)));
  modelSelect.disabled = models.length < 1;
  if (chosen) modelSelect.value = chosen;
  useThresholdOfModel();
  complain(models.length ? "" : "The server has no model that works. Its log and GET /v1/models say why.");
  if (!view.running) say(models.length ? "Ready to start" : "No model");
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

const fromFile = () => document.querySelector('input[name="source"]:checked').value === A_FILE;

async function start() {
  complain("");
  const file = fileInput.files[0];
  if (fromFile() && !file) {
    complain("Choose a video file first.");
    return fileInput.focus();
  }
  if (!models.length && !(await loadModels())) return undefined;
  chart.clear();
  dense.clear();
  figuresAtMs = spokenAtMs = -Infinity;
  return view.start(fromFile() ? { file } : { camera: cameras.value });
}

function showResult(result, latencyMs, shown) {
  dense.add(result);
  chart.add(result, latencyMs);
  at("figures").hidden = false;
  if (heat.checked) showStages(result.changes);
  const nowMs = performance.now();
  if (nowMs - figuresAtMs < FIGURES_MS) return;
  const { figures } = chart;
  if (!figures) return;
  figuresAtMs = nowMs;
  at("work").textContent = percent(figures.fraction);
  at("latency").textContent = duration(figures.latencyMs);
  at("rate").textContent = figures.rate.toFixed(figures.rate < 10 ? 1 : 0);
  at("objects").textContent = String(shown.length);
  at("dense").textContent = denseWords(dense, figures);
  if (nowMs - spokenAtMs >= SPOKEN_MS) {
    spokenAtMs = nowMs;
    speak(shown, figures);
  }
}

function showStages(changes) {
  stages.show(changes?.stages);
  const words = changes ? "" : UNTOLD;
  if (at("untold").textContent !== words) at("untold").textContent = words;
}

/** For those who do not see picture and chart, seldom enough to be listened to. */
function speak(shown, figures) {
  const counts = new Map();
  for (const { label } of shown) counts.set(label, (counts.get(label) ?? 0) + 1);
  const seen = [...counts].map(([label, count]) => `${label}: ${count}`).join(", ") || "nothing";
  const measured = `${percent(figures.fraction)} of the work, ${duration(figures.latencyMs)}, ${figures.rate.toFixed(0)} frames a second`;
  view.describe(`Live picture. Found: ${seen}`);
  at("chart").setAttribute("aria-label", `Chart of the last minute. Now ${measured}. ${denseWords(dense, figures)}`);
  at("spoken").textContent = `Found: ${seen}. ${measured}.`;
}

const percent = (share) => `${Math.round(share * 100)}%`;

function showThreshold() {
  thresholdValue.textContent = percent(threshold.value);
  threshold.setAttribute("aria-valuetext", thresholdValue.textContent);
}

/** What was chosen for this model before, or else what it says itself. */
function useThresholdOfModel() {
  const model = models.find(({ name }) => name === modelSelect.value);
  const kept = Number(recall(`threshold.${modelSelect.value}`));
  threshold.value = String(kept || Math.max(LOWEST_SCORE, model?.min_confidence ?? 0.5));
  showThreshold();
}

/** What can be added to the wall. */
function fillMore(known) {
  const chosen = moreSource.value;
  moreSource.replaceChildren(...cameraOptions(known), new Option("A video file…", A_FILE));
  if ([...moreSource.options].some((option) => option.value === chosen)) moreSource.value = chosen;
}

async function addToWall(source, name) {
  if (!models.length && !(await loadModels())) return;
  await wall.add(source, name);
}

function redrawAll() {
  view.redraw();
  wall.redraw();
}

startButton.addEventListener("click", () => (view.running ? view.stop() : start()));
keyRow.addEventListener("submit", (event) => {
  event.preventDefault();
  useKey();
});
threshold.addEventListener("input", () => {
  showThreshold();
  remember(`threshold.${modelSelect.value}`, threshold.value);
  redrawAll();
});
modelSelect.addEventListener("change", async () => {
  remember("model", modelSelect.value);
  useThresholdOfModel();
  chart.clear();
  dense.clear();
  await Promise.all([view.changeModel(), wall.changeModel()]);
});
heat.addEventListener("change", () => {
  remember("heat", heat.checked ? "on" : "");
  at("recomputed").hidden = !heat.checked;
  redrawAll();
});
measure.addEventListener("click", () => view.computeWhole(MEASURED_FRAMES));
for (const radio of document.querySelectorAll('input[name="source"]')) {
  radio.addEventListener("change", () => {
    fileRow.hidden = !fromFile();
    cameraRow.hidden = fromFile();
    if (view.running) view.stop();
  });
}
at("camera-choice").addEventListener("change", () => view.switchTo({ camera: cameras.value }));
fileInput.addEventListener("change", () => view.running && view.stop());
more.addEventListener("click", () => {
  if (moreSource.value === A_FILE) moreFile.click();
  else addToWall({ camera: moreSource.value }, moreSource.selectedOptions[0].text);
});
moreFile.addEventListener("change", () => {
  const file = moreFile.files[0];
  moreFile.value = "";
  if (file) addToWall({ file }, file.name);
});
others.addEventListener("change", () => wall.showOthers(others.checked));
addEventListener("pagehide", () => {
  if (view.running) view.stop();
  wall.stop();
});
heat.checked = recall("heat") === "on";
at("recomputed").hidden = !heat.checked;
onCode(enter);
showThreshold();
enter();
