/** The worker of `TileEncoder`: a TileCoder behind messages, which are taken in order. */

import { TileCoder } from "./tile-coder.js";

const coder = new TileCoder();

addEventListener("message", async ({ data }) => {
  if (data.settle === "confirm") return coder.confirm();
  if (data.settle === "rollback") return coder.rollback();
  const { id, source, wanted } = data;
  try {
    const encoded = await coder.encode(source, wanted);
    postMessage({ id, encoded }, [encoded.payload.buffer]);
  } catch (error) {
    postMessage({ id, error: { name: error.name, message: error.message } });
  } finally {
    source.close();
  }
});

postMessage({ loaded: true });
