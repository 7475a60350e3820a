// Result of a job: the slider for k with its charts, the overlap of the rankings, and contact sheets.
"use strict";

const SELECTION = "selection";

/** Return the entry of `overlaps` for two of `total` rankings. */
function overlapOf(overlaps, total, one, other) {
  const [low, high] = one < other ? [one, other] : [other, one];
  return overlaps[low * total - (low * (low + 1)) / 2 + high - low - 1];
}

/**
 * Return every score's cut and every pair's overlap at k, in the summary's order. Between the summary's ks
 * they are interpolated linearly.
 */
function levelsAt(summary, k) {
  const ks = [0, ...summary.ks];
  const high = Math.max(1, ks.findIndex((each) => each >= k));
  const share = (k - ks[high - 1]) / (ks[high] - ks[high - 1]);
  const between = (values) => values[high - 1] + share * (values[high] - values[high - 1]);
  const cuts = Object.entries(summary.cuts).map(([name, values]) => [name, between([values[0], ...values])]);
  return { k, cuts: Object.fromEntries(cuts), overlaps: summary.overlaps.map((counts) => between([0, ...counts])) };
}

/**
 * Show a summary below `root`; return the function that opens a sample's dialog.
 * changes: async (k, ranking) -> samples that enter and leave, and the exact levels at k. Without it the slider shows
 * no samples, and the levels of `levelsAt`.
 * save: async (k, ranking) -> nodes that say what was saved. Without it there is no button to save a selection.
 */
function showResult(root, summary, changes = null, save = null) {
  const open = sampleDialog(summary);
  const labels = Object.fromEntries(summary.rankings.map((ranking) => [ranking.name, ranking.label]));
  const parts = [histograms(summary, labels), densities(summary, labels), matrix(summary)];
  const move = (levels) => parts.forEach((part) => part.move(levels));
  const edges = changes ? edgeSheets(changes, open, move) : null;
  const chooser = kChooser(summary, labels, edges !== null, (k, ranking) => {
    move(levelsAt(summary, k));
    if (edges) edges.move(k, ranking);
  });
  if (save) chooser.append(saver(save, chooser.chosen));
  const drawnFrom = summary.looked < summary.rankable ? `, from a random sample of ${short(summary.looked)}` : "";
  root.replaceChildren(
    section("How many to keep", chooser, ...(edges ? [edges.node] : [])),
    section(`Two scores at a time${drawnFrom}`, parts[1].node),
    section(`Overlap of the rankings at this k${drawnFrom}`, parts[2].node),
    section(`Distribution of each score${drawnFrom}`, legend(), parts[0].node),
    ...horizonSection(summary.horizon),
  );
  const samples = section("Samples", sheets(summary, open));
  if (summary.sheets.length && summary.sheets[0].name === "suspects") root.prepend(samples);
  else root.append(samples);
  chooser.start();
  return open;
}

/** Return a button that saves the chosen k and ranking as a selection, and a line for what came of it. */
function saver(save, chosen) {
  const button = element("button", { type: "button", id: "save" }, "Save this k and ranking as a selection");
  const line = element("span", { id: "saved", role: "status" });
  button.addEventListener("click", async () => {
    const at = chosen();
    if (!at) return;
    button.disabled = true;
    line.replaceChildren("Selecting…");
    try {
      line.replaceChildren(...(await save(at.k, at.ranking)));
    } catch (error) {
      line.replaceChildren(element("span", { class: "failed", role: "alert" }, error.message));
    } finally {
      button.disabled = false;
    }
  });
  return element("div", { class: "row" }, button, line);
}

function section(title, ...children) {
  return element("section", {}, element("h2", {}, title), ...children);
}

