export { StreamClient, streamUrl } from "./stream.js";
export type {
  Ending,
  LostDetail,
  ResultDetail,
  StateDetail,
  StreamEventMap,
  StreamOptions,
  StreamState,
} from "./stream.js";
export { TileEncoder } from "./tiles.js";
export type { Encoded, EncoderOptions, FrameSource, Wanted } from "./tiles.js";
export * from "./wire.js";
