// The stage of the sale that is shown: which parts of the page are there, and the numbers in them.

import { serverNow, spell } from "./clock.js";
import { spellNumber } from "./times.js";

const HOUR = 3600;

const sale = document.getElementById("sale");
const said = document.getElementById("said");
const title = document.title;
let heardPlace = Infinity; // the place in line that was last read out

/** Show the parts of a stage. Its title is read out; the focus goes to it where what had it is gone. */
export function showStage(stage) {
  if (sale.dataset.stage === stage) return;
  sale.dataset.stage = stage;
  const focused = sale.contains(document.activeElement);
  for (const part of sale.querySelectorAll("[data-when]")) part.hidden = !part.dataset.when.split(" ").includes(stage);
  const heading = [...sale.querySelectorAll("section[data-when] > .stage-title")].find((one) => !one.parentElement.hidden);
  if (!heading) return;
  say(heading.textContent);
  document.title = heading.dataset.title ? `★ ${heading.dataset.title} ${title}` : title;
  if (focused && document.activeElement.closest("[hidden]")) heading.focus();
}

/** Have it read out by who listens to the page instead of looking at it. */
export function say(text) {
  if (said.textContent !== text) said.textContent = text;
}

/** Put a text into all places of a name, where it is another one. */
export function put(name, text) {
  for (const place of sale.querySelectorAll(`[${name}]`)) if (place.textContent !== text) place.textContent = text;
}

/** Show what is to be seen of a list by name: `choose("data-reason", "lost")`. */
export function choose(name, value) {
  for (const part of sale.querySelectorAll(`[${name}]`)) part.hidden = !part.getAttribute(name).split(" ").includes(value);
}

/** A span of time counted down to, in all places of a stage; none where it has no end or none is wanted. */
export function countDown(stage, left) {
  for (const place of sale.querySelectorAll(`[data-countdown=${stage}]`)) {
    place.hidden = left === null;
    if (left === null) continue;
    const time = spell(left, sale.dataset.days);
    const text = place.dataset.text ? place.dataset.text.replace("{left}", time) : time;
    if (place.textContent !== text) place.textContent = text;
  }
}

/** The stock. */
export function showStock({ remaining, quantity }) {
  if (remaining === null) return;
  put("data-remaining", spellNumber(remaining));
  const bar = sale.querySelector("[data-bar]");
  bar.max = quantity;
  bar.value = remaining;
}

/** The codes of the coupons beside the first, where a claim was of several units. */
export function showCodes(coupons) {
  const list = sale.querySelector("[data-codes]");
  list.hidden = coupons.length === 0;
  list.replaceChildren(...coupons.map(({ code }) => {
    const item = document.createElement("li");
    item.className = "code";
    item.translate = false;
    item.textContent = code;
    return item;
  }));
}

/** The place in line: `first` is how many were ahead when this visitor first saw it. */
export function showPlace(ticket, first) {
  const known = ticket.position !== null;
  choose("data-place", known ? "known" : "drawn");
  if (!known) return;
  const place = spellNumber(ticket.ahead + 1);
  put("data-position", place);
  put("data-ahead", spellNumber(ticket.ahead));
  put("data-eta", spellWait(ticket.eta_seconds));
  put("data-odds", spellOdds(ticket.odds));
  const way = sale.querySelector("[data-progress]");
  way.max = Math.max(1, first);
  way.value = first - ticket.ahead;
  document.title = `(${place}) ${title}`;
  // Read out whenever half of the way is done: each step of it would never let anybody listen to anything else.
  if (ticket.ahead < heardPlace / 2 || ticket.ahead > heardPlace) {
    heardPlace = ticket.ahead + 1;
    say(`${place} ${sale.querySelector(".position small").textContent}`);
  }
}

/** The time left to claim in. */
export function showPass(until, from) {
  const left = until - serverNow();
  const bar = sale.querySelector("[data-pass-bar]");
  put("data-pass", spell(left, sale.dataset.days).replace(/^00:/, ""));
  bar.max = Math.max(1, until - from);
  bar.value = Math.max(0, left);
}

function spellWait(seconds) {
  const words = sale.querySelector("[data-eta]").dataset;
  if (seconds === null) return words.unknown;
  if (seconds < 60) return words.seconds;
  if (seconds < HOUR) return words.minutes.replace("{n}", spellNumber(Math.round(seconds / 60)));
  return words.hours.replace("{n}", spellNumber(Math.round(seconds / HOUR)));
}

function spellOdds(odds) {
  const words = sale.querySelector("[data-odds]").dataset;
  if (odds === null) return words.unknown;
  return odds >= 0.8 ? words.good : odds >= 0.3 ? words.fair : words.poor;
}
