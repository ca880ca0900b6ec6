// The page of a sale: counts down by the server's clock, and keeps stock and phase fresh.
// What the page shows for each phase is in the page; this only chooses.

import { learn, serverNow, spell } from "./clock.js";
import { meet } from "./visitor.js";

const EVERY = 1000; // ms between two looks, and up to as much again by chance, so that visitors do not ask in step
const SLOWEST = 15000;

const sale = document.getElementById("sale");
const countdown = sale.querySelector("[data-countdown]");
const trouble = sale.querySelector("[data-trouble]");
const form = sale.querySelector("[data-claim]");
const button = form.querySelector("button");
const opensAt = { value: Number(sale.dataset.opensAt) };
const closesAt = { value: Number(sale.dataset.closesAt) };
let told = sale.dataset.phase; // the phase as the server last said it
let failures = 0;
let submitted = false;

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
  button.disabled = submitted || current !== "open";

  const until = { scheduled: opensAt.value, open: closesAt.value }[current];
  // Until the end it is counted only when that is near: before, it would only hurry people.
  const left = until - serverNow(); // without end until the server has told the time
  const counted = Number.isFinite(left) && (current === "scheduled" || left < 3600_000);
  countdown.hidden = !counted;
  if (counted) {
    const text = (current === "open" ? "Ends in " : "") + spell(left);
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

form.addEventListener("submit", () => {
  submitted = true;
  setTimeout(show); // after the form has gone: a disabled button would not be sent with it
});
addEventListener("pageshow", (event) => {
  submitted = false;
  show();
  if (event.persisted) meet(sale.dataset.me, show); // who comes back has claimed meanwhile, or signed out
});

show();
meet(sale.dataset.me, show);
setInterval(show, 200);
setTimeout(look, EVERY * Math.random());
