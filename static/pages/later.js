// Timers that keep the time in a tab that nobody looks at.

const waiting = new Map(); // what is called, by number
let worker = null;
let last = 0;

/** Have `run` called after so many milliseconds; the function returned calls that off. */
export function later(run, wait) {
  const id = (last += 1);
  waiting.set(id, run);
  try {
    worker ??= start();
    worker.postMessage({ id, wait });
  } catch {
    setTimeout(() => due(id), wait); // no workers here
  }
  return () => waiting.delete(id);
}

function start() {
  const started = new Worker(new URL("./timer.js", import.meta.url));
  started.addEventListener("message", ({ data }) => due(data));
  return started;
}

function due(id) {
  const run = waiting.get(id);
  waiting.delete(id);
  run?.();
}
