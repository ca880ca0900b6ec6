// The page of a sale: from the countdown to the coupon. What it shows at each stage is in the page; this finds out
// which stage it is: that of the sale, or the visitor's own on the way from the line to the coupon.

import { call, Refused } from "./api.js";
import { claim as ask, follow } from "./claiming.js";
import { learn, serverNow } from "./clock.js";
import { offerCopy } from "./copy.js";
import { Live } from "./live.js";
import { Room } from "./room.js";
import { choose, countDown, put, showCodes, showPass, showPlace, showStage, showStock } from "./stage.js";
import { spellNumber } from "./times.js";
import { showTrouble, tryAgain, well } from "./trouble.js";
import { bearer, meet, showUnread } from "./visitor.js";

const EVERY = 1000; // ms between two looks, and up to as much again by chance, so that visitors do not ask in step
const WITH_FRAMES = 30000; // the same while frames tell of changes
const TOLD = { sold_out: "sold_out", closed: "closed", paused: "paused", not_open: "scheduled" }; // phase, by refusal

const sale = document.getElementById("sale");
const claims = `${sale.dataset.api}/claims`;
const opensAt = { value: Number(sale.dataset.opensAt) };
const closesAt = { value: Number(sale.dataset.closesAt) };

let told = sale.dataset.phase; // the phase as the server last said it
let me = null;
let own = ""; // "claiming" and "refused" are the visitor's own stages whatever else is known
let claim = null;
let before = null; // the claim that was over when the visitor went on to another
let lookAtClaim = null;
let first = 0; // how many were ahead in line when the visitor came
let passFrom = 0; // when the pass was first seen, by the server's clock

const room = sale.dataset.waitingRoom ? new Room(`${sale.dataset.api}/queue`, placed) : null;
const live = new Live(sale.dataset.live, { take: frame, token: bearer });

function phase() {
  const now = serverNow();
  if (told === "scheduled" && now >= opensAt.value) return "open";
  if (told !== "closed" && now >= closesAt.value) return "closed";
  return told;
}

function stage() {
  if (own) return own;
  if (claim) return claim.status;
  const current = phase();
  if (!room?.ticket || current === "sold_out" || current === "closed") return current;
  return room.ticket.status === "admitted" ? "turn" : "waiting";
}

function show() {
  const current = phase();
  const shown = stage();
  sale.dataset.phase = current;
  showStage(shown);
  const left = { scheduled: opensAt.value, open: closesAt.value }[current] - serverNow();
  // Until the end it is counted only when that is near: before, it would only hurry people. `left` has no end until the
  // server has told the time.
  countDown("scheduled", current === "scheduled" && Number.isFinite(left) ? left : null);
  countDown("open", current === "open" && left < 3600_000 ? left : null);
  countDown("held", shown === "held" ? Math.max(0, Date.parse(claim.hold_expires_at) - serverNow()) : null);
  for (const button of sale.querySelectorAll("[data-claim] button, [data-claim-now]")) button.disabled = current !== "open";
  for (const note of sale.querySelectorAll("[data-paused]")) note.hidden = current !== "paused";
  showReminder();
  for (const more of sale.querySelectorAll("[data-again]")) more.hidden = !me?.may_claim || current !== "open";
  if (shown === "turn") {
    const until = Date.parse(room.ticket.pass_expires_at);
    passFrom ||= serverNow();
    showPass(until, passFrom);
  }
  showTrouble();
}

// --- What the server tells ---------------------------------------------------------------------------------------------

function take(state) {
  learn(state.server_time);
  told = state.phase;
  opensAt.value = Date.parse(state.opens_at);
  closesAt.value = Date.parse(state.closes_at);
  showStock(state);
  if (state.queue && room) room.reckon(state.queue.serving);
  if (state.queue?.seed) put("data-seed", state.queue.seed);
}

function frame({ type, ...rest }) {
  if (type === "state") take(rest);
  else if (type === "ticket" && room && !claim) room.take(rest);
  else if (type === "claim") lookAtClaim?.();
  else if (type === "notification" && me) showUnread((me.unread += 1));
  show();
}

async function look(failures = 0) {
  let wait = live.isUp ? WITH_FRAMES : EVERY;
  if (!document.hidden) {
    try {
      const response = await fetch(sale.dataset.state, { signal: AbortSignal.timeout(5000) });
      if (!response.ok) throw new Error(response.statusText);
      take(await response.json());
      well("state");
    } catch (error) {
      tryAgain("state", error, failures, () => look(failures + 1), { quietly: failures === 0 });
      return;
    }
    if (!live.isUp && phase() === "closed") wait = WITH_FRAMES;
  }
  setTimeout(look, wait * (1 + Math.random()));
}

// --- The visitor's own way ---------------------------------------------------------------------------------------------

function known(visitor) {
  const isAnother = me?.name !== visitor.name;
  me = visitor;
  show();
  if (isAnother) live.connect();
  if (!me.token) return;
  if (me.claim_id && me.claim_id !== before && !claim) watch({ id: me.claim_id, status: "pending" });
  else if (room && me.ticket && !room.ticket && !claim) room.take(me.ticket);
}

