// Frames from the server as they happen, over a WebSocket. Where none can be had, whoever uses this asks by itself:
// `isUp` tells. A lost connection is made again after a while that grows, and never by all visitors at once.

import { serverNow } from "./clock.js";

const FIRST = 1000; // ms
const SLOWEST = 60000;
const STEADY = 10000; // ms after which a connection counts as good
const EARLY = 20000; // ms before the end of a token that it connects with the next one
const NOT_FOUND = 4404; // there is nothing to hear of: the connection is not made again

export class Live {
  /** `take` is called with each frame, `token` gives the one that tells who listens (null: a guest). */
  constructor(address, { take, token }) {
    this.url = new URL(address, location.href);
    this.url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.take = take;
    this.token = token;
    this.isUp = false;
    this.failures = 0;
    const hurry = () => { if (this.timer && !document.hidden) this.connect(); };
    addEventListener("online", hurry);
    addEventListener("visibilitychange", hurry);
  }

  /** Be told as who looks by now. A token goes where no address shows it; and who sends nothing says so from the start. */
  async connect() {
    clearTimeout(this.timer);
    clearTimeout(this.renewal);
    this.timer = null;
    const token = await this.token().catch(() => null);
    const before = this.socket;
    const began = performance.now();
    const socket = (this.socket = new WebSocket(this.url, token ? ["bearer", token] : ["listen"]));
    before?.close();
    socket.addEventListener("open", () => { this.isUp = true; });
    socket.addEventListener("message", ({ data }) => { if (socket === this.socket) this.hear(JSON.parse(data)); });
    socket.addEventListener("close", ({ code }) => {
      if (socket !== this.socket) return;
      clearTimeout(this.renewal);
      this.failures = this.isUp && performance.now() - began > STEADY ? 0 : this.failures + 1;
      this.isUp = false;
      if (code === NOT_FOUND) return;
      const wait = Math.min(SLOWEST, FIRST * 2 ** Math.min(this.failures, 6)) * (0.5 + Math.random() / 2);
      this.timer = setTimeout(() => this.connect(), wait);
    });
  }

  hear(frame) {
    if (frame.type === "ready") {
      this.renewal = setTimeout(() => this.connect(), Math.max(FIRST, frame.expires_at - serverNow() - EARLY));
    }
    this.take(frame);
  }
}
