// The attempts of a job, read from its history. Pure.

import { millis } from "./format.js";
import { arrowText } from "./words.js";

// From the history: an attempt lasts from `start` to the first entry that leaves `running`.
export function attemptsOf(items) {
  const attempts = [];
  for (const item of items) {
    if (item.type !== "event" || !(item.attempt > 0)) continue;
    const last = attempts[attempts.length - 1];
    if (!last || last.number !== item.attempt) {
      const ended = item.state !== "running" && item.state !== "assigned";
      attempts.push({
        number: item.attempt,
        began: millis(item.at),
        session: item.session,
        ended: ended ? millis(item.at) : null,
        end: item.state,
        how: ended ? happened(item.arrows) : null,
      });
    } else if (last.ended === null && item.state !== "running") {
      Object.assign(last, { ended: millis(item.at), end: item.state, how: happened(item.arrows) });
    }
  }
  return attempts;
}

// What happened in one entry of the history.
export function happened(arrows) {
  return Array.isArray(arrows) ? arrows.map(arrowText).join(", ") : "";
}
