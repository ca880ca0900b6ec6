// A worker that only waits. Browsers slow the timers of a tab in the background down to one a minute, and whoever asks
// for their place too late is passed over; those of a worker they leave alone.

addEventListener("message", ({ data: { id, wait } }) => setTimeout(() => postMessage(id), wait));
