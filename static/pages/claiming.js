// To claim, and to hear what becomes of it. A claim is asked for under one key until it is answered, over lost replies
// and reloads of the page: however often it is sent, it is one claim.

import { call, Refused } from "./api.js";
import { tryAgain, well } from "./trouble.js";

const WHO = "claim";
const FIRST = 400; // ms until the first look at a claim
const SLOWEST = 5000;

/** Claim so many units; the claim, as the API gives it, new or held already. Throws `Refused` where waiting would not
 * help. */
export async function claim(address, key, quantity) {
  const kept = `claim:${address}`;
  const asked = JSON.parse(sessionStorage.getItem(kept)) ?? { key, body: quantity > 1 ? { quantity } : undefined };
  sessionStorage.setItem(kept, JSON.stringify(asked));
  for (let failures = 0; ; failures += 1) {
    try {
      const made = await call("POST", address, asked);
      sessionStorage.removeItem(kept);
      return made;
    } catch (error) {
      if (error instanceof Refused && !error.passes) {
        sessionStorage.removeItem(kept);
        if (error.code === "already_claimed") return error.body.claim;
        throw error;
      }
      await new Promise((resolve) => { tryAgain(WHO, error, failures, resolve); });
    }
  }
}

/** Look at a claim until it is over, and call `decided` with what it became. The function returned looks at once. */
export function follow(address, decided) {
  let timer;
  let wait = FIRST;
  let over = false;
  async function look(failures = 0) {
    clearTimeout(timer);
    if (over) return;
    try {
      const found = await call("GET", address);
      well(WHO);
      if (over) return;
      over = found.status !== "pending" && found.status !== "held";
      if (found.status !== "pending") decided(found); // what is held is decided once more
      if (!over) timer = setTimeout(look, wait * (0.75 + Math.random() / 2));
      wait = Math.min(SLOWEST, wait * 1.5);
    } catch (error) {
      if (error instanceof Refused && !error.passes) return; // signed out meanwhile: the page says how to go on
      tryAgain(WHO, error, failures, () => look(failures + 1));
    }
  }
  timer = setTimeout(look, wait);
  return () => look();
}
