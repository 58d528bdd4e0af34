/** Pictures: a camera or a file playing in a <video>, and frames grabbed from it. */

const QUIET_MS = 250;

/**
 * Ask for a camera.
 * @param {string} choice "environment" (looks away from whoever holds the device) or "user", each or the one there is; or an id
 * @returns {Promise<MediaStream>}
 */
export function openCamera(choice) {
  const which = ["environment", "user"].includes(choice) ? { facingMode: { ideal: choice } } : { deviceId: { exact: choice } };
  const size = { width: { ideal: 1280 }, height: { ideal: 720 } };
  return navigator.mediaDevices.getUserMedia({ audio: false, video: { ...which, ...size } });
}

/**
 * @param {HTMLVideoElement} video
 * @param {MediaStream} stream
 */
export async function showCamera(video, stream) {
  video.srcObject = stream;
  await video.play();
}

/**
 * Play a file, over and over.
 * @param {HTMLVideoElement} video
 * @param {File} file
 */
export async function openFile(video, file) {
  video.srcObject = null;
  video.src = URL.createObjectURL(file);
  video.loop = true;
  await video.play();
}

/** Let go of the camera or the file. */
export function closeSource(/** @type {HTMLVideoElement} */ video) {
  video.pause();
  if (video.srcObject instanceof MediaStream) stopCamera(video.srcObject);
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute("src");
  video.load();
}

export function stopCamera(/** @type {MediaStream} */ stream) {
  for (const track of stream.getTracks()) track.stop();
}

/** When the video shows its next frame; after a while all the same, so that whoever waits can look around. */
export function nextFrame(/** @type {HTMLVideoElement} */ video) {
  return new Promise((resolve) => {
    const frames = Boolean(video.requestVideoFrameCallback);
    const shown = () => {
      clearTimeout(timer);
      resolve(undefined);
    };
    const asked = frames ? video.requestVideoFrameCallback(shown) : requestAnimationFrame(shown);
    const timer = setTimeout(() => {
      if (frames) video.cancelVideoFrameCallback(asked);
      else cancelAnimationFrame(asked);
      resolve(undefined);
    }, QUIET_MS);
  });
}

/** Canvases of frames under way, used again. */
export class Grabber {
  #spare = [];

  /**
   * The frame that the video shows now.
   * @param {HTMLVideoElement} video
   * @param {number} longestPx longest side of what is kept; never enlarged
   * @returns {{canvas: HTMLCanvasElement, capturedUs: number} | null} null: there is none yet
   */
  grab(video, longestPx) {
    const { videoWidth: width, videoHeight: height } = video;
    if (!width || !height || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return null;
    const scale = Math.min(1, longestPx / Math.max(width, height));
    const canvas = this.#spare.pop() ?? document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    const capturedUs = Math.round((performance.timeOrigin + performance.now()) * 1000);
    return { canvas, capturedUs };
  }

  /** A canvas that is no longer looked at. */
  release(/** @type {HTMLCanvasElement} */ canvas) {
    if (this.#spare.length < 4) this.#spare.push(canvas);
  }
}
