/** What the types promise, for the compiler to check: it is compiled and never run. Not part of the package. */

import { CloseCode, Op, StreamClient, TileEncoder, WireError, parseMessage, streamUrl } from "afterimage-client";
import type { Detection, Encoded, Ending, Result, ServerMessage, StreamOptions } from "afterimage-client";
import { encodeTiles } from "afterimage-client/wire.js";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Same<A, B>) => undefined;

const options: StreamOptions = { tiles: true, hello: { policy: "all", outputs: ["detections"] }, encoder: { quality: 0.7 } };
const client = new StreamClient(streamUrl("https://cam.example", "door"), options);

client.addEventListener("result", ({ detail }) => {
  same<typeof detail.result, Result>(true);
  for (const found of detail.result.detections ?? []) same<typeof found, Detection>(true);
  const [rows] = detail.result.changes?.size ?? [0];
  same<typeof rows, number>(true);
});
client.addEventListener("state", ({ detail }) => {
  if (detail.state === "waiting") same<typeof detail.waitMs, number>(true);
  if (detail.state !== "ended") return;
  const ending: Ending = detail;
  same<typeof detail.final, boolean>(true);
  if (ending.code === CloseCode.OVERLOADED) console.log(ending.said?.detail);
});
client.addEventListener("moved", ({ detail }) => same<typeof detail.url, string>(true));
client.addEventListener("lost", ({ detail }) => same<typeof detail.seqs, number[]>(true));
client.addEventListener("ready", ({ detail }) => console.log(detail.limits.max_pixels, detail.tiles?.tile_px));
client.addEventListener("refused", (event) => console.log(event.detail.seq ?? "no frame", event.detail.code));

const sent = client.sendFrame(document.createElement("canvas"), 1n, { size: [640, 480] });
same<typeof sent, Promise<number | null>>(true);

const message: ServerMessage = parseMessage("{}");
if (message.type === "ack") same<typeof message.dropped, number>(true);

const encoder = new TileEncoder();
const made = await encoder.encode(await createImageBitmap(new ImageData(1, 1)), {
  size: [1, 1],
  tiles: null,
  contentType: "image/webp",
});
same<typeof made, Encoded>(true);
if (made.op === Op.TILES) console.log(made.changedTiles);

// @ts-expect-error an event that there is not
client.addEventListener("results", ({ detail }: CustomEvent<Result>) => detail);
// @ts-expect-error a policy that there is not
new StreamClient("ws://cam.example", { hello: { policy: "newest" } });
// @ts-expect-error a field is missing
encodeTiles({ base: 1, width: 1, height: 1 });
// @ts-expect-error it cannot be set
client.credits = 3;
console.log(new WireError("bad_seq", "expected 1").seq?.toFixed());
