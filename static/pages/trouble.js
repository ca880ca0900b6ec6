// What is wrong just now, and when it is tried again: one notice for all who try.

import { Refused } from "./api.js";
import { spellNumber } from "./times.js";

const SLOWEST = 15000; // ms

const notice = document.querySelector("[data-trouble]");
const next = notice.querySelector("[data-trouble-next]");
const troubles = new Map(); // who tries: { what, at, timer, again }

/** Have `again` called after a while that grows with the failures, or after the one that the server asked for. */
export function tryAgain(who, error, failures, again, { quietly = false } = {}) {
  well(who);
  const asked = error instanceof Refused ? error.wait : 0;
  const wait = asked + Math.min(SLOWEST, 1000 * 2 ** Math.min(failures, 4)) * (0.5 + Math.random() / 2);
  const run = () => { well(who); again(); };
  const what = error instanceof Refused ? "busy" : "connection";
  troubles.set(who, { what, at: performance.now() + wait, timer: setTimeout(run, wait), run, quietly });
  showTrouble();
}

/** Nothing is wrong, or nothing any more, for one who tries. */
export function well(who) {
  clearTimeout(troubles.get(who)?.timer);
  if (troubles.delete(who)) showTrouble();
}

/** Keep the notice up to date: call it a few times a second. */
export function showTrouble() {
  const told = [...troubles.values()].filter((one) => !one.quietly);
  notice.hidden = told.length === 0 && navigator.onLine;
  if (notice.hidden) return;
  const soonest = told.length ? told.reduce((one, other) => (one.at < other.at ? one : other)) : null;
  const what = navigator.onLine ? soonest.what : "offline";
  for (const words of notice.querySelectorAll("[data-trouble-what]")) words.hidden = words.dataset.troubleWhat !== what;
  next.parentElement.hidden = soonest === null;
  if (soonest === null) return;
  const seconds = Math.max(0, Math.ceil((soonest.at - performance.now()) / 1000));
  const text = next.dataset.text.replace("{n}", spellNumber(seconds));
  if (next.textContent !== text) next.textContent = text;
}

function tryAllNow() {
  for (const one of [...troubles.values()]) one.run();
}

notice.querySelector("[data-now]").addEventListener("click", tryAllNow);
addEventListener("online", tryAllNow);
