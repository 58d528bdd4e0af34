/**
 * The wire protocol `afterimage.v1` without I/O: bytes and texts in, plain objects out, and back.
 *
 * `clients/wire/PROTOCOL.md` says what each field means; the vectors in `clients/wire/golden` are the last word on bytes.
 * Knows nothing of sockets, pages or clocks. Structured messages are JSON here; the msgpack subprotocol is not spoken.
 */

export const VERSION = 1;
export const HEADER_BYTES = 16;
export const MAX_SEQ = 0xffffffff;
export const SUBPROTOCOL = "afterimage.v1";
export const BEARER_PREFIX = "base64.websocket.bearer.";

export const TILES_HEADER_BYTES = 12;

/** What a binary message carries: a client's frame, the server's frame with its boxes drawn, or a client's changed tiles. */
export const Op = Object.freeze({ IMAGE: 1, ANNOTATED: 2, TILES: 3 });

/** Flag bits of the header; RESET: forget what is cached, compute this frame in full. */
export const Flags = Object.freeze({ NONE: 0, RESET: 1 });

export const CloseCode = Object.freeze({
  NORMAL: 1000,
  GOING_AWAY: 1001,
  PROTOCOL_ERROR: 1002,
  UNAUTHORIZED: 1008,
  TOO_BIG: 1009,
  INTERNAL: 1011,
  DRAINING: 1012,
  OVERLOADED: 1013,
});

const FINAL = new Set([CloseCode.NORMAL, CloseCode.PROTOCOL_ERROR, CloseCode.UNAUTHORIZED, CloseCode.TOO_BIG]);
const MAX_SIDE_PX = 0xffff;
const MAX_CAPTURE_TS_US = 0xffffffffffffffffn;
const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const PNG_END = [0, 0, 0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82];
const RIFF = [0x52, 0x49, 0x46, 0x46];
const WEBP = [0x57, 0x45, 0x42, 0x50];

/** A message that breaks the protocol. `code` is for programs; `seq` is the frame's number, where it could be read. */
export class WireError extends Error {
  /**
   * @param {string} code
   * @param {string} detail what was expected and what came
   * @param {number | null} [seq]
   */
  constructor(code, detail, seq = null) {
    super(`${code}: ${detail}`);
    this.name = "WireError";
    this.code = code;
    this.detail = detail;
    this.seq = seq;
  }
}

/**
 * One binary message.
 * @typedef {object} Frame
 * @property {number} op
 * @property {number} flags
 * @property {number} seq 1 to 2^32-1, increasing within a connection
 * @property {bigint} captureTsUs the sender's clock, microseconds; given back unchanged
 * @property {Uint8Array} payload the encoded image; of `Op.TILES`, see `TilesPayload`
 */

/**
 * Header and payload as one message.
 * @param {{op?: number, flags?: number, seq: number, captureTsUs: bigint | number, payload: Uint8Array}} frame
 * @returns {Uint8Array<ArrayBuffer>}
 * @throws {WireError} for a field out of range
 */
export function encodeFrame({ op = Op.IMAGE, flags = Flags.NONE, seq, captureTsUs, payload }) {
  if (!Number.isInteger(seq) || seq < 1 || seq > MAX_SEQ) {
    throw new WireError("bad_seq", `expected seq in 1..${MAX_SEQ}, got ${seq}`);
  }
  const captured = typeof captureTsUs === "bigint" ? captureTsUs : BigInt(Math.round(captureTsUs));
  if (captured < 0n || captured > MAX_CAPTURE_TS_US) {
    throw new WireError("bad_message", `expected a 64-bit captureTsUs, got ${captured}`);
  }
  if (payload.length === 0) {
    throw new WireError("empty_payload", "expected an image after the header, got nothing", seq);
  }
  const data = new Uint8Array(HEADER_BYTES + payload.length);
  const header = new DataView(data.buffer);
  header.setUint8(0, VERSION);
  header.setUint8(1, op);
  header.setUint16(2, flags, true);
  header.setUint32(4, seq, true);
  header.setBigUint64(8, captured, true);
  data.set(payload, HEADER_BYTES);
  return data;
}

/**
 * Parse one binary message, whose image must be whole (see `imageType`).
 * @param {ArrayBuffer | Uint8Array} message
 * @returns {Frame} its payload is a view of `message`
 * @throws {WireError}
 */
