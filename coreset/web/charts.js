// SVG charts of counts. Texts are set as text nodes only, so that captions and names are never markup.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const FRAME = { width: 460, height: 250, left: 56, right: 12, top: 12, bottom: 40 };

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Return an HTML element. Attributes that are functions become listeners, children that are strings become texts. */
function element(name, attributes = {}, ...children) {
  return put(document.createElement(name), attributes, children);
}

function drawn(name, attributes = {}, ...children) {
  return put(document.createElementNS(SVG, name), attributes, children);
}

/** Return a number in a few characters. */
function short(value) {
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return (value || 0).toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(4)));
}

/** Return about `count` round numbers from low to high. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return found;
}

/** Return an SVG with axes over x = [low, high] and y = [low, high], and its scales. */
function axes(x, y, names, title) {
  const { width, height, left, right, top, bottom } = FRAME;
  const across = (value) => left + ((value - x[0]) / (x[1] - x[0])) * (width - left - right);
  const up = (value) => height - bottom - ((value - y[0]) / (y[1] - y[0])) * (height - top - bottom);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  for (const tick of ticks(...x, 5)) {
    svg.append(drawn("text", { x: across(tick), y: height - bottom + 16, class: "tick middle" }, short(tick)));
    svg.append(drawn("line", { x1: across(tick), x2: across(tick), y1: top, y2: height - bottom, class: "grid" }));
  }
  for (const tick of ticks(...y, 4)) {
    svg.append(drawn("text", { x: left - 6, y: up(tick) + 4, class: "tick end" }, short(tick)));
    svg.append(drawn("line", { x1: left, x2: width - right, y1: up(tick), y2: up(tick), class: "grid" }));
  }
  svg.append(drawn("text", { x: (left + width - right) / 2, y: height - 6, class: "name middle" }, names[0]));
  const turn = `rotate(-90 12 ${(top + height - bottom) / 2})`;
  const place = { x: 12, y: (top + height - bottom) / 2, class: "name middle", transform: turn };
  svg.append(drawn("text", place, names[1]));
  return { svg, across, up };
}

function inside(value, [low, high]) {
  return Math.min(Math.max(value, low), high);
}

/** Add a line at the cut; return the function that moves it. */
function cutLine(frame, range, upright) {
  const line = drawn("line", { class: "cut" });
  const { width, height, left, right, top, bottom } = FRAME;
  frame.svg.append(line);
  return (value) => {
    const at = (upright ? frame.across : frame.up)(inside(value, range));
    const ends = upright ? [at, at, top, height - bottom] : [left, width - right, at, at];
    ["x1", "x2", "y1", "y2"].forEach((name, i) => line.setAttribute(name, ends[i]));
  };
}

/** Return bars of all samples with those of the selection in front, and a function that moves the cut. */
function histogram(name, label, { axis, counts, kept }, meaning) {
  const x = [axis.low, axis.high];
  const y = [0, Math.max(1, ...counts) * 1.05];
  const frame = axes(x, y, [label, "samples"], `Distribution of ${label}`);
  const wide = (x[1] - x[0]) / counts.length;
  counts.forEach((count, i) => {
    const place = { x: frame.across(x[0] + i * wide), width: frame.across(x[0] + wide) - frame.across(x[0]) - 0.5 };
    for (const [kind, number] of [["all", count], ["kept", kept[i]]]) {
      const bar = { ...place, y: frame.up(number), height: frame.up(0) - frame.up(number), class: `bar ${kind}` };
      if (number) frame.svg.append(drawn("rect", bar));
    }
    const range = `${short(x[0] + i * wide)} to ${short(x[0] + (i + 1) * wide)}: ${short(count)}, kept ${short(kept[i])}`;
    const whole = { ...place, y: FRAME.top, height: frame.up(0) - FRAME.top, class: "hover" };
    frame.svg.append(drawn("rect", whole, drawn("title", {}, range)));
  });
  const caption = element("figcaption", {}, label, element("span", { class: "meaning" }, meaning));
  return { node: element("figure", { "data-score": name }, caption, frame.svg), move: cutLine(frame, x, true) };
}

