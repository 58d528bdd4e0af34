export declare const VERSION: 1;
export declare const HEADER_BYTES: 16;
export declare const TILES_HEADER_BYTES: 12;
export declare const MAX_SEQ: 4294967295;
export declare const SUBPROTOCOL: "afterimage.v1";
export declare const BEARER_PREFIX: "base64.websocket.bearer.";

/** What a binary message carries: a client's frame, the server's frame with its boxes drawn, or a client's changed tiles. */
export declare const Op: Readonly<{ IMAGE: 1; ANNOTATED: 2; TILES: 3 }>;
/** Flag bits of the header; RESET: forget what is cached, compute this frame in full. */
export declare const Flags: Readonly<{ NONE: 0; RESET: 1 }>;
export declare const CloseCode: Readonly<{
  NORMAL: 1000;
  GOING_AWAY: 1001;
  PROTOCOL_ERROR: 1002;
  UNAUTHORIZED: 1008;
  TOO_BIG: 1009;
  INTERNAL: 1011;
  DRAINING: 1012;
  OVERLOADED: 1013;
}>;

/** Width and height, px. */
export type Size = [number, number];
/** Left, top, right, bottom, px of the frame as sent. */
export type Box = [number, number, number, number];
export type ContentType = "image/jpeg" | "image/png" | "image/webp";
export type Policy = "latest" | "all" | "drop_newest";
export type Output = "detections" | "annotated" | "tracks" | "changes";

/** A message that breaks the protocol. */
export declare class WireError extends Error {
  constructor(code: string, detail: string, seq?: number | null);
  /** For programs. */
  code: string;
  /** What was expected and what came. */
  detail: string;
  /** Of the frame, where it could be read. */
  seq: number | null;
}

/** One binary message. */
export interface Frame {
  op: number;
  flags: number;
  /** 1 to 2^32-1, increasing within a connection. */
  seq: number;
  /** The sender's clock, microseconds; given back unchanged. */
  captureTsUs: bigint;
  /** The encoded image; of `Op.TILES`, see `TilesPayload`. */
  payload: Uint8Array;
}

/** The payload of `Op.TILES`: the tiles of a frame that are other than those of a reference. */
export interface TilesPayload {
  /** The reference that they lie on: `referenceOf` the payload of the last frame sent. */
  base: number;
  /** Of the frame, px. */
  width: number;
  height: number;
  /** Edge of a tile. */
  tilePx: number;
  /** Of the mosaic, in tiles; 0 where no tile has changed. */
  columns: number;
  /** One bit per tile of the frame, row by row, most significant first; 1: changed. */
  bitmap: Uint8Array;
  /** The mosaic: the changed tiles in that order, encoded; empty where none has changed. */
  image: Uint8Array;
}

/** Fields of the first message; those that are absent are the server's affair. */
export interface HelloFields {
  model?: string | null;
  content_type?: ContentType;
  policy?: Policy;
  max_fps?: number;
  /** While nothing changes, frames that come sooner are settled without a result. */
  idle_fps?: number;
  /** 0 to 1. */
  min_confidence?: number;
  outputs?: Output[];
  tiles?: boolean;
  resume?: string;
  /** How long to keep what is cached without a connection. */
  resume_s?: number;
}

export interface TileRules {
  /** Edge of a tile, pixels of the frame as sent. */
  tile_px: number;
  /** Mean absolute difference of a tile, 0 to 255, from which it is to be sent. */
  difference: number;
}

export interface Ready {
  type: "ready";
  stream_id: string;
  model: string;
  policy: Policy;
  /** Frames that may be unacknowledged. */
  window: number;
  limits: { max_message_bytes: number; max_pixels: number };
  resume: string;
  resumed: boolean;
  /** Of the model's input. */
  size: Size;
  resume_s?: number | null;
  resume_reason?: "expired" | "deleted" | "unknown" | "not_cached" | "other_model" | (string & {}) | null;
  max_fps?: number | null;
  /** Absent where changed tiles are not taken. */
  tiles?: TileRules | null;
}

export interface Detection {
  xyxy: Box;
  /** 0 to 1. */
  score: number;
  class_id: number;
  label: string;
  /** x, y, visibility. */
  keypoints?: [number, number, number][];
  /** The number of the object in this stream. */
  track_id?: number;
}

export interface Classification {
  class_id: number;
  label: string;
  score: number;
}

export interface Mask {
  class_id: number;
  label: string;
  /** Height and width of the model's own grid. */
  size: [number, number];
  /** Run lengths in row-major order, zeros first. */
  counts: number[];
  xyxy: Box;
}

