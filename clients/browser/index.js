/** All of the browser client. */

export { StreamClient, streamUrl } from "./stream.js";
export { TileEncoder } from "./tiles.js";
export * from "./wire.js";
