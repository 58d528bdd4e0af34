import type { ContentType, Size, TileRules } from "./wire.js";

/** Name of the error of a frame whose worker failed: the next one is encoded without. */
export const WORKER_LOST: string;

/** What a frame may be taken from. */
export type FrameSource = HTMLVideoElement | HTMLCanvasElement | HTMLImageElement | OffscreenCanvas | ImageBitmap | VideoFrame;

export interface EncoderOptions {
  /** Of JPEG or WebP, 0 to 1; default 0.8. */
  quality?: number;
  /** Within so many seconds every tile is sent again, unless it is identical; default 30. */
  refreshS?: number;
  /** false: encode on the calling thread; default true. */
  worker?: boolean;
}

export interface Wanted {
  /** That the frame is made to fit into, px; it is never enlarged. */
  size: Size;
  /** As in `ready`; null: a whole frame. */
  tiles: TileRules | null;
  contentType: ContentType;
  /** The receiver has lost the reference: send a whole frame. */
  whole?: boolean;
}

export interface Encoded {
  /** `Op.IMAGE` or `Op.TILES`. */
  op: 1 | 3;
  payload: Uint8Array<ArrayBuffer>;
  /** Of the frame, px. */
  width: number;
  height: number;
  /** That were packed; null for a whole frame. */
  changedTiles: number | null;
}

/** Frames as the wire wants them, encoded in a worker where there can be one. One frame at a time. */
export declare class TileEncoder {
  constructor(options?: EncoderOptions);
  /**
   * Encode a frame; then say by `confirm` or `rollback` whether it was sent, before the next. An ImageBitmap or VideoFrame
   * is taken over and closed, whatever comes of it.
   * @throws {TypeError} where the browser has no encoder for the content type
   * @throws {DOMException} InvalidStateError: it has been closed, or a frame is under way; AbortError: closed meanwhile
   */
  encode(source: FrameSource, wanted: Wanted): Promise<Encoded>;
  /** The frame encoded last has been sent: the next one is compared with it. */
  confirm(): void;
  /** The frame encoded last was not sent. */
  rollback(): void;
  /** Let the worker go. */
  close(): void;
}