export interface Tensor {
  name: string;
  dtype: string;
  shape: number[];
  /** Absent where it is large. */
  data?: unknown[];
}

export interface Changes {
  /** Rows and columns of a grid over the model's input. */
  size: [number, number];
  /** Run lengths in row-major order of tiles that were not recomputed and that were, in turn. */
  counts: number[];
  /** The part of the frame that the grid covers. */
  xyxy: Box;
  /** The share recomputed of each of 8 parts of the network of equal work. */
  stages: number[];
}

/** How far a result strayed from that of a full recompute, and might have; then of all audits of the stream. */
export interface Audit {
  error: number;
  allowed: number;
  violation: boolean;
  age: number;
  audits: number;
  violations: number;
  mean_error: number;
  mean_allowed: number;
  bound: number;
  confidence: number;
  factor: number;
}

export interface Timing {
  queue: number;
  decode: number;
  /** Comparing the frame and taking it in. */
  diff: number;
  infer: number;
  total: number;
}

export interface Result {
  type: "result";
  seq: number;
  /** Every frame up to it is settled. */
  ack: number;
  capture_ts_us: number;
  timing_ms: Timing;
  /** Frames of this stream without a result, so far. */
  dropped: number;
  /** 0 to 1. */
  compute_fraction: number;
  changed_tiles: number;
  decision: "keyframe" | "partial" | "reuse";
  /** Of the frame as sent, px. */
  width: number;
  height: number;
  detections?: Detection[] | null;
  classes?: Classification[] | null;
  masks?: Mask[] | null;
  tensors?: Tensor[] | null;
  audit?: Audit | null;
  received_ts_us?: number;
  age_ms?: number | null;
  evicted?: boolean;
  changes?: Changes | null;
}

export interface ErrorMessage {
  type: "error";
  code: string;
  detail: string;
  seq?: number | null;
  ack?: number | null;
  error_id?: string | null;
  retry_after_ms?: number | null;
}

export interface Ack {
  type: "ack";
  ack: number;
  dropped: number;
}

export interface Draining {
  type: "draining";
  retry_after_ms: number;
}

/** The stream belongs to another server; what is under way is answered still. */
export interface Moved {
  type: "moved";
  /** Where it is now. */
  ws_url: string;
  detail?: string | null;
}

export type ServerMessage = Ready | Result | ErrorMessage | Ack | Draining | Moved;

/**
 * Header and payload as one message.
 * @throws {WireError} for a field out of range
 */
export declare function encodeFrame(frame: {
  op?: number;
  flags?: number;
  seq: number;
  captureTsUs: bigint | number;
  payload: Uint8Array;
}): Uint8Array<ArrayBuffer>;
/**
 * Parse one binary message, whose image must be whole. Its payload is a view of `message`.
 * @throws {WireError}
 */
export declare function decodeFrame(message: ArrayBuffer | Uint8Array): Frame;
/**
 * A payload of `Op.TILES`.
 * @throws {WireError} for a field out of range
 */
export declare function encodeTiles(tiles: TilesPayload): Uint8Array<ArrayBuffer>;
/**
 * Parse a payload of `Op.TILES`; the parts are views of it.
 * @throws {WireError}
 */
export declare function parseTiles(payload: Uint8Array, seq?: number | null): TilesPayload;
/** What names a frame as a reference: CRC-32 (IEEE), as zlib's, of its whole payload. */
export declare function referenceOf(payload: Uint8Array): number;
/**
 * Content type of an encoded image that is whole, by the container's first and last bytes.
 * @throws {WireError}
 */
export declare function imageType(data: Uint8Array, seq?: number | null): ContentType;
/**
 * Parse a server's text message.
 * @throws {WireError} for what is no JSON, of no known type, or lacks a field that a client needs
 */
export declare function parseMessage(text: string): ServerMessage;
/**
 * Where a `moved` sends a client that is at `url`, if it may go there.
 * @throws {WireError}
 */
export declare function follow(wsUrl: string, url: string): string;
/** The first message of a connection. */
export declare function encodeHello(fields?: HelloFields): string;
/** No more frames: what is due comes, then close 1000. */
export declare function encodeBye(): string;
/** What to offer in the handshake. */
export declare function subprotocols(token?: string | null): string[];
/** Whether a client should come back after this close code; after a lost connection (1006), yes. */
export declare function isRetryable(closeCode: number): boolean;
