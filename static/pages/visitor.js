// The visitor's own part of the page of a sale. The page is the same for everyone; who looks, what their form needs
// and what they have claimed is asked for here. Until it is known, and without scripts, the page shows what serves
// anyone.

import { learn } from "./clock.js";

const FIRST = 1000; // ms
const SLOWEST = 15000;

/** Ask who looks, show their part of the page, then call `known` with what was told. */
export async function meet(address, known, failures = 0) {
  try {
    const response = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(response.statusText);
    const me = await response.json();
    learn(me.server_time);
    show(me);
    known(me);
  } catch {
    const wait = Math.min(SLOWEST, FIRST * 2 ** Math.min(failures, 4)) * (1 + Math.random());
    setTimeout(() => meet(address, known, failures + 1), wait);
  }
}

function show(me) {
  const kinds = kindsOf(me);
  for (const part of document.querySelectorAll("[data-for]")) {
    part.hidden = !part.dataset.for.split(" ").some((kind) => kinds.has(kind));
  }
  if (me.name === null) return;
  document.querySelector("[data-name]").textContent = me.name;
  if (me.admin_url) document.querySelector("[data-admin]").href = me.admin_url;
  if (me.claim_url) document.querySelector("[data-mine]").href = me.claim_url;
  for (const field of document.querySelectorAll("[name=csrfmiddlewaretoken]")) field.value = me.csrf_token;
  document.querySelector("[name=key]").value = me.key;
}

function kindsOf(me) {
  if (me.name === null) return new Set(["guest"]);
  const kinds = new Set(["member"]);
  if (me.admin_url) kinds.add("staff");
  kinds.add(me.claim_url ? "holder" : "claimless");
  if (me.may_claim) kinds.add("claimer");
  return kinds;
}