/** Return cells shaded by the logarithm of their counts, and a function that moves both cuts. */
function density(across, up, cells, bins, labels) {
  const x = [across.low, across.high];
  const y = [up.low, up.high];
  const frame = axes(x, y, labels, `${labels[1]} against ${labels[0]}`);
  const most = Math.log1p(Math.max(1, ...cells.map((cell) => cell[2])));
  const [wide, high] = [(x[1] - x[0]) / bins, (y[1] - y[0]) / bins];
  const width = frame.across(x[0] + wide) - frame.across(x[0]);
  const height = frame.up(y[0]) - frame.up(y[0] + high);
  for (const [column, row, count] of cells) {
    const place = { x: frame.across(x[0] + column * wide), y: frame.up(y[0] + (row + 1) * high), width, height };
    const shade = { class: "cell", "fill-opacity": (0.08 + 0.92 * (Math.log1p(count) / most)).toFixed(3) };
    const title = drawn("title", {}, `${short(count)} samples`);
    frame.svg.append(drawn("rect", { ...place, ...shade }, title));
  }
  const [first, second] = [cutLine(frame, x, true), cutLine(frame, y, false)];
  const caption = element("figcaption", {}, `${labels[1]} against ${labels[0]}; each line is that score's cut at k`);
  return { node: element("figure", { class: "density" }, caption, frame.svg), move: (a, b) => [first(a), second(b)] };
}

/**
 * Return lines over the checkpoints' steps, without a zero line, and a dashed one at a step.
 * series: [class, label, values], null where there is no value.
 */
function lossCurves(steps, series, at, label) {
  const known = series.flatMap(([, , values]) => values).filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const room = (high - low || 1) * 0.08;
  const last = steps[steps.length - 1];
  const x = steps.length > 1 ? [steps[0], last] : [last - 1, last + 1];
  const frame = axes(x, [low - room, high + room], ["step", "loss"], label);
  for (const [kind, name, values] of series) {
    const points = values.map((value, i) => [steps[i], value]).filter(([, value]) => value !== null);
    const path = points.map(([step, value]) => `${frame.across(step)},${frame.up(value)}`).join(" ");
    frame.svg.append(drawn("polyline", { points: path, class: `series ${kind}` }));
    for (const [step, value] of points) {
      const tooltip = drawn("title", {}, `${name}, step ${short(step)}: ${short(value)}`);
      const place = { cx: frame.across(step), cy: frame.up(value), r: 3.5, class: `series ${kind}` };
      frame.svg.append(drawn("circle", place, tooltip));
    }
  }
  if (at !== null) cutLine(frame, x, true)(at);
  return element("figure", { "data-chart": "losses" }, element("figcaption", {}, label), frame.svg);
}

/** Return a line over the checkpoints' steps. */
function line(steps, values, label) {
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const room = (high - low || 1) * 0.08;
  const last = steps[steps.length - 1];
  const x = steps.length > 1 ? [steps[0], last] : [last - 1, last + 1];
  const frame = axes(x, [low - room, high + room], ["step", label], `${label} by checkpoint`);
  const ends = { x1: frame.across(x[0]), x2: frame.across(x[1]) };
  frame.svg.append(drawn("line", { ...ends, y1: frame.up(0), y2: frame.up(0), class: "zero" }));
  const points = values.map((value, i) => [frame.across(steps[i]), frame.up(value)]);
  frame.svg.append(drawn("polyline", { points: points.map((point) => point.join()).join(" "), class: "series" }));
  points.forEach(([cx, cy], i) => {
    const tooltip = drawn("title", {}, `step ${short(steps[i])}: ${short(values[i])}`);
    frame.svg.append(drawn("circle", { cx, cy, r: 3.5, class: "series" }, tooltip));
  });
  return element("figure", {}, element("figcaption", {}, `${label} by checkpoint`), frame.svg);
}
