// Evaluation of a job's selections: quality over the kept share, with intervals, and a table of differences.
"use strict";

const MEASURES = {
  accuracy: "Zero-shot accuracy, per cent",
  recall: "Mean recall, per cent",
};
const FULL = "full";
const COLOURS = 8;
const ROW = 24;

/** Show an evaluation below `root`; null shows nothing. */
function showEvaluation(root, evaluation) {
  if (!evaluation) return root.replaceChildren();
  const what = MEASURES[evaluation.measured];
  const names = Object.keys(evaluation.rules);
  const cuts = evaluation.cuts.filter((cut) => cut.points);
  const fractions = [...new Set(cuts.filter((cut) => cut.selection !== FULL).map((cut) => cut.fraction))];
  const summary = `Small models trained from scratch, ${short(evaluation.seeds)} seeds, ${short(evaluation.samples_seen)} samples
    seen each, tested on ${short(evaluation.test_samples)} held-out samples. Intervals: ${evaluation.confidence}.`;
  const table = element("div", { class: "card scroll", tabindex: 0, role: "group", "aria-label": "Evaluation" });
  const figures = cuts.length ? [atShare(cuts, fractions, names, what, table)] : [];
  if (fractions.length > 1) figures.unshift(overShares(cuts, fractions, names, what));
  const failed = evaluation.failed.length;
  const parts = [element("p", { class: "soft" }, summary)];
  if (failed) parts.push(element("p", { class: "warning" }, `${failed} proxies failed; the first: ${evaluation.failed[0].message}`));
  if (cuts.length) parts.push(element("div", { class: figures.length > 1 ? "charts" : "charts one" }, ...figures), table);
  root.replaceChildren(section("Quality of the selections", ...parts));
}

function colourOf(selection, names) {
  const place = names.indexOf(selection);
  return `s${place % COLOURS}${place >= COLOURS ? " again" : ""}`;
}

function percent(fraction) {
  return `${short(Number((100 * fraction).toPrecision(3)))} %`;
}

/** Return the range of some cuts' means and intervals; wide intervals are cut off so that the rest stays visible. */
function reach(cuts) {
  const means = cuts.map((cut) => cut.points.mean);
  const [low, high] = [Math.min(...means), Math.max(...means)];
  const room = Math.max(high - low, 1);
  const ends = cuts.flatMap(({ points }) => [points.low ?? points.mean, points.high ?? points.mean]);
  return [Math.max(Math.min(...ends), low - room) - 0.05 * room, Math.min(Math.max(...ends), high + room) + 0.05 * room];
}

function inWords({ selection, k, points }) {
  const range = points.low === null ? "" : `, ${points.low.toFixed(2)} to ${points.high.toFixed(2)}`;
  return `${selection}, k = ${short(k)}: ${points.mean.toFixed(2)}${range}`;
}

/** Return lines over the kept share, with the whole pool as a level. */
function overShares(cuts, fractions, names, what) {
  const spread = fractions[fractions.length - 1] - fractions[0];
  const x = [100 * (fractions[0] - 0.08 * spread), 100 * (fractions[fractions.length - 1] + 0.08 * spread)];
  const y = reach(cuts);
  const frame = axes(x, y, ["kept, per cent of the pool", what], `${what} over the kept share`);
  for (const cut of cuts.filter(({ selection }) => selection === FULL)) {
    const ends = { x1: frame.across(x[0]), x2: frame.across(x[1]), y1: frame.up(cut.points.mean), y2: frame.up(cut.points.mean) };
    frame.svg.append(drawn("line", { ...ends, class: "level" }, drawn("title", {}, inWords(cut))));
  }
  names.forEach((name, place) => {
    const own = cuts.filter(({ selection }) => selection === name).sort((a, b) => a.fraction - b.fraction);
    const aside = 3 * (place - (names.length - 1) / 2);
    const points = own.map((cut) => [frame.across(100 * cut.fraction) + aside, frame.up(cut.points.mean)]);
    const colour = colourOf(name, names);
    frame.svg.append(drawn("polyline", { points: points.map((point) => point.join()).join(" "), class: `path ${colour}` }));
    own.forEach((cut, i) => frame.svg.append(...marked(cut, points[i], frame, y, colour)));
  });
  const keys = names.map((name) => element("span", { class: `key ${colourOf(name, names)}` }, name));
  const legend = element("div", {}, ...keys, element("span", { class: "key level" }, "the whole pool"));
  return element("figure", {}, element("figcaption", {}, "By kept share"), frame.svg, legend);
}