export function decodeFrame(message) {
  const data = message instanceof Uint8Array ? message : new Uint8Array(message);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (data.length === 0) throw new WireError("empty_message", "expected a binary message, got 0 bytes");
  if (data.length < HEADER_BYTES) {
    const cut = data.length >= 8 && data[0] === VERSION ? view.getUint32(4, true) || null : null;
    throw new WireError("truncated", `expected a header of ${HEADER_BYTES} bytes, got ${data.length}`, cut);
  }
  const [version, op] = data;
  const flags = view.getUint16(2, true);
  const seq = view.getUint32(4, true);
  if (version !== VERSION) throw new WireError("bad_version", `expected version ${VERSION}, got ${version}`);
  if (seq === 0) throw new WireError("bad_seq", "expected seq of 1 or more, got 0");
  if (op !== Op.IMAGE && op !== Op.ANNOTATED && op !== Op.TILES) {
    throw new WireError("unknown_op", `expected op 1 (image), 2 (annotated) or 3 (tiles), got ${op}`, seq);
  }
  if (flags & ~Flags.RESET) throw new WireError("bad_flags", `expected only flag bit 0, got ${flags}`, seq);
  const payload = data.subarray(HEADER_BYTES);
  if (payload.length === 0) {
    throw new WireError("empty_payload", "expected an image after the header, got nothing", seq);
  }
  if (op === Op.TILES) parseTiles(payload, seq);
  else imageType(payload, seq);
  return { op, flags, seq, captureTsUs: view.getBigUint64(8, true), payload };
}

/**
 * The payload of `Op.TILES`: the tiles of a frame that are other than those of a reference.
 * @typedef {object} TilesPayload
 * @property {number} base the reference that they lie on: `referenceOf` the payload of the last frame sent
 * @property {number} width of the frame, px
 * @property {number} height
 * @property {number} tilePx edge of a tile
 * @property {number} columns of the mosaic, in tiles; 0 where no tile has changed
 * @property {Uint8Array} bitmap one bit per tile of the frame, row by row, most significant first; 1: changed
 * @property {Uint8Array} image the mosaic: the changed tiles in that order, encoded; empty where none has changed
 */

/**
 * @param {TilesPayload} tiles
 * @returns {Uint8Array<ArrayBuffer>} a payload
 * @throws {WireError} for a field out of range
 */
export function encodeTiles({ base, width, height, tilePx, columns, bitmap, image }) {
  const payload = new Uint8Array(TILES_HEADER_BYTES + bitmap.length + image.length);
  const header = new DataView(payload.buffer);
  for (const [most, ...values] of [[0xffffffff, base], [MAX_SIDE_PX, width, height, columns], [0xff, tilePx]]) {
    for (const value of values) {
      if (!Number.isInteger(value) || value < 0 || value > most) {
        throw new WireError("bad_tiles", `expected whole numbers of at most ${most}, got ${value}`);
      }
    }
  }
  header.setUint32(0, base, true);
  header.setUint16(4, width, true);
  header.setUint16(6, height, true);
  header.setUint8(8, tilePx);
  header.setUint16(10, columns, true);
  payload.set(bitmap, TILES_HEADER_BYTES);
  payload.set(image, TILES_HEADER_BYTES + bitmap.length);
  const parsed = parseTiles(payload).bitmap.length;
  if (parsed !== bitmap.length) throw new WireError("bad_tiles", `expected a bitmap of ${parsed} bytes, got ${bitmap.length}`);
  return payload;
}

/**
 * Parse the payload of `Op.TILES`. What the mosaic shows, and how large it is, only a decoder of images can tell.
 * @param {Uint8Array} payload
 * @param {number | null} [seq] of its frame, for the error
 * @returns {TilesPayload} its parts are views of `payload`
 * @throws {WireError}
 */
export function parseTiles(payload, seq = null) {
  const bad = (/** @type {string} */ detail) => new WireError("bad_tiles", detail, seq);
  if (payload.length < TILES_HEADER_BYTES) {
    throw bad(`expected a header of ${TILES_HEADER_BYTES} bytes, got ${payload.length}`);
  }
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const [base, width, height] = [view.getUint32(0, true), view.getUint16(4, true), view.getUint16(6, true)];
  const [tilePx, reserved, columns] = [view.getUint8(8), view.getUint8(9), view.getUint16(10, true)];
  if (!width || !height || !tilePx) throw bad(`expected a size above 0, got ${width}x${height} in tiles of ${tilePx}`);
  if (reserved) throw bad(`expected 0 in the reserved byte, got ${reserved}`);
  const tiles = Math.ceil(width / tilePx) * Math.ceil(height / tilePx);
  const end = TILES_HEADER_BYTES + Math.ceil(tiles / 8);
  if (payload.length < end) throw bad(`expected ${end - TILES_HEADER_BYTES} bytes of bitmap, got fewer`);
  const bitmap = payload.subarray(TILES_HEADER_BYTES, end);
  if (bitmap[bitmap.length - 1] & (0xff >> (tiles % 8 || 8))) throw bad("expected 0 in the bits left over");
  const image = payload.subarray(end);
  const changed = countBits(bitmap);
  if ((columns > 0) !== (changed > 0) || (image.length > 0) !== (changed > 0)) {
    const got = `${changed} tiles, ${columns} columns and ${image.length} bytes`;
    throw bad(`expected a mosaic where tiles changed and none where none did, got ${got}`);
  }
  if (Math.max(columns, Math.ceil(changed / columns) || 0) * tilePx > MAX_SIDE_PX) {
    throw bad(`expected a mosaic of at most ${MAX_SIDE_PX} px either way, got ${columns} columns of ${tilePx} px`);
  }
  if (changed) imageType(image, seq);
  return { base, width, height, tilePx, columns, bitmap, image };
}

