// The visitor's own part of the page of a sale. The page is the same for everyone; who looks, what their form needs
// and what they have claimed is asked for here. Until it is known, and without scripts, the page shows what serves
// anyone.

import { learn } from "./clock.js";

const FIRST = 1000; // ms
const SLOWEST = 15000;
const EARLY = 30000; // ms that a token is renewed before its end

let address;
let token = null;
let goodUntil = 0; // by performance.now()
let renewal = null;

/** Ask who looks, show their part of the page, then call `known` with what was told. Again and again until it is told. */
export async function meet(from, known, failures = 0) {
  address = from;
  try {
    known(await look());
  } catch {
    const wait = Math.min(SLOWEST, FIRST * 2 ** Math.min(failures, 4)) * (1 + Math.random());
    setTimeout(() => meet(from, known, failures + 1), wait);
  }
}

/** A token to ask the API with, a new one where it is due or `anew`; null for who is not signed in. */
export async function bearer(anew = false) {
  if (token !== null && (anew || performance.now() > goodUntil - EARLY)) {
    renewal ??= look().finally(() => { renewal = null; });
    await renewal;
  }
  return token;
}

async function look() {
  const response = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(response.statusText);
  const me = await response.json();
  learn(me.server_time);
  token = me.token ?? null;
  goodUntil = performance.now() + (me.token_ms ?? 0);
  show(me);
  return me;
}

function show(me) {
  const kinds = kindsOf(me);
  for (const part of document.querySelectorAll("[data-for]")) {
    part.hidden = !part.dataset.for.split(" ").some((kind) => kinds.has(kind));
  }
  if (me.name === null) return;
  document.querySelector("[data-name]").textContent = me.name;
  showUnread(me.unread);
  if (me.admin_url) document.querySelector("[data-admin]").href = me.admin_url;
  if (me.claim_url) document.querySelector("[data-mine]").href = me.claim_url;
  for (const field of document.querySelectorAll("[name=csrfmiddlewaretoken]")) field.value = me.csrf_token;
  for (const field of document.querySelectorAll("[name=key]")) field.value = me.key;
  for (const field of document.querySelectorAll("[name=quantity]")) {
    field.max = me.may_claim;
    if (field.value > me.may_claim) field.value = 1; // a form is not sent while a field is wrong, hidden or not
  }
}

/** The number of notifications that are not read. */
export function showUnread(number) {
  const badge = document.querySelector("[data-unread]");
  badge.textContent = number;
  badge.hidden = number === 0;
}

function kindsOf(me) {
  if (me.name === null) return new Set(["guest"]);
  const kinds = new Set(["member"]);
  if (me.admin_url) kinds.add("staff");
  if (me.claim_url && !me.token) kinds.add("linked"); // the page of the claim shows what this one cannot ask for
  if (me.may_claim) kinds.add("claimer");
  if (me.may_claim > 1) kinds.add("several");
  return kinds;
}
