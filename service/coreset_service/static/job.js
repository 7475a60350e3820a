// Result of a job that has succeeded.
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
    const changes = (k, ranking) => json(`${base}/changes?k=${k}&by=${ranking}`);
    const open = showResult(result, summary, changes, (k, ranking) => save(base, k, ranking));
    await showSelections();
    const job = await json(base);
    if (job.links.evaluation) showEvaluation(document.getElementById("evaluation"), await json(job.links.evaluation));
    const bad = job.progress.samples.bad;
    if (Object.keys(bad).length) result.append(badSamples(base, bad));
    result.append(await groupsOf(base));
    result.append(browser(base, summary, open));
    result.append(files(summary));
    result.dataset.state = "shown";
  } catch (error) {
    result.dataset.state = "failed";
    result.replaceChildren(element("p", { class: "warning", role: "alert" }, `The charts cannot be loaded: ${error.message}`));
  }
}

/** Save the best k by a ranking as a selection; return a link to each of its files. */
async function save(base, k, ranking) {
  const own = JSON.parse(document.getElementById("outcome").dataset.spec);
  const rule = ranking === SELECTION ? { ...own, fraction: null, threshold: null, write_shards: false } : { by: ranking };
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ ...rule, k }) };
  const saved = await json(`${base}/selections`, options);
  await showSelections();
  document.getElementById("all-selections").open = true;
  return [`Saved ${short(saved.k)} samples as `, element("a", { href: `#selection-${saved.id}`, class: "id" }, saved.id)];
}

/** Show the job's selections, with their rules and files, as the service describes them. */
async function showSelections() {
  const answer = await fetch(`${location.pathname}/selections`, { cache: "no-store" });
  if (!answer.ok) throw new Error(`the selections cannot be listed: ${answer.status}`);
  document.getElementById("selections").innerHTML = await answer.text(); // the service's own template, values escaped
}

async function groupsOf(base) {
  const spec = JSON.parse(document.getElementById("outcome").dataset.spec);
  const clusters = spec.quota?.field === "cluster" || Object.values(spec.within ?? {}).includes("cluster");
  return groups(base, await json(`${base}/groups?field=${clusters ? "cluster" : "shard"}`));
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
