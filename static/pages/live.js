// Frames from the server as they happen, over a WebSocket. Where none can be had, whoever uses this asks by itself:
// `isUp` tells. A lost connection is made again after a while that grows, and never by all visitors at once.

const FIRST = 1000; // ms
const SLOWEST = 60000;
const STEADY = 10000; // ms after which a connection counts as good

export class Live {
  /** `take` is called with each frame, `token` gives the one to sign in with (null: as a guest). */
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

  connect() {
    clearTimeout(this.timer);
    this.timer = null;
    const began = performance.now();
    const socket = (this.socket = new WebSocket(this.url));
    socket.addEventListener("open", () => {
      this.isUp = true;
      this.signIn();
    });
    socket.addEventListener("message", (event) => this.take(JSON.parse(event.data)));
    socket.addEventListener("close", () => {
      this.failures = this.isUp && performance.now() - began > STEADY ? 0 : this.failures + 1;
      this.isUp = false;
      const wait = Math.min(SLOWEST, FIRST * 2 ** Math.min(this.failures, 6)) * (0.5 + Math.random() / 2);
      this.timer = setTimeout(() => this.connect(), wait);
    });
  }

  /** Say who listens, as soon as that is known: in a message, for an address is seen and kept by others. */
  async signIn() {
    const socket = this.socket;
    const token = await this.token().catch(() => null);
    if (token && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "auth", token }));
  }
}
