// Lists that stay true: asked for again while somebody looks.

import { sleep } from "./stream.js";
import { showTrouble } from "./problem.js";

const LONGEST_PAUSE_SECONDS = 30;

/**
 * Call `refresh` now and then every `seconds`, until `signal` is aborted or it returns false. Not
 * while the tab is hidden, and at once when it is shown again. Failures are told at the top of the
 * page, and tried again after longer and longer pauses.
 */
export async function keepFresh(seconds, signal, refresh) {
  let failures = 0;
  while (!signal.aborted) {
    try {
      if ((await refresh()) === false) return;
      if (failures > 0) showTrouble("");
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      failures += 1;
      if (error.passes !== true) throw error;
      showTrouble(`Not up to date: ${error.message}`);
    }
    const pause = Math.min(seconds * 2 ** failures, LONGEST_PAUSE_SECONDS);
    await sleep(pause, signal).catch(() => {});
    await shown(signal);
  }
}

function shown(signal) {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look, { once: true });
    look();
  });
}
