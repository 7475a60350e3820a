// Contact sheets, and the dialog about one sample.
"use strict";

function copyButton(text, what) {
  const button = element("button", { type: "button", class: "copy", "aria-label": `Copy ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    const done = await copied(text, button);
    button.textContent = done ? "Copied" : "Select it by hand";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

async function copied(text, near) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = element("textarea", { class: "skip" }); // pages over plain http have no clipboard
    field.value = text;
    near.after(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    near.focus();
    return done;
  }
}

function picture(sample, className) {
  if (!sample.thumbnail) return element("span", { class: `${className} none` }, "no picture");
  return element("img", { class: className, src: sample.thumbnail, alt: "", decoding: "async" });
}

/** Return a grid of buttons that open a sample, with its reason or score below. */
function sheet(samples, score, open, reasons = []) {
  if (!samples.length) return element("p", { class: "soft" }, "No samples here.");
  const tiles = samples.map((sample, i) => {
    const value = `${score} ${short(sample.scores[score] ?? NaN)}`;
    const number = element("span", { class: "soft number" }, reasons[i] ?? value);
    const caption = element("span", { class: "caption" }, sample.caption || "");
    const description = `${sample.caption || "no caption"}. Open ${sample.uid}`;
    const attributes = { type: "button", class: "tile", title: sample.caption || "", "aria-label": description };
    const tile = element("button", attributes, picture(sample, "thumbnail"), caption, number);
    tile.addEventListener("click", () => open(sample));
    return element("li", { class: sample.kept ? "kept" : "dropped" }, tile);
  });
  return element("ul", { class: "sheet" }, ...tiles);
}

function fact(name, value, copy) {
  return [element("dt", {}, name), element("dd", { class: copy ? "id" : "" }, value, copy ? copyButton(value, name) : null)];
}

/** Make the dialog, and return a function that opens it for a sample. */
function sampleDialog(summary) {
  const body = element("div", {});
  const close = element("button", { type: "button", class: "close", "aria-label": "Close" }, "Close");
  const dialog = element("dialog", { "aria-label": "Sample" }, close, body);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  return (sample) => {
    body.replaceChildren(...sampleFacts(summary, sample));
    dialog.showModal();
  };
}

function sampleFacts(summary, sample) {
  const scored = summary.rankings.filter(({ name }) => name in sample.scores);
  const rows = scored.map(({ name, label, meaning }) => {
    const value = sample.scores[name];
    const better = summary.cuts[name].findIndex((cut) => cut <= value); // cuts descend as k grows
    const share = better < 0 ? 100 : Math.ceil((100 * summary.ks[better]) / summary.rankable);
    const named = element("td", {}, label, element("span", { class: "meaning" }, meaning));
    return element("tr", {}, named, ...[short(value), `${share} %`].map((text) => element("td", { class: "n" }, text)));
  });
  const estimators = scored.filter(({ name }) => name in sample.by_checkpoint);
  const heads = ["score", "value", "among the best"].map((text) => element("th", { scope: "col" }, text));
  return [
    element("div", { class: "row" }, picture(sample, "large"), element("p", { class: "whole" }, sample.caption || "")),
    element(
      "dl",
      {},
      ...fact("uid", sample.uid, true),
      ...fact("shard", sample.uri || sample.shard, true),
      ...fact("key", sample.key, true),
      ...fact("row", short(sample.row)),
      ...fact("selection", sample.kept ? "kept" : "not kept"),
    ),
    element(
      "div",
      { class: "charts" },
      element("table", {}, element("tr", {}, ...heads), ...rows),
      ...estimators.map(({ name, label }) => line(summary.steps, sample.by_checkpoint[name], label)),
    ),
  ];
}
