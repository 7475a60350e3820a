// Refreshes the middle of a page: fetches it again on every event of the job, or every 2 s.
"use strict";

const middle = document.getElementById("middle");
const lost = document.getElementById("lost");
const REFRESH_MILLISECONDS = 2000;

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(`${location.pathname}?part=true`, { cache: "no-store" });
    if (answer.status === 401) location.reload(); // not logged in any more: the login form returns here
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.text());
    lost.textContent = "";
  } catch {
    lost.textContent = "Connection lost; reconnecting";
  }
}

/** Replace the middle, and keep the focus and the opened details. */
function show(html) {
  if (html === middle.dataset.last) return;
  const focused = document.activeElement && document.activeElement.id;
  const opened = [...middle.querySelectorAll("details[open]")].map((details) => details.id);
  middle.dataset.last = html;
  middle.innerHTML = html; // the service's own template, every value escaped
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  if (focused && middle.contains(document.getElementById(focused))) document.getElementById(focused).focus();
  document.dispatchEvent(new Event("refreshed"));
}

function every() {
  setInterval(refresh, REFRESH_MILLISECONDS);
}

function follow(address) {
  const source = new EventSource(address);
  for (const kind of ["status", "progress", "warning", "shard_failed"]) source.addEventListener(kind, refresh);
  source.addEventListener("ended", () => (source.close(), refresh()));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) every(); // the service rejected the stream: poll instead
    else lost.textContent = "Connection lost; reconnecting";
  });
}

const { live, events } = middle.dataset;
if (live === "yes") events ? follow(events) : every();
document.addEventListener("visibilitychange", refresh);

/** Cancel the job; the button is replaced by every refresh, so the document listens. */
async function cancel(button) {
  button.disabled = true;
  const answer = await fetch(button.dataset.address, { method: "POST" });
  if (answer.ok) return refresh();
  const body = await answer.json().catch(() => ({}));
  document.getElementById("cancel-failed").textContent = body.detail || `not cancelled: ${answer.status}`;
  button.disabled = false;
}

document.addEventListener("click", (event) => event.target.id === "cancel" && cancel(event.target));
