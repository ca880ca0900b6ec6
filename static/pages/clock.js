// The server's clock, as well as it can be known from here.
//
// A time of the server is old by the way it took to us, so each one sets a lower bound, and the greatest bound is the
// best. The local measure is `performance.now()`, which nobody can set wrong.

let offset = -Infinity;

/** Learn from a time of the server, in milliseconds, that has arrived just now. */
export function learn(serverTime) {
  offset = Math.max(offset, serverTime - performance.now());
}

/** The server's time now, in milliseconds: long ago, until it has told any. */
export function serverNow() {
  return performance.now() + offset;
}

/** A span in milliseconds as text: "2 d 03:04:05", the days written as in `days` ("{n} d"). */
export function spell(milliseconds, days) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const whole = Math.floor(seconds / 86400);
  const clock = [Math.floor((seconds % 86400) / 3600), Math.floor((seconds % 3600) / 60), seconds % 60].map(two).join(":");
  return whole ? `${days.replace("{n}", whole)} ${clock}` : clock;
}
