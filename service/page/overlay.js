/** Draws a frame with what was found in it: the frame itself, so that boxes are never ahead or behind. */

const LINE_PX = 2.5;
const FONT_PX = 14;
const LARGEST_SCALE = 3;

/** A colour per class, light enough for black text on it. */
export function colourOf(/** @type {number} */ classId) {
  return `hsl(${Math.round(classId * 137.508) % 360} 90% 70%)`;
}

/**
 * @param {HTMLCanvasElement} canvas what is seen
 * @param {HTMLCanvasElement} frame as it was sent: boxes are in its pixels
 * @param {any} result of that frame
 * @param {number} threshold boxes and classes of a lower score are left out
 * @param {import("./heat.js").Heat | null} heat drawn below the boxes; null: not asked for
 * @returns {any[]} the detections, or else classes, that are shown
 */
export function draw(canvas, frame, result, threshold, heat) {
  const perPx = window.devicePixelRatio || 1;
  const shownPx = Math.min(canvas.clientWidth, (canvas.clientHeight * frame.width) / frame.height) || frame.width;
  const scale = Math.min(LARGEST_SCALE, Math.max(1, (shownPx * perPx) / frame.width));
  resize(canvas, Math.round(frame.width * scale), Math.round(frame.height * scale));
  const pen = canvas.getContext("2d");
  pen.drawImage(frame, 0, 0, canvas.width, canvas.height);
  const px = canvas.width / shownPx; // one pixel of the page
  heat?.draw(pen, canvas.width / result.width, px);
  pen.font = `600 ${FONT_PX * px}px system-ui, sans-serif`;
  pen.textBaseline = "top";
  pen.lineJoin = "round";
  const sure = (found) => found.score >= threshold;
  const boxes = (result.detections ?? []).filter(sure);
  const classes = result.detections ? [] : (result.classes ?? []).filter(sure).slice(0, 3);
  for (const box of boxes) drawBox(pen, box, canvas.width / result.width, px);
  classes.forEach((one, index) => drawLabel(pen, one, 0, index * (FONT_PX + 8) * px, px));
  return boxes.length ? boxes : classes;
}

function resize(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
}

function drawBox(pen, box, scale, px) {
  const inset = (LINE_PX / 2 + 1) * px; // lines along the picture's own edge stay inside
  const within = (side, most) => Math.max(inset, Math.min(side * scale, most - inset));
  const [left, right] = [box.xyxy[0], box.xyxy[2]].map((side) => within(side, pen.canvas.width));
  const [top, bottom] = [box.xyxy[1], box.xyxy[3]].map((side) => within(side, pen.canvas.height));
  pen.strokeStyle = "#000";
  pen.lineWidth = (LINE_PX + 2) * px;
  pen.strokeRect(left, top, right - left, bottom - top);
  pen.strokeStyle = colourOf(box.class_id);
  pen.lineWidth = LINE_PX * px;
  pen.strokeRect(left, top, right - left, bottom - top);
  for (const [x, y, seen] of box.keypoints ?? []) {
    if (seen < 0.3) continue;
    pen.fillStyle = colourOf(box.class_id);
    pen.beginPath();
    pen.arc(x * scale, y * scale, 2 * LINE_PX * px, 0, 2 * Math.PI);
    pen.fill();
  }
  const height = (FONT_PX + 6) * px;
  drawLabel(pen, box, left - inset, top >= height ? top - height : top - inset, px);
}

/** Name and score on a ground of the class's colour, inside the canvas. */
function drawLabel(pen, { class_id: classId, label, score }, left, top, px) {
  const text = `${label} ${Math.round(score * 100)}%`;
  const width = pen.measureText(text).width + 8 * px;
  const x = Math.max(0, Math.min(left, pen.canvas.width - width));
  const y = Math.max(0, top);
  pen.fillStyle = colourOf(classId);
  pen.fillRect(x, y, width, (FONT_PX + 6) * px);
  pen.fillStyle = "#000";
  pen.fillText(text, x + 4 * px, y + 3 * px);
}