/** Return the losses at every checkpoint, with the last one that influence uses marked. */
function horizonSection(horizon) {
  if (!horizon || !horizon.losses.some((each) => each.training !== null)) return [];
  const { losses, step, why } = horizon;
  const series = [
    ["training", "training loss, on the reference batch", losses.map((each) => each.training)],
    ["target", "validation loss", losses.map((each) => each.target)],
    ["scaled", "validation loss at its best temperature", losses.map((each) => each.target_at_best_scale)],
  ].filter(([, , values]) => values.some((value) => value !== null));
  const keys = [...series.map(([kind, text]) => [kind, text]), ["cut", "horizon: the last checkpoint that influence uses"]];
  const key = element("p", { class: "soft" }, ...keys.map(([kind, text]) => element("span", { class: `key ${kind}` }, text)));
  const steps = losses.map((each) => each.step);
  const chart = lossCurves(steps, series, step, "Losses by checkpoint");
  const reason = element("p", {}, `Influence is traced up to step ${short(step)}: ${why}.`);
  return [section("How far influence is traced", reason, key, element("div", { class: "charts" }, chart))];
}

function legend() {
  const words = [["all", "all samples"], ["kept", "kept by the job's selection"], ["cut", "the score's cut at k"]];
  return element("p", { class: "soft" }, ...words.map(([kind, text]) => element("span", { class: `key ${kind}` }, text)));
}

/** Return a slider over the summary's ks, with a field for any other k. */
function kChooser(summary, labels, withRanking, moved) {
  const { ks, rankable } = summary;
  const slider = element("input", { id: "k", type: "range", min: 0, max: ks.length - 1, step: 1, "aria-label": "Keep" });
  const exact = element("input", { id: "k-exact", type: "number", min: 1, max: rankable, step: 1, required: true });
  const shareText = element("output", { for: "k k-exact", id: "k-share" });
  const ranking = rankingChoice(summary);
  const back = element("button", { type: "button" }, "Back to the job's k");
  const meaning = element("p", { class: "hint" });
  const meanings = Object.fromEntries(summary.rankings.map((each) => [each.name, each.meaning]));
  const move = (k) => {
    meaning.textContent = withRanking ? `Ranked by: ${meanings[ranking.value]}.` : "";
    const text = `of ${short(rankable)} samples, ${((100 * k) / rankable).toFixed(k < rankable / 100 ? 3 : 1)} %`;
    slider.value = Math.max(0, ks.findLastIndex((each) => each <= k));
    slider.setAttribute("aria-valuetext", `${short(k)} ${text}`);
    shareText.textContent = text;
    moved(k, ranking.value);
  };
  const moveTo = (k) => ((exact.value = k), move(k));
  slider.addEventListener("input", () => moveTo(ks[slider.value]));
  exact.addEventListener("input", () => exact.checkValidity() && move(Number(exact.value)));
  exact.addEventListener("change", () => exact.reportValidity());
  back.addEventListener("click", () => moveTo(summary.k));
  ranking.addEventListener("change", () => exact.checkValidity() && move(Number(exact.value)));
  const by = withRanking ? [element("label", { for: "ranking" }, "ranked by "), ranking] : [];
  const keep = element("span", {}, element("label", { for: "k-exact" }, "Keep "), exact, " ", shareText);
  const node = element("div", { class: "card" }, element("div", { class: "row" }, keep, ...by, back), slider, meaning);
  node.chosen = () => (exact.reportValidity() ? { k: Number(exact.value), ranking: ranking.value } : null);
  node.start = () => moveTo(summary.k);
  return node;
}

function rankingChoice(summary) {
  const options = summary.rankings.map(({ name, label }) => {
    const text = name === SELECTION ? `the job's: ${label}` : label;
    return element("option", { value: name, selected: name === SELECTION }, text);
  });
  return element("select", { id: "ranking" }, ...options);
}

function histograms(summary, labels) {
  const drawn = summary.rankings.filter(({ name }) => name in summary.histograms);
  const found = drawn.map(({ name, meaning }) => [name, histogram(name, labels[name], summary.histograms[name], meaning)]);
  const node = element("div", { class: "charts" }, ...found.map(([, chart]) => chart.node));
  const move = ({ cuts }) => found.forEach(([name, chart]) => chart.move(cuts[name]));
  return { node, move };
}

