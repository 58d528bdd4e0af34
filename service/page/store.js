/** What was chosen, kept in this browser. Where it keeps nothing (private windows, a full disk) the page works all the same. */

const PREFIX = "afterimage.";

/** @param {string} name @returns {string} "" for what was never kept */
export function recall(name) {
  try {
    return localStorage.getItem(PREFIX + name) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} name @param {string} value */
export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // It is asked again next time.
  }
}
