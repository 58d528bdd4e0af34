/** How a phone that scanned the code of `afterimage serve --lan` gets a key, and keeps it while its tab lives. */

import { ApiError, ask } from "./api.js";

const KEPT = "afterimage-key";
const PART = "join";

/**
 * The key of this tab. A code in the address is traded for one, and taken out of the address first, so that it stands in no
 * history and in no picture of the screen.
 * @returns {Promise<{key: string, trouble: string}>} key: "" where there is none; trouble: why a code gave none, in words
 */
export async function joined() {
  const code = new URLSearchParams(location.hash.slice(1)).get(PART);
  if (code === null) return { key: sessionStorage.getItem(KEPT) ?? "", trouble: "" };
  history.replaceState(null, "", location.pathname + location.search);
  try {
    const { key } = await ask("POST", "v1/join", "", { code });
    sessionStorage.setItem(KEPT, key);
    return { key, trouble: "" };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { key: sessionStorage.getItem(KEPT) ?? "", trouble: troubleWords(error) };
  }
}

/** Call when another code comes into the address: whoever scans again stays on the page. */
export function onCode(/** @type {() => void} */ call) {
  addEventListener("hashchange", () => location.hash.startsWith(`#${PART}=`) && call());
}

function troubleWords(/** @type {ApiError} */ { status, detail }) {
  if (status === 0) return "The server does not answer. Check that this device is in the same network, then scan a new code.";
  if (status === 401) return "This code was used before, or its time is over. Scan the one that the terminal shows now.";
  if (status === 404) return "This server lets nobody in by code: it was started without --lan.";
  return `The server did not take this code: ${detail || `HTTP ${status}`}. Scan a new one.`;
}