function densities(summary, labels) {
  const holder = element("div", { class: "charts one" });
  const options = summary.densities.map(({ up }, i) => element("option", { value: i }, labels[up]));
  const choice = element("select", { id: "density" }, ...options);
  let [chart, shown, at] = [null, null, null];
  const move = ({ cuts }) => {
    at = cuts;
    if (chart) chart.move(at[shown.across], at[shown.up]);
  };
  const show = () => {
    shown = summary.densities[choice.value];
    const [across, up] = [shown.across, shown.up].map((name) => summary.histograms[name]);
    const names = [labels[shown.across], labels[shown.up]];
    chart = density(across.axis, up.axis, shown.cells, across.counts.length, names);
    holder.replaceChildren(chart.node);
    if (at) chart.move(at[shown.across], at[shown.up]);
  };
  choice.addEventListener("change", show);
  if (!summary.densities.length) return { node: element("p", {}, "The job has one score only."), move };
  show();
  return { node: element("div", {}, element("label", { for: "density" }, "Show "), choice, holder), move };
}

function matrix(summary) {
  const names = summary.rankings.map((ranking) => ranking.label);
  const cells = names.map((_, row) => names.map((_, column) => element("td", { class: row === column ? "self" : "" })));
  const head = element("tr", {}, element("td", {}), ...names.map((name) => element("th", { scope: "col" }, name)));
  const rows = names.map((name, i) => element("tr", {}, element("th", { scope: "row" }, name), ...cells[i]));
  const move = ({ k, overlaps }) => {
    cells.forEach((line, row) =>
      line.forEach((cell, column) => {
        const share = row === column ? 1 : overlapOf(overlaps, names.length, row, column) / k;
        cell.textContent = (100 * share).toFixed(share === 1 ? 0 : 1);
        cell.style.setProperty("--share", share.toFixed(3));
      }),
    );
  };
  const caption = element("caption", {}, "Samples that the best k of two rankings share, per cent");
  const table = element("table", { class: "matrix" }, caption, element("thead", {}, head), element("tbody", {}, ...rows));
  return { node: element("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Overlaps" }, table), move };
}

/**
 * Return the samples that enter and leave the job's selection at another k or ranking. One request is under way at a
 * time, then the newest: the service answers them one after another anyway.
 */
function edgeSheets(changes, open, moveAll) {
  const node = element("div", { class: "charts", "aria-live": "polite", "aria-busy": "false" });
  let [asking, wanted] = [false, null];
  const answer = async ({ k, ranking, at }) => {
    try {
      const found = await changes(k, ranking);
      if (wanted) return;
      node.replaceChildren(...edges(found, open));
      moveAll(found);
      node.dataset.k = k;
      node.dataset.milliseconds = (performance.now() - at).toFixed(1);
    } catch (error) {
      node.replaceChildren(element("p", { class: "failed", role: "alert" }, String(error.message)));
    }
  };
  const move = async (k, ranking) => {
    wanted = { k, ranking, at: performance.now() };
    node.setAttribute("aria-busy", "true");
    if (asking) return;
    asking = true;
    while (wanted) {
      const question = wanted;
      wanted = null;
      await answer(question);
    }
    asking = false;
    node.setAttribute("aria-busy", "false");
  };
  return { node, move };
}

function edges(found, open) {
  return [
    ["entering", "Enter", found.enter],
    ["leaving", "Leave", found.leave],
  ].map(([kind, title, samples]) => {
    const shown = samples.length < found[kind] ? `, the ${samples.length} next to the cut` : "";
    const head = element("h3", { id: kind }, `${title}: ${short(found[kind])}${shown}`);
    return element("div", { class: "card" }, head, sheet(samples, found.score, open));
  });
}

function sheets(summary, open) {
  const holder = element("div", {});
  const choices = summary.sheets.map((each, i) => {
    const input = element("input", { type: "radio", name: "sheet", id: `sheet-${each.name}`, checked: i === 0 });
    const show = () => holder.replaceChildren(sheet(each.samples, each.score, open, each.reasons));
    input.addEventListener("change", show);
    if (i === 0) show();
    return element("label", { class: "choice" }, input, each.title);
  });
  return element("div", {}, element("fieldset", {}, element("legend", {}, "Contact sheet"), ...choices), holder);
}
