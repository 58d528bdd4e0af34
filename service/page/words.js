/** What went wrong, in words that a person can act on. */

/**
 * @param {DOMException | Error} error of getUserMedia or of play(); MissingError: there is no getUserMedia
 * @returns {string}
 */
export function cameraWords(error) {
  switch (error.name) {
    case "MissingError":
      return isSecureContext ? "This browser gives pages no camera. Choose a video file." : insecureWords();
    case "NotAllowedError":
    case "SecurityError":
      return "The browser does not let this page use the camera. Allow it (the camera or lock sign beside the address), then press Start again.";
    case "OverconstrainedError":
      return "The camera that is chosen is not there. Choose another under Camera, then press Start again.";
    case "NotFoundError":
      return "No camera was found. Connect one and press Start again, or choose a video file.";
    case "NotReadableError":
    case "AbortError":
      return "The camera does not start. Another program may be using it: close that, then press Start again.";
    default:
      return `The camera does not start: ${error.message}`;
  }
}

/** Browsers keep the camera from pages that came over plain HTTP from another machine. */
export function insecureWords() {
  const local = `http://localhost${location.port ? `:${location.port}` : ""}/`;
  return (
    "This page is not secure, so the browser keeps the camera from it. " +
    `Open it as https:// (afterimage serve --lan shows how), or on the server's own machine as ${local}. A video file works here too.`
  );
}

/** The browser cannot play a file. */
export function fileWords() {
  return "The browser cannot play this file. Choose another: MP4 with H.264, or WebM.";
}

/**
 * @param {unknown} error of `api.js`
 * @param {boolean} hasKey whether a key was sent
 * @returns {string}
 */
export function serverWords(error, hasKey) {
  const { status = 0, code = "", detail = "", retryAfterS = 0 } = /** @type {any} */ (error);
  if (status === 0) return "The server does not answer. Check that it is running and that this device can reach it, then try again.";
  if (status === 401 && !hasKey) return "This server needs a key. Enter yours below, or ask whoever runs the server for one (afterimage keys add).";
  if (status === 401) return "The server refused this key: it is wrong, was removed, or its time is over. Enter another.";
  if (code === "too_many_failures") return `Too many wrong keys came from this address. Wait ${retryAfterS || 60} s, then try again.`;
  if (status === 403) return `The server does not allow this: ${detail}.`;
  if (status === 429) return `Too many requests: ${detail}. Try again in ${retryAfterS || 1} s.`;
  if (code === "unknown_model") return "The server no longer has this model. Choose another, then press Start.";
  if (status === 503 && detail.includes("shutting down")) return `The server is shutting down. Press Start again when it is back, in ${retryAfterS || 1} s or later.`;
  if (status === 503) {
    return `The server takes no new stream now. Stop another, or try again in ${retryAfterS || 1} s. It says: ${detail || "no more"}.`;
  }
  return `The server refused: ${detail || `HTTP ${status}`}.`;
}

/** Why there is no picture of another client's stream. */
export function snapshotWords(/** @type {any} */ { status, code }) {
  if (status === 401 || status === 403) return "Only whoever made this stream may see its picture.";
  if (code === "not_found") return "This server does not give out pictures of streams.";
  return "No picture yet.";
}

/** Where results do not say what was recomputed. */
export const UNTOLD = "The server does not tell what is recomputed for this model.";

/**
 * What the state of a StreamClient means for whoever looks at the page.
 * @param {any} change detail of its `state` event
 * @returns {string}
 */
export function stateWords(change) {
  switch (change.state) {
    case "connecting":
      return "Connecting…";
    case "greeting":
      return "Connected. The server prepares the model; the first time takes up to two minutes.";
    case "open":
      return "Running";
    case "draining":
      return "The server is shutting down.";
    case "waiting": {
      const again = `Trying again in ${Math.max(1, Math.round(change.waitMs / 1000))} s.`;
      const why = change.said?.detail || change.reason;
      if (change.code === 1013) return `The server is full: ${why || "no room for one more stream"}. ${again}`;
      if (change.code === 1012) return `The server is shutting down or starting again. ${again}`;
      return `The connection to the server was lost. ${again}`;
    }
    default:
      return "Stopped";
  }
}

/**
 * Why a stream ended for good.
 * @param {any} ending detail of a `state` event with state `ended`
 */
export function endWords({ code, reason, said }) {
  const why = said?.detail || reason;
  if (said?.code === "unauthorized") return `The server no longer knows this stream: ${why}. Press Start to begin again.`;
  if (said?.code === "unknown_model" || /was unloaded|being unloaded/.test(why)) {
    return "The server has unloaded this model. Choose another, then press Start.";
  }
  if (said?.code === "model_failed") return `The server cannot run this model: ${why}. Choose another, then press Start.`;
  if (code === 1008 && /taken the stream over/.test(why)) return "Another connection has taken this stream over. Press Start for a new one.";
  if (code === 1000 && /deleted/.test(why)) return "Somebody deleted this stream on the server. Press Start for a new one.";
  if (code === 1009) return "The server refused a picture as too large.";
  return `The server ended the stream${why ? `: ${why}` : ""}. Press Start to begin again.`;
}