/** Return a point with its vertical interval. */
function marked(cut, [cx, cy], frame, range, colour) {
  const dot = drawn("circle", { cx, cy, r: 3.5, class: `dot ${colour}` }, drawn("title", {}, inWords(cut)));
  if (cut.points.low === null) return [dot];
  const [y1, y2] = [cut.points.low, cut.points.high].map((end) => frame.up(inside(end, range)));
  return [drawn("line", { x1: cx, x2: cx, y1, y2, class: `path ${colour}` }), dot];
}

/** Return a line per selection at one share, the best first, with its table and a choice of the share. */
function atShare(cuts, fractions, names, what, table) {
  const holder = element("div", {});
  const show = (fraction) => {
    const own = cuts.filter((cut) => cut.selection === FULL || cut.fraction === fraction);
    own.sort((a, b) => b.points.mean - a.points.mean);
    holder.replaceChildren(dotPlot(own, names, what));
    table.replaceChildren(evaluationTable(own, what));
  };
  const options = fractions.map((fraction, i) => element("option", { value: i }, percent(fraction)));
  const choice = element("select", { id: "share" }, ...options);
  choice.addEventListener("change", () => show(fractions[choice.value]));
  const several = fractions.length > 1;
  const title = several
    ? element("figcaption", {}, element("label", { for: "share" }, "Kept: "), choice)
    : element("figcaption", {}, `${fractions.length ? percent(fractions[0]) : "all"} kept`);
  show(fractions[0]);
  return element("figure", {}, title, holder);
}

function dotPlot(cuts, names, what) {
  const { width, right } = FRAME;
  const [left, top, bottom] = [150, 8, 40];
  const height = top + bottom + ROW * cuts.length;
  const range = reach(cuts);
  const across = (value) => left + ((inside(value, range) - range[0]) / (range[1] - range[0])) * (width - left - right);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${what} by selection` });
  for (const tick of ticks(...range, 4)) {
    svg.append(drawn("line", { x1: across(tick), x2: across(tick), y1: top, y2: height - bottom, class: "grid" }));
    svg.append(drawn("text", { x: across(tick), y: height - bottom + 16, class: "tick middle" }, short(tick)));
  }
  svg.append(drawn("text", { x: (left + width - right) / 2, y: height - 6, class: "name middle" }, what));
  cuts.forEach((cut, i) => {
    const y = top + ROW * (i + 0.5);
    const colour = cut.selection === FULL ? "s7" : colourOf(cut.selection, names);
    const title = drawn("title", {}, inWords(cut));
    svg.append(drawn("text", { x: left - 8, y: y + 4, class: "name end" }, cut.selection));
    if (cut.points.low !== null) {
      const ends = { x1: across(cut.points.low), x2: across(cut.points.high), y1: y, y2: y };
      svg.append(drawn("line", { ...ends, class: `path ${colour}` }));
    }
    svg.append(drawn("circle", { cx: across(cut.points.mean), cy: y, r: 4, class: `dot ${colour}` }, title));
  });
  return svg;
}

function evaluationTable(cuts, what) {
  const rivals = [...new Set(cuts.flatMap((cut) => Object.keys(cut.against)))];
  const heads = ["selection", "kept", "k", what, ...rivals.map((name) => `above ${name}`)];
  const rows = cuts.map((cut) => {
    const differences = rivals.map((name) => withHalf(cut.against[name], true));
    const cells = [percent(cut.fraction), short(cut.k), withHalf(cut.points), ...differences];
    const values = cells.map((text) => element("td", { class: "n" }, text));
    return element("tr", {}, element("th", { scope: "row" }, cut.selection), ...values);
  });
  const head = heads.map((text, i) => element("th", { scope: "col", class: i ? "n" : "" }, text));
  const caption = element("caption", {}, "Means over the seeds ± half the width of their intervals; differences are paired by seed");
  return element("table", {}, caption, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
}

function withHalf(found, signed = false) {
  if (!found) return "–";
  const mean = `${signed && found.mean > 0 ? "+" : ""}${found.mean.toFixed(2)}`;
  return found.high === null ? mean : `${mean} ± ${(found.high - found.mean).toFixed(2)}`;
}
