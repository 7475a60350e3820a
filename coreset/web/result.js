// A job's result: the slider for k, the charts that it moves, the overlap of the rankings, and contact sheets.
"use strict";

const SELECTION = "selection";

/** Return the entry of `summary.overlaps` for two rankings. */
function overlapOf(summary, one, other) {
  const total = summary.rankings.length;
  const [low, high] = one < other ? [one, other] : [other, one];
  return summary.overlaps[low * total - (low * (low + 1)) / 2 + high - low - 1];
}

/**
 * Show a summary below `root`.
 * changes: async (k, ranking, signal) -> what enters and leaves; without it the slider shows no samples.
 */
function showResult(root, summary, changes = null) {
  const open = sampleDialog(summary);
  const labels = Object.fromEntries(summary.rankings.map((ranking) => [ranking.name, ranking.label]));
  const parts = [histograms(summary, labels), densities(summary, labels), matrix(summary)];
  const edges = changes ? edgeSheets(changes, open) : null;
  const slider = kSlider(summary, labels, edges !== null, (index, ranking) => {
    for (const part of parts) part.move(index);
    if (edges) edges.move(summary.ks[index], ranking);
  });
  const drawnFrom = summary.looked < summary.rankable ? `, from a draw of ${short(summary.looked)} samples` : "";
  root.replaceChildren(
    section("How many to keep", slider, ...(edges ? [edges.node] : [])),
    section(`Two scores at a time${drawnFrom}`, parts[1].node),
    section(`How much the rankings share at this k${drawnFrom}`, parts[2].node),
    section(`Every score${drawnFrom}`, legend(), parts[0].node),
  );
  const looked = section("Samples to look at", sheets(summary, open));
  if (summary.sheets.length && summary.sheets[0].name === "suspects") root.prepend(looked);
  else root.append(looked);
  slider.start();
}

function section(title, ...children) {
  return element("section", {}, element("h2", {}, title), ...children);
}

function legend() {
  const words = [["all", "all samples"], ["kept", "kept by the job's selection"], ["cut", "the score's own cut at k"]];
  return element("p", { class: "soft" }, ...words.map(([kind, text]) => element("span", { class: `key ${kind}` }, text)));
}

function kSlider(summary, labels, withRanking, moved) {
  const start = summary.ks.indexOf(summary.k);
  const input = element("input", { id: "k", type: "range", min: 0, max: summary.ks.length - 1, step: 1 });
  input.value = start;
  const told = element("output", { for: "k", id: "k-told" });
  const options = summary.rankings.map(({ name, label }) => {
    const text = name === SELECTION ? `the job's: ${label}` : label;
    return element("option", { value: name, selected: name === SELECTION }, text);
  });
  const ranking = element("select", { id: "ranking" }, ...options);
  const back = element("button", { type: "button" }, "Back to the job's k");
  const move = () => {
    const k = summary.ks[input.value];
    const text = `${short(k)} of ${short(summary.rankable)} samples, ${((100 * k) / summary.rankable).toFixed(1)} %`;
    told.textContent = text;
    input.setAttribute("aria-valuetext", text);
    moved(Number(input.value), ranking.value);
  };
  back.addEventListener("click", () => ((input.value = start), move()));
  input.addEventListener("input", move);
  ranking.addEventListener("change", move);
  const by = withRanking ? [element("label", { for: "ranking" }, "ranked by "), ranking] : [];
  const line = element("div", { class: "row" }, element("label", { for: "k" }, "Keep"), told, ...by, back);
  const node = element("div", { class: "card" }, line, input);
  node.start = move;
  return node;
}

function histograms(summary, labels) {
  const names = summary.rankings.map((ranking) => ranking.name).filter((name) => name in summary.histograms);
  const found = names.map((name) => [name, histogram(name, labels[name], summary.histograms[name])]);
  const node = element("div", { class: "charts" }, ...found.map(([, chart]) => chart.node));
  const move = (index) => found.forEach(([name, chart]) => chart.move(summary.cuts[name][index]));
  return { node, move };
}

function densities(summary, labels) {
  const holder = element("div", { class: "charts one" });
  const options = summary.densities.map(({ up }, i) => element("option", { value: i }, labels[up]));
  const choice = element("select", { id: "density" }, ...options);
  let [chart, shown, at] = [null, null, 0];
  const move = (index) => {
    at = index;
    if (chart) chart.move(summary.cuts[shown.across][at], summary.cuts[shown.up][at]);
  };
  const show = () => {
    shown = summary.densities[choice.value];
    const [across, up] = [shown.across, shown.up].map((name) => summary.histograms[name]);
    const names = [labels[shown.across], labels[shown.up]];
    chart = density(across.axis, up.axis, shown.cells, across.counts.length, names);
    holder.replaceChildren(chart.node);
    move(at);
  };
  choice.addEventListener("change", show);
  if (!summary.densities.length) return { node: element("p", {}, "There is one score only."), move };
  show();
  return { node: element("div", {}, element("label", { for: "density" }, "Show "), choice, holder), move };
}

function matrix(summary) {
  const names = summary.rankings.map((ranking) => ranking.label);
  const cells = names.map((_, row) => names.map((_, column) => element("td", { class: row === column ? "self" : "" })));
  const head = element("tr", {}, element("td", {}), ...names.map((name) => element("th", { scope: "col" }, name)));
  const rows = names.map((name, i) => element("tr", {}, element("th", { scope: "row" }, name), ...cells[i]));
  const move = (index) => {
    const k = summary.ks[index];
    cells.forEach((line, row) =>
      line.forEach((cell, column) => {
        const share = row === column ? 1 : overlapOf(summary, row, column)[index] / k;
        cell.textContent = (100 * share).toFixed(share === 1 ? 0 : 1);
        cell.style.setProperty("--share", share.toFixed(3));
      }),
    );
  };
  const caption = element("caption", {}, "Per cent of the one's best k that are among the other's best k");
  const table = element("table", { class: "matrix" }, caption, element("thead", {}, head), element("tbody", {}, ...rows));
  return { node: element("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Overlaps" }, table), move };
}

/** What enters and leaves the job's selection when it is cut at another k, or by another ranking. */
function edgeSheets(changes, open) {
  const node = element("div", { class: "charts", "aria-live": "polite", "aria-busy": "false" });
  let latest = new AbortController();
  const move = async (k, ranking) => {
    latest.abort();
    latest = new AbortController();
    const [started, { signal }] = [performance.now(), latest];
    node.setAttribute("aria-busy", "true");
    try {
      const found = await changes(k, ranking, signal);
      if (signal.aborted) return;
      node.replaceChildren(...edges(found, open));
      node.setAttribute("aria-busy", "false");
      node.dataset.k = k;
      node.dataset.milliseconds = (performance.now() - started).toFixed(1);
    } catch (error) {
      if (!signal.aborted) node.replaceChildren(element("p", { class: "failed", role: "alert" }, String(error.message)));
    }
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
