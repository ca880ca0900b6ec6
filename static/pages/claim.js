// The page of a claim: looks again until it is decided.

import { offerCopy } from "./copy.js";

const FIRST = 500; // ms
const SLOWEST = 5000;

async function look(wait) {
  try {
    const response = await fetch(location.href, { signal: AbortSignal.timeout(5000) });
    if (response.ok && !response.redirected) {
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      const claim = fresh.getElementById("claim");
      if (claim && claim.dataset.status !== "pending") {
        document.title = fresh.title;
        document.getElementById("claim").replaceChildren(...claim.childNodes);
        offerCopy();
        return;
      }
    } else if (response.redirected) {
      location.reload(); // signed out meanwhile
      return;
    }
  } catch {
    // The server is away: the claim is safe, the next look comes later.
  }
  again(Math.min(SLOWEST, wait * 1.5));
}

function again(wait) {
  setTimeout(() => look(wait), wait * (0.75 + Math.random() / 2));
}

if (document.getElementById("claim").dataset.status === "pending") again(FIRST);