/** @param {Uint8Array} bytes */
function countBits(bytes) {
  let count = 0;
  for (let byte of bytes) for (; byte; byte &= byte - 1) count += 1;
  return count;
}

/** For each byte, what it does to the remainder. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit += 1) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/**
 * What names a frame as a reference: CRC-32 (IEEE), as zlib's, of its whole payload.
 * @param {Uint8Array} payload of `Op.IMAGE` or `Op.TILES`
 * @returns {number} 0 to 2^32-1
 */
export function referenceOf(payload) {
  let remainder = 0xffffffff;
  for (let at = 0; at < payload.length; at += 1) {
    remainder = CRC_TABLE[(remainder ^ payload[at]) & 0xff] ^ (remainder >>> 8);
  }
  return (remainder ^ 0xffffffff) >>> 0;
}

/**
 * Content type of an encoded image that is whole, by the container's first and last bytes.
 * @param {Uint8Array} data
 * @param {number | null} [seq] of its frame, for the error
 * @returns {"image/jpeg" | "image/png" | "image/webp"}
 * @throws {WireError}
 */
export function imageType(data, seq = null) {
  if (data[0] === 0xff && data[1] === 0xd8) {
    let end = data.length;
    while (end > 0 && data[end - 1] === 0) end -= 1; // cameras pad with zero bytes
    if (data[end - 2] === 0xff && data[end - 1] === 0xd9) return "image/jpeg";
    throw new WireError("incomplete_image", `JPEG of ${data.length} bytes has no end marker: cut short`, seq);
  }
  if (hasAt(data, 0, PNG_SIGNATURE)) {
    if (hasAt(data, data.length - PNG_END.length, PNG_END)) return "image/png";
    throw new WireError("incomplete_image", `PNG of ${data.length} bytes has no IEND chunk: cut short`, seq);
  }
  if (hasAt(data, 0, RIFF) && hasAt(data, 8, WEBP)) {
    const expected = new DataView(data.buffer, data.byteOffset).getUint32(4, true) + 8;
    if (data.length === expected || data.length === expected + 1) return "image/webp";
    throw new WireError("incomplete_image", `WebP says ${expected} bytes, got ${data.length}`, seq);
  }
  throw new WireError("bad_image", `expected a JPEG, PNG or WebP image, got ${data.length} bytes of something else`, seq);
}

/** @param {Uint8Array} data @param {number} offset @param {number[]} bytes */
function hasAt(data, offset, bytes) {
  return offset >= 0 && bytes.every((byte, index) => data[offset + index] === byte);
}

/** What a `result`, `ready` and so on must have for a client to go on; fields that are not known are kept. */
const REQUIRED = {
  ready: { stream_id: "string", window: "number", resume: "string", limits: "object", size: "object" },
  result: { seq: "number", ack: "number", capture_ts_us: "number", compute_fraction: "number" },
  error: { code: "string", detail: "string" },
  ack: { ack: "number", dropped: "number" },
  draining: { retry_after_ms: "number" },
  moved: { ws_url: "string" },
};

/** Least and most of whole numbers, in whichever message they are. */
const BOUNDS = {
  seq: [0, MAX_SEQ],
  ack: [0, MAX_SEQ],
  window: [1, 1024],
  dropped: [0, Number.MAX_SAFE_INTEGER],
  retry_after_ms: [0, Number.MAX_SAFE_INTEGER],
};
const LONGEST_TOKEN = 256;

/**
 * A structured message of the server; fields as in PROTOCOL.md, `type` among them.
 * @typedef {{type: "ready" | "result" | "error" | "ack" | "draining" | "moved"} & Record<string, any>} ServerMessage
 */

