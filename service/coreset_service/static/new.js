// Form for a new job: builds a spec, which the service checks or starts.
"use strict";

const form = document.getElementById("new");
const answer = document.getElementById("answer");

/** Return the spec; the further fields override those of the form. */
function spec() {
  const { shards, run, target, result, suspects, keep, amount, by, test, more } = form.elements;
  const select = { [keep.value]: Number(amount.value), by: Object.fromEntries(by.value.split(" ").map((name) => [name, 1])) };
  const own = { pool: { shards: lines(shards) }, ...(run.value.trim() ? { checkpoints: { run: run.value.trim() } } : {}) };
  if (lines(target).length) own.target = { pool: { shards: lines(target) } };
  if (lines(test).length) own.evaluate = { test: { shards: lines(test) } };
  const further = JSON.parse(more.value.trim() || "{}");
  if (result.value === "clean") own.clean = { fraction: Number(suspects.value) / 100 };
  else if (!further.clean) own.select = select;
  return { ...own, ...further };
}

function lines(field) {
  return field.value.split("\n").map((line) => line.trim()).filter(Boolean);
}

async function post(address) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(spec()) };
  const got = await fetch(address, options);
  const body = await got.json();
  if (!got.ok) throw new Error(body.detail || body.title || String(got.status));
  return body;
}

async function act(words, work) {
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  answer.replaceChildren(element("p", { role: "status" }, words));
  try {
    await work();
  } catch (error) {
    const text = error instanceof SyntaxError ? `Further fields: not JSON: ${error.message}` : error.message;
    answer.replaceChildren(element("p", { class: "failed", role: "alert" }, text));
  } finally {
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  }
}

const start = () => act("Starting…", async () => location.assign(`/jobs/${(await post("/v1/jobs")).id}`));
const check = () => act("A worker checks shards and checkpoints…", async () => show(await post("/v1/jobs?validate_only=true")));

function show(plan) {
  const size = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;
  const minutes = (seconds) => (seconds < 90 ? `${seconds.toFixed(0)} s` : `${(seconds / 60).toFixed(0)} min`);
  const heads = ["checkpoint", "step", "lr"].map((text) => element("th", { scope: "col" }, text));
  const rows = plan.checkpoints.map((each) => {
    const cells = [each.uri, `${each.step.value} (${each.step.source})`, `${short(each.lr.value)} (${each.lr.source})`];
    return element("tr", {}, ...cells.map((text) => element("td", {}, text)));
  });
  answer.replaceChildren(
    element("p", { class: "succeeded", role: "status" }, "This job can start."),
    ...plan.warnings.map((text) => element("p", { class: "warning" }, text)),
    element(
      "dl",
      {},
      ...fact("shards", `${short(plan.shards.number)}, ${size(plan.shards.bytes)}`),
      ...fact("samples", `${short(plan.n_samples.value)} (${plan.n_samples.source})`),
      ...fact("model", `${plan.model.name}, ${short(plan.parameters_counted)} of ${short(plan.parameters_total)} parameters`),
      ...(plan.horizon ? fact("influence up to", `${plan.horizon.step === null ? "" : `step ${short(plan.horizon.step)}: `}${plan.horizon.why}`) : []),
      ...fact("memory", `${size(plan.memory.device_bytes)} on ${plan.memory.device}, ${size(plan.memory.host_bytes)} on the host`),
      ...fact("time", `${minutes(plan.time.prepare_seconds + plan.time.score_seconds)} (${plan.time.assumption})`),
      ...fact("results", plan.outputs.result, true),
    ),
    ...(rows.length ? [element("div", { class: "scroll" }, element("table", {}, element("tr", {}, ...heads), ...rows))] : []),
  );
}

form.addEventListener("change", () => {
  const cleans = form.elements.result.value === "clean";
  document.getElementById("cleaning").hidden = !cleans;
  document.getElementById("selecting").hidden = cleans;
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter && event.submitter.value === "check") check();
  else start();
});
