// Three small things on top of pages that work without them: they stay fresh, times count down, and
// buttons that decide something rest for half a second after they come into view.
"use strict";

(() => {
  const REST_MS = 500;
  const POLL_MS = 4000;

  // Buttons rest after load, focus or a change, so that a click meant for something else decides nothing.
  let restTimer = 0;
  function rest() {
    const guarded = document.querySelectorAll("button[data-guard]");
    if (guarded.length === 0) return;
    clearTimeout(restTimer);
    for (const button of guarded) button.disabled = true;
    restTimer = setTimeout(() => {
      if (document.hidden) return;
      for (const button of document.querySelectorAll("button[data-guard]")) button.disabled = false;
    }, REST_MS);
  }

  // Times: the server's clock decides, the browser's only moves it on.
  let skew = 0;
  function learnClock() {
    const main = document.querySelector("main[data-now]");
    if (main) skew = Number(main.dataset.now) - Date.now();
  }

  function inWords(ms) {
    const s = Math.floor(ms / 1000);
    if (s <= 0) return "any moment now";
    if (s < 60) return `in ${s} s`;
    if (s < 3600) return `in ${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
    if (s < 48 * 3600) return `in ${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
    return null;
  }

  function tick() {
    const now = Date.now() + skew;
    for (const time of document.querySelectorAll("time[data-countdown]")) {
      const words = inWords(Date.parse(time.dateTime) - now);
      if (words !== null && time.textContent !== words) time.textContent = words;
    }
  }

  // Freshness: ask for the main part; put it in place when it says something new and nothing is being written.
  function isWriting() {
    return Array.from(document.querySelectorAll("textarea")).some((area) => area.value !== "");
  }

  function tellOfChange(main) {
    if (main.querySelector("[data-stale]")) return;
    const note = document.createElement("div");
    note.className = "alert";
    note.setAttribute("role", "alert");
    note.setAttribute("data-stale", "");
    note.textContent = "This request has changed since you opened it. Reload the page to see it as it is now; your comment is still here.";
    main.prepend(note);
  }

  async function refresh() {
    const main = document.querySelector("main[data-live]");
    if (!main || document.hidden) return;
    const answer = await fetch(main.dataset.live, { credentials: "same-origin", cache: "no-store" });
    if (answer.status === 401) { location.reload(); return; }
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main[data-live]");
    if (!fresh || fresh.dataset.version === main.dataset.version) return;
    if (isWriting()) { tellOfChange(main); return; }
    const opened = main.querySelector("details")?.open;
    main.replaceWith(fresh);
    const details = fresh.querySelector("details");
    if (details && opened !== undefined) details.open = opened;
    learnClock();
    rest();
    tick();
  }

  async function keepFresh() {
    try { await refresh(); } catch { /* The server is away; the page stays as it is and asks again. */ }
    setTimeout(keepFresh, POLL_MS);
  }

  rest();
  learnClock();
  tick();
  addEventListener("focus", rest);
  addEventListener("pageshow", rest);
  document.addEventListener("visibilitychange", rest);
  setInterval(tick, 1000);
  setTimeout(keepFresh, POLL_MS);
})();