/**
 * Parse a server's text message.
 * @param {string} text
 * @returns {ServerMessage}
 * @throws {WireError} for what is no JSON, of no known type, or lacks a field that a client needs
 */
export function parseMessage(text) {
  if (!text) throw new WireError("empty_message", "expected a message, got 0 characters");
  let message;
  try {
    message = JSON.parse(text);
  } catch (error) {
    throw new WireError("bad_message", String(error));
  }
  if (message === null || typeof message !== "object" || !Object.hasOwn(REQUIRED, message.type)) {
    throw new WireError("bad_message", `expected a message of type ${Object.keys(REQUIRED).join(", ")}`);
  }
  for (const [field, kind] of Object.entries(REQUIRED[message.type])) {
    if (typeof message[field] !== kind || message[field] === null) {
      throw new WireError("bad_message", `expected ${message.type}.${field}: a ${kind}`);
    }
  }
  for (const [field, [least, most]] of Object.entries(BOUNDS)) {
    const value = message[field];
    if (value != null && !(Number.isInteger(value) && value >= least && value <= most)) {
      throw new WireError("bad_message", `expected ${message.type}.${field}: a whole number of ${least} to ${most}`);
    }
  }
  if (message.type === "ready") checkReady(message);
  return message;
}

/** @param {Record<string, any>} ready with its required fields */
function checkReady({ resume, size, limits, tiles }) {
  if (!resume || resume.length > LONGEST_TOKEN) {
    throw new WireError("bad_message", `expected ready.resume: 1 to ${LONGEST_TOKEN} characters, got ${resume.length}`);
  }
  if (!(size[0] > 0 && size[1] > 0 && limits.max_message_bytes > 0)) {
    throw new WireError("bad_message", "expected ready.size and ready.limits.max_message_bytes above 0");
  }
  if (tiles == null) return;
  const { tile_px: tilePx, difference } = tiles;
  if (!(Number.isInteger(tilePx) && tilePx > 0 && tilePx <= 255 && difference >= 0 && difference <= 255)) {
    throw new WireError("bad_message", "expected ready.tiles: {tile_px: 1 to 255, difference: 0 to 255}");
  }
}

/**
 * The first message of a connection. Fields as in PROTOCOL.md; those that are absent are the server's affair.
 * @param {Record<string, unknown>} [fields]
 */
export function encodeHello(fields = {}) {
  return JSON.stringify({ type: "hello", ...fields });
}

/** No more frames: what is due comes, then close 1000. */
export function encodeBye() {
  return JSON.stringify({ type: "bye" });
}

const WS_URL = new RegExp(
  "^(wss?)://" +
    "(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\\[[0-9A-Fa-f:.]{2,45}\\])" +
    "(?::([0-9]{1,5}))?" +
    "((?:/[A-Za-z0-9._~-]+)*/ws)$",
);
const LONGEST_URL = 2048;

/**
 * Where a `moved` sends a client, if it may go there: PROTOCOL.md says what such an address is.
 * @param {string} wsUrl of the message
 * @param {string} url where it came from
 * @returns {string}
 * @throws {WireError}
 */
export function follow(wsUrl, url) {
  const [, scheme, port = "1", path] = (wsUrl.length <= LONGEST_URL && WS_URL.exec(wsUrl)) || [];
  if (!scheme || +port < 1 || +port > 65535) {
    const got = `got ${wsUrl.length} other characters`;
    throw new WireError("bad_message", `expected moved.ws_url such as ws://10.0.0.7:8000/v1/streams/ID/ws, ${got}`);
  }
  if (url.startsWith("wss:") && scheme !== "wss") {
    throw new WireError("bad_message", "expected a move from wss to wss, got one to ws: the token would be sent in the clear");
  }
  const last = (/** @type {string} */ text) => text.split("/").slice(-2).join("/");
  if (last(path) !== last(url.split("?")[0])) {
    throw new WireError("bad_message", "expected a move of this stream, got one of another");
  }
  return wsUrl;
}

/**
 * What to offer in the handshake.
 * @param {string | null} [token] of `POST /v1/streams`, or an API key; browsers cannot set headers on a WebSocket
 * @returns {string[]}
 */
export function subprotocols(token = null) {
  if (!token) return [SUBPROTOCOL];
  const bytes = new TextEncoder().encode(token);
  const text = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return [SUBPROTOCOL, BEARER_PREFIX + text];
}

/** Whether a client should come back after this close code; after a lost connection (1006), yes. */
export function isRetryable(/** @type {number} */ closeCode) {
  return !FINAL.has(closeCode);
}
