// Result of a job that has succeeded.
"use strict";

const result = document.getElementById("result");

async function json(address) {
  const answer = await fetch(address);
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
    const changes = (k, ranking) => json(`${base}/changes?k=${k}&by=${ranking}`);
    showResult(result, summary, changes);
    const job = await json(base);
    if (job.links.evaluation) showEvaluation(document.getElementById("evaluation"), await json(job.links.evaluation));
    const bad = job.progress.samples.bad;
    if (Object.keys(bad).length) result.append(badSamples(base, bad));
    result.append(files(summary));
    result.dataset.state = "shown";
  } catch (error) {
    result.dataset.state = "failed";
    result.replaceChildren(element("p", { class: "warning", role: "alert" }, `The charts cannot be loaded: ${error.message}`));
  }
}

/** Return a section with the bad samples of the chosen reason. */
function badSamples(base, bad) {
  const options = Object.entries(bad).map(([reason, count]) => {
    return element("option", { value: reason }, `${reason.replaceAll("_", " ")}: ${short(count)}`);
  });
  const choice = element("select", { id: "reason" }, element("option", { value: "" }, "choose a reason"), ...options);
  const holder = element("div", { class: "scroll", "aria-live": "polite" });
  choice.addEventListener("change", async () => {
    if (!choice.value) return holder.replaceChildren();
    try {
      const page = await json(`${base}/samples?status=${choice.value}&page_size=50`);
      holder.replaceChildren(badTable(page.samples));
    } catch (error) {
      holder.replaceChildren(element("p", { class: "failed", role: "alert" }, error.message));
    }
  });
  return section("Bad samples", element("label", { for: "reason" }, "Show "), choice, holder);
}

function badTable(samples) {
  const heads = ["shard", "key", "caption", "uid"].map((text) => element("th", { scope: "col" }, text));
  const rows = samples.map((sample) => {
    const cells = [sample.uri || sample.shard, sample.key, sample.caption || "", sample.uid];
    const last = element("td", { class: "id" }, cells.pop(), copyButton(sample.uid, "uid"));
    return element("tr", {}, ...cells.map((text) => element("td", {}, text)), last);
  });
  return element("table", {}, element("caption", {}, `The first ${samples.length}`), element("tr", {}, ...heads), ...rows);
}

function files(summary) {
  const rows = Object.entries(summary.files).flatMap(([name, uri]) => fact(name, uri, true));
  return section("Files", element("dl", {}, ...rows));
}

document.addEventListener("refreshed", load);
load();
