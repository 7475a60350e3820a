// The result of a job, once it has succeeded.
"use strict";

const result = document.getElementById("result");

async function json(address, options = {}) {
  const answer = await fetch(address, options);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail || body.title || String(answer.status));
  return body;
}

async function load() {
  if (result.dataset.state || !document.querySelector("#middle .succeeded")) return;
  result.dataset.state = "loading";
  const base = result.dataset.address;
  try {
    const summary = await json(`${base}/summary`);
    const changes = (k, ranking, signal) => json(`${base}/changes?k=${k}&by=${ranking}`, { signal });
    showResult(result, summary, changes);
    result.append(files(summary));
    result.dataset.state = "shown";
  } catch (error) {
    result.dataset.state = "failed";
    result.replaceChildren(element("p", { class: "warning", role: "alert" }, `No charts: ${error.message}`));
  }
}

function files(summary) {
  const rows = Object.entries(summary.files).flatMap(([name, uri]) => fact(name, uri, true));
  return section("Files", element("dl", {}, ...rows));
}

document.addEventListener("refreshed", load);
load();
