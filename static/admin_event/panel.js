// Keeps the numbers on a sale's admin page fresh: the server renders them, this puts them in place.

const EVERY = 2000; // ms

const panel = document.querySelector("[data-panel]");

async function refresh() {
  if (!document.hidden) {
    try {
      const response = await fetch(panel.dataset.panel);
      if (response.ok && !response.redirected) panel.innerHTML = await response.text();
    } catch {
      // The server is away: the last numbers stay, the next turn asks again.
    }
  }
  setTimeout(refresh, EVERY);
}

if (panel) setTimeout(refresh, EVERY);
