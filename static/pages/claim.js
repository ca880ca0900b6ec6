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
      const shown = document.getElementById("claim");
      if (claim && claim.dataset.status !== shown.dataset.status) {
        document.title = fresh.title;
        shown.dataset.status = claim.dataset.status;
        shown.replaceChildren(...claim.childNodes);
        offerCopy();
        if (!isOpen(shown)) return;
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

/** Whether something is to become of the claim still. */
function isOpen(shown) {
  return ["pending", "held"].includes(shown.dataset.status);
}

if (isOpen(document.getElementById("claim"))) again(FIRST);
