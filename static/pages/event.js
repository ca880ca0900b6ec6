// The page of a sale: counts down by the server's clock, and keeps stock and phase fresh.
// What the page shows for each phase is in the page; this only chooses.

import { learn, serverNow, spell } from "./clock.js";

const EVERY = 1000; // ms between two looks, and up to as much again by chance, so that visitors do not ask in step
const SLOWEST = 15000;

const sale = document.getElementById("sale");
const countdown = sale.querySelector("[data-countdown]");
const trouble = sale.querySelector("[data-trouble]");
const button = sale.querySelector("[data-claim] button");
const opensAt = { value: Number(sale.dataset.opensAt) };
const closesAt = { value: Number(sale.dataset.closesAt) };
let told = sale.dataset.phase; // the phase as the server last said it
let failures = 0;
let submitted = false;

learn(Number(sale.dataset.serverTime));

function phase() {
  const now = serverNow();
  if (told === "scheduled" && now >= opensAt.value) return "open";
  if (told !== "closed" && now >= closesAt.value) return "closed";
  return told;
}

function show() {
  const current = phase();
  if (sale.dataset.phase !== current) {
    sale.dataset.phase = current;
    for (const part of sale.querySelectorAll("[data-when]")) {
      part.hidden = !part.dataset.when.split(" ").includes(current);
    }
  }
  if (button) button.disabled = submitted || current !== "open";

  const until = { scheduled: opensAt.value, open: closesAt.value }[current];
  // Until the end it is counted only when that is near: before, it would only hurry people.
  const counted = until !== undefined && (current === "scheduled" || until - serverNow() < 3600_000);
  countdown.hidden = !counted;
  if (counted) {
    const text = (current === "open" ? "Ends in " : "") + spell(until - serverNow());
    if (countdown.textContent !== text) countdown.textContent = text;
    countdown.classList.toggle("quiet", current === "open");
  }
}

function take(state) {
  learn(state.server_time);
  told = state.phase;
  opensAt.value = Date.parse(state.opens_at);
  closesAt.value = Date.parse(state.closes_at);
  if (state.remaining !== null) {
    sale.querySelector("[data-remaining]").textContent = state.remaining.toLocaleString("en");
    const bar = sale.querySelector("[data-bar]");
    bar.max = state.quantity;
    bar.value = state.remaining;
  }
}

async function look() {
  if (!document.hidden) {
    try {
      const response = await fetch(sale.dataset.state, { signal: AbortSignal.timeout(5000) });
      if (!response.ok) throw new Error(response.statusText);
      take(await response.json());
      failures = 0;
    } catch {
      failures += 1;
    }
    trouble.hidden = failures < 2;
  }
  const wait = Math.min(SLOWEST, EVERY * 2 ** Math.min(failures, 4)) * (1 + Math.random());
  if (phase() !== "closed") setTimeout(look, wait);
}

sale.querySelector("[data-claim]")?.addEventListener("submit", () => {
  submitted = true;
  setTimeout(show); // after the form has gone: a disabled button would not be sent with it
});
addEventListener("pageshow", () => {
  submitted = false;
  show();
});

show();
setInterval(show, 200);
setTimeout(look, EVERY * Math.random());
