// Reads the section "Now" again while the page is open; the page works without.
"use strict";
{
  const PAUSE = 5000;
  const controls = document.getElementById("live-controls");
  let live = document.getElementById("live");

  if (controls && live) {
    const button = controls.querySelector("button");
    const note = controls.querySelector("span");
    const told = note.textContent;
    let paused = false;

    const show = (fresh) => {
      const places = [...live.querySelectorAll(".scroll")].map((region) => region.scrollLeft);
      const next = document.importNode(fresh, true);
      live.replaceWith(next);
      live = next;
      live.querySelectorAll(".scroll").forEach((region, at) => { region.scrollLeft = places[at] || 0; });
    };

    // What a reader is in the middle of stays as it is.
    const isBusy = () => paused || document.hidden || live.contains(document.activeElement);

    const read = () => {
      if (isBusy()) {
        setTimeout(read, PAUSE);
        return;
      }
      // Not fetch: this request parses the page itself, and trusted types need no exception.
      const request = new XMLHttpRequest();
      request.open("GET", live.dataset.source);
      request.responseType = "document";
      request.timeout = 30000;
      const began = Date.now();
      request.onloadend = () => {
        const fresh = request.status === 200 && request.response && request.response.getElementById("live");
        const news = fresh ? told : "The last reading failed; these figures are old.";
        // A screen reader speaks of every change, also to the same words.
        if (note.textContent !== news) note.textContent = news;
        if (fresh && !isBusy()) show(fresh);
        // A database that answers slowly is asked less often.
        setTimeout(read, Math.max(PAUSE, 10 * (Date.now() - began)));
      };
      request.send();
    };

    button.addEventListener("click", () => {
      paused = !paused;
      button.setAttribute("aria-pressed", String(paused));
    });
    controls.hidden = false;
    setTimeout(read, PAUSE);
  }
}