function placed(ticket, why, held) {
  if (ticket?.status === "waiting") {
    passFrom = 0;
    first = Math.max(first, ticket.ahead ?? 0);
    show(); // first, for a new stage has its own title
    showPlace(ticket, first);
    return;
  }
  if (!ticket) {
    [first, passFrom] = [0, 0];
    if (held) watch(held);
    else if (why in TOLD) told = TOLD[why];
    else if (why !== "left" && !claim && own !== "claiming") refuse(why);
  }
  show();
}

function refuse(why) {
  own = "refused";
  const codes = [...sale.querySelectorAll("[data-code]")].map((one) => one.dataset.code);
  choose("data-code", codes.includes(why) ? why : "other");
}

async function claimNow(by) {
  const wanted = Number(by.closest("[data-claim], section").querySelector("[name=quantity]").value) || 1;
  own = "claiming";
  show();
  try {
    watch(await ask(claims, me.key, Math.max(1, Math.min(me.may_claim, Math.trunc(wanted)))));
    own = "";
  } catch (error) {
    const why = error instanceof Refused ? error.code : "other";
    own = "";
    if (why in TOLD) told = TOLD[why];
    else refuse(why);
  }
  well("claim");
  show();
}

function watch(made) {
  room?.stop(); // the turn is used
  if (room) room.ticket = null;
  // A look tells until when it is held, and the code: who is refused for having claimed is told of the claim alone.
  const isWhole = made.status === "pending" || made.status === "rejected" || made.coupon;
  claim = isWhole ? made : { ...made, status: "pending" };
  put("data-sequence", made.sequence ? spellNumber(made.sequence) : "…");
  put("data-claim-id", made.id);
  if (claim.status === "pending") {
    lookAtClaim = follow(`${claims}/${made.id}`, decided);
    if (!made.sequence || !isWhole) lookAtClaim();
  } else decided(made);
}

function decided(found) {
  if (found.status !== "held") lookAtClaim = null;
  const isNews = claim?.status !== found.status;
  claim = found;
  put("data-sequence", spellNumber(found.sequence));
  if (found.status === "issued") {
    document.getElementById("code").textContent = found.coupon.code;
    showCodes(found.coupons.slice(1));
    const picture = sale.querySelector("[data-qr]");
    picture.src = picture.dataset.qr.replace("CODE", found.coupon.code);
  } else if (found.status === "rejected") choose("data-reason", found.reason);
  if (isNews) meet(sale.dataset.me, known); // for the next key, and whether there may be another
  show();
}

function showReminder() {
  for (const button of sale.querySelectorAll("[data-remind]")) {
    button.hidden = !me?.token;
    const text = me?.reminded ? button.dataset.on : button.dataset.off;
    if (button.textContent !== text) button.textContent = text;
    button.setAttribute("aria-pressed", String(Boolean(me?.reminded)));
  }
}

async function remind() {
  const asked = me.reminded;
  try {
    await call(asked ? "DELETE" : "POST", `${sale.dataset.api}/reminder`);
    me.reminded = !asked;
    well("reminder");
  } catch (error) {
    tryAgain("reminder", error, 0, remind);
  }
  show();
}

async function giveBack() {
  try {
    decided(await call("POST", `${claims}/${claim.id}/cancel`));
    well("cancel");
  } catch (error) {
    if (error instanceof Refused && !error.passes) lookAtClaim?.(); // it has ended meanwhile
    else tryAgain("cancel", error, 0, giveBack);
  }
}

function more() {
  own = "";
  before = claim?.id;
  claim = null;
  show();
  meet(sale.dataset.me, known);
}

// --- Buttons -----------------------------------------------------------------------------------------------------------

/** Have a button do something, or a form where the visitor can ask the API; otherwise the form goes its own way. */
function on(name, event, action) {
  for (const one of sale.querySelectorAll(`[${name}]`)) {
    one.addEventListener(event, (happened) => {
      if (!me?.token) return;
      happened.preventDefault();
      action(one);
    });
  }
}

on("data-claim", "submit", claimNow);
on("data-claim-now", "click", claimNow);
on("data-join", "submit", () => room.join());
on("data-leave", "click", (button) => { if (confirm(button.dataset.sure)) room.leave(); });
on("data-more", "click", more);
on("data-cancel", "click", (button) => { if (confirm(button.dataset.sure)) giveBack(); });
on("data-remind", "click", remind);

addEventListener("visibilitychange", () => {
  if (!document.hidden && room?.ticket) room.resume(); // timers of a tab in the background are slow
});
addEventListener("pageshow", (event) => {
  if (event.persisted) meet(sale.dataset.me, known); // who comes back has claimed meanwhile, or signed out
});

// --- From here ---------------------------------------------------------------------------------------------------------

/** The language that the visitor chose, where this page was asked for in none. */
function chosen() {
  const cookie = /(?:^|; )django_language=(\w+)/.exec(document.cookie);
  return sale.dataset.byUrl ? null : cookie?.[1];
}

if (chosen() && chosen() !== document.documentElement.lang) location.replace(`?lang=${chosen()}`);
offerCopy(sale);
show();
meet(sale.dataset.me, known);
setInterval(show, 200);
setTimeout(look, EVERY * Math.random());
