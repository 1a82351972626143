// What every page has: errors in words, and itself kept for when there is no network.

const problem = document.getElementById("problem");

// Say on the page, and to screen readers, what is wrong; nothing, once it is right again.
export function tell(what) {
  problem.textContent = what === undefined ? "" : sentence(what.message ?? String(what));
}

// A sentence: with a capital and a full stop.
export function sentence(words) {
  return words.replace(/^./, (first) => first.toUpperCase()).replace(/[^.!?…]$/, "$&.");
}

// Do something that may fail, or be stopped, and tell of it where it fails.
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") tell(error);
  }
}

// Whether someone wants less motion.
export const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// A time in the words of a status line.
export function milliseconds(time) {
  return time < 10
    ? `${time.toFixed(1)} ms`
    : time < 10000
      ? `${Math.round(time)} ms`
      : `${(time / 1000).toFixed(1)} s`;
}

addEventListener("error", ({ message }) => tell(message));
addEventListener(
  "unhandledrejection",
  ({ reason }) => reason?.name === "AbortError" || tell(reason ?? "unknown error"),
);

// Served from this computer or over https, the site is kept (offline.js); elsewhere browsers do not.
if (globalThis.isSecureContext && navigator.serviceWorker)
  navigator.serviceWorker.register("offline.js").catch(() => {});
