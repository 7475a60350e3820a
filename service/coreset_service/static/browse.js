// All samples of a job with a search, and its groups with their kept counts.
"use strict";

const PAGE_SIZE = 24;

/** Return a section with the job's samples in a chosen order, filtered by a text in the caption. */
function browser(base, summary, open) {
  const scored = summary.rankings.filter(({ name }) => name !== SELECTION);
  const options = scored.flatMap(({ name, label }) => [
    element("option", { value: `${name} false` }, `highest ${label} first`),
    element("option", { value: `${name} true` }, `lowest ${label} first`),
  ]);
  const order = element("select", { id: "order", "aria-label": "Order" }, ...options);
  const search = element("input", { id: "search", type: "search", maxlength: 200, placeholder: "text of the caption" });
  const meaning = element("p", { class: "hint" });
  const tiles = element("div", { id: "found", "aria-live": "polite" });
  const more = element("button", { type: "button", id: "more", hidden: true }, "Show more");
  let [token, asked] = [null, 0];
  const load = async (again) => {
    const [by, ascending] = order.value.split(" ");
    const request = (asked += 1);
    meaning.textContent = scored.find(({ name }) => name === by).meaning;
    const query = new URLSearchParams({ by, ascending, page_size: PAGE_SIZE });
    if (search.value.trim()) query.set("caption", search.value.trim());
    if (token && !again) query.set("page_token", token);
    try {
      const page = await json(`${base}/samples?${query}`);
      if (request !== asked) return; // a newer search is under way
      if (again) tiles.replaceChildren();
      if (again || page.samples.length) tiles.append(sheet(page.samples, by, open));
      token = page.next_page_token;
      more.hidden = !token;
    } catch (error) {
      tiles.replaceChildren(element("p", { class: "failed", role: "alert" }, error.message));
      more.hidden = true;
    }
  };
  const form = element("form", { class: "row", role: "search" }, element("label", { for: "search" }, "Search "), search, order);
  form.append(element("button", { type: "submit" }, "Search"));
  form.addEventListener("submit", (event) => (event.preventDefault(), load(true)));
  order.addEventListener("change", () => load(true));
  more.addEventListener("click", () => load(false));
  load(true);
  const legend = element("p", { class: "soft" }, element("span", { class: "key kept" }, "kept"), element("span", { class: "key all" }, "left out"));
  return section("All samples", form, meaning, legend, tiles, more);
}

/** Return a section with the groups of a field: their samples, how many are kept, and an example. */
function groups(base, first) {
  const names = first.fields.map((name) => element("option", { value: name }, name.replace("metadata_", "")));
  const choice = element("select", { id: "field" }, ...names);
  const holder = element("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Kept by group" });
  const show = (counts) => holder.replaceChildren(groupTable(counts));
  choice.addEventListener("change", async () => {
    try {
      show(await json(`${base}/groups?field=${encodeURIComponent(choice.value)}`));
    } catch (error) {
      holder.replaceChildren(element("p", { class: "failed", role: "alert" }, error.message));
    }
  });
  show(first);
  return section("Kept by group", element("p", {}, element("label", { for: "field" }, "Group by "), choice), holder);
}

function groupTable({ field, groups: rows, total }) {
  const name = field.replace("metadata_", "");
  const heads = [name, "samples", "kept", "share kept", "its best sample's caption"];
  const head = heads.map((text, i) => element("th", { scope: "col", class: i > 0 && i < 4 ? "n" : "" }, text));
  const lines = rows.map(({ value, samples, kept, example }) => {
    const share = element("meter", { min: 0, max: samples, value: kept, "aria-label": `share kept of ${value}` });
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, value ?? "none"),
      element("td", { class: "n" }, short(samples)),
      element("td", { class: "n" }, short(kept)),
      element("td", { class: "n" }, `${((100 * kept) / samples).toFixed(1)} % `, share),
      element("td", {}, element("span", { class: "caption" }, example ?? "")),
    );
  });
  const shown = rows.length < total ? `the ${short(rows.length)} largest of ${short(total)}` : `${short(total)}`;
  const caption = element("caption", {}, `Groups by ${name}: ${shown}`);
  return element("table", {}, caption, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines));
}
