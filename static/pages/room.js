// The waiting room: get in line, ask for one's place as often as the server says, leave.

import { call, Refused } from "./api.js";
import { later } from "./later.js";
import { tryAgain, well } from "./trouble.js";

const WHO = "room";
const ENDED = { not_found: "turn_over", sold_out: "sold_out", closed: "closed" };

export class Room {
  /** `changed` is called with the ticket; or with null and why it is gone: "turn_over", "sold_out", "closed", "left"; or with null, "already_claimed" and the claim. */
  constructor(address, changed) {
    this.address = address;
    this.changed = changed;
    this.ticket = null;
    this.callOff = () => {};
  }

  /** Get in line, or find one's place again: who is in it already keeps it. */
  join() {
    return this.ask("POST");
  }

  /** See whether the visitor is in line, from another visit or another tab. */
  resume() {
    return this.ask("GET");
  }

  /** Give the place up. */
  async leave() {
    this.stop();
    try {
      await call("DELETE", this.address);
      this.end("left");
    } catch (error) {
      tryAgain(WHO, error, 0, () => this.leave());
    }
  }

  /** Ask no more: the turn was used. */
  stop() {
    this.callOff();
    well(WHO);
  }

  /** A newer ticket, whichever way it came. */
  take(ticket) {
    this.stop();
    const before = this.ticket;
    // Who waits never falls back: an answer that was overtaken by a newer one tells nothing.
    this.told = { ahead: ticket.ahead, eta: ticket.eta_seconds };
    this.served = null;
    const known = before?.number === ticket.number && before.status === ticket.status ? before.ahead : null;
    if (known !== null && ticket.ahead !== null) ticket.ahead = Math.min(known, ticket.ahead);
    this.ticket = ticket;
    this.callOff = later(() => this.ask("GET"), ticket.poll_after_ms);
    this.changed(ticket);
  }

  /**
   * Between two polls: as many people as were called since the last one, as much nearer. Counted from the first state
   * that is told after the poll, so that nobody is counted who had been called before it; who is next, only a poll says.
   */
  reckon(called) {
    const { ticket, told } = this;
    if (ticket?.status !== "waiting" || !told.ahead) return;
    this.served ??= called;
    const ahead = Math.max(1, told.ahead - (called - this.served));
    if (ahead >= ticket.ahead) return;
    const eta = told.eta === null ? null : Math.ceil((told.eta * ahead) / told.ahead); // nobody knows when a hold ends
    Object.assign(ticket, { ahead, position: ahead + 1, eta_seconds: eta });
    this.changed(ticket);
  }

  async ask(method, failures = 0) {
    this.callOff();
    try {
      this.take(await call(method, this.address));
    } catch (error) {
      const why = error instanceof Refused && ENDED[error.code];
      if (why) this.end(why);
      else if (error.code === "already_claimed") this.end(error.code, error.body.claim);
      else if (error instanceof Refused && !error.passes) this.end(error.code);
      else tryAgain(WHO, error, failures, () => this.ask(method, failures + 1));
    }
  }

  end(why, claim) {
    this.stop();
    const had = this.ticket !== null;
    this.ticket = null;
    if (had || why !== "turn_over") this.changed(null, why, claim);
  }
}
