// The leaderboard: filtered, sorted and drawn a page at a time; a row opens its detail.

const data = embedded("table-data");
const at = Object.fromEntries(data.fields.map((name, i) => [name, i]));
const label = (row, field) => data.names[field][row[at[field]]];
const collator = new Intl.Collator("en", { numeric: true });
const SECOND = METRICS.length;
const [NOT_BELOW, UNTESTED, TIES, CONSTANT, REVERSED] = [0, 1, 2, 3, 4].map((i) => 2 * SECOND + i);
const PRINTED = 2000;
const TRIVIAL = { "": "", yes: "yes", no: "no, worse", undecided: "not shown", untested: "untested",
  constant: "no, constant", trivial: "trivial itself" };

const COLUMNS = [
  { field: "pair", head: "Pair" }, { field: "detector", head: "Detector" },
  { field: "score", head: "Score" }, { field: "category", head: "Category" },
  { field: "recipe", head: "Recipe" }, { field: "seeds", head: "Seeds", number: true },
  { field: "n", head: "n", number: true },
  ...METRICS.map((head, i) => ({ field: head.toLowerCase(), head, number: true, metric: i,
    arrow: i < 2 ? "↑" : "↓" })),
  { field: "trivial", head: "Beats trivial" },
];

const state = { order: data.rows, shown: [], page: 0, size: 100, column: null, descending: false,
  open: null };

// ---------------------------------------------------------------------- filter and sort
const FILTERS = ["pair", "detector", "category", "scale"];
const form = byId("filters");
let haystack = null;

function prepareFilters() {
  for (const field of FILTERS) {
    const names = data.names[field];
    const listed = names.map((_, i) => i).sort((a, b) => collator.compare(names[a], names[b]));
    form.elements[field].append(h("option", { value: "" }, "all"),
      ...listed.map((i) => h("option", { value: String(i) }, names[i] || "none")));
  }
}

function searchable() {
  haystack ??= new Map(data.rows.map((row) => [row,
    ["pair", "detector", "score", "category", "recipe"].map((f) => label(row, f)).join(" ").toLowerCase()]));
  return haystack;
}

function applyFilters() {
  const chosen = FILTERS.map((field) => [at[field], form.elements[field].value])
    .filter(([, value]) => value !== "").map(([place, value]) => [place, Number(value)]);
  const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const texts = words.length ? searchable() : null;
  state.shown = state.order.filter((row) =>
    chosen.every(([place, value]) => row[place] === value)
    && words.every((word) => texts.get(row).includes(word)));
  state.size = Number(form.elements.size.value);
  state.page = 0;
  draw();
}

function sortKey({ field, metric }) {
  if (metric !== undefined) return (row) => row[at[field]][0];
  if (!(field in data.names)) {
    if (field !== "trivial") return (row) => row[at[field]];
    const grades = Object.keys(TRIVIAL);
    return (row) => grades.indexOf(row[at.trivial]);
  }
  const names = data.names[field];
  const ranks = [];
  names.map((_, i) => i).sort((a, b) => collator.compare(names[a], names[b]))
    .forEach((i, rank) => { ranks[i] = rank; });
  return (row) => ranks[row[at[field]]];
}

// The first press sorts a metric from its best value on, anything else upwards.
function sortBy(column) {
  const again = state.column === column;
  state.descending = again ? !state.descending : column.arrow === "↑";
  state.column = column;
  const value = sortKey(column);
  const sign = state.descending ? -1 : 1;
  state.order = [...data.rows].sort((a, b) => sign * (value(a) - value(b)));
  drawHead();
  applyFilters();
}

// ---------------------------------------------------------------------- drawing
function drawHead() {
  const cells = COLUMNS.map((column) => {
    const active = state.column === column;
    const head = column.head + (column.arrow ? ` ${column.arrow}` : "");
    return h("th", { scope: "col", class: column.number ? "r" : null,
      "aria-sort": active ? (state.descending ? "descending" : "ascending") : null },
    h("button", { type: "button", class: "sort", "data-field": column.field,
      onclick: () => {
        sortBy(column);
        document.querySelector(`#board [data-field="${column.field}"]`).focus();
      } },
    head,
    h("span", { "aria-hidden": "true", class: "sign" }, active ? (state.descending ? "▼" : "▲") : "")),
    h("span", { "aria-hidden": "true", class: "on-paper" }, head)); // browsers repeat no buttons
  });
  byId("board").tHead.replaceChildren(h("tr", {}, cells));
}

function metricCell(row, i) {
  const [value, low, high] = row[at[METRICS[i].toLowerCase()]];
  const has = (bit) => Boolean(row[at.marks] & (1 << bit));
  const text = value.toFixed(1);
  const shown = has(i) ? h("b", {}, text) : has(SECOND + i) ? h("u", {}, text) : text;
  const dagger = i !== 0 ? null
    : has(NOT_BELOW) ? h("sup", { title: "not significantly below the best" }, "†")
      : has(UNTESTED) ? h("sup", { title: "not tested against the best" }, "?") : null;
  const spread = high === undefined ? `± ${low.toFixed(1)}` : `[${low.toFixed(1)}, ${high.toFixed(1)}]`;
  return h("td", { class: "r" }, shown, dagger, h("span", { class: "spread" }, spread));
}

function scoreCell(row) {
  const tags = [
    row[at.marks] & (1 << REVERSED) && "reversed",
    label(row, "category") === "oracle" && "oracle",
    row[at.marks] & (1 << TIES) && "many ties",
    row[at.marks] & (1 << CONSTANT) && "collapsed",
  ].filter(Boolean);
  return h("td", {}, h("div", {}, label(row, "score")), tags.map((tag) => h("span", { class: "tag" }, tag)));
}

// Images, or groups of images, of each side.
const size = (row) => count(row[at.n])
  + (row[at.members] === 1 ? "" : ` groups of ${row[at.members] || "images"}`);

function rowCells(row) {
  const [pair, detector, score] = ["pair", "detector", "score"].map((f) => label(row, f));
  return h("tr", { onclick: () => { if (!String(getSelection())) openDetail(row); } },
    h("td", {}, pair),
    h("th", { scope: "row" }, h("button", { type: "button", class: "open", "aria-haspopup": "dialog",
      "aria-label": `${detector} ${score} on ${pair}: details`,
      onclick: (event) => { event.stopPropagation(); openDetail(row); } }, detector)),
    scoreCell(row), h("td", {}, label(row, "category")), h("td", {}, label(row, "recipe")),
    h("td", { class: "r" }, String(row[at.seeds])), h("td", { class: "r" }, size(row)),
    METRICS.map((_, i) => metricCell(row, i)), h("td", {}, TRIVIAL[row[at.trivial]]));
}

function draw(rows = null) {
  const first = state.page * state.size;
  const listed = rows ?? state.shown.slice(first, first + state.size);
  const body = byId("board").tBodies[0];
  body.replaceChildren(...listed.map(rowCells));
  if (!listed.length) {
    body.append(h("tr", {}, h("td", { colspan: COLUMNS.length }, "No row fits; clear a filter.")));
  }
  state.listed = listed;
  const total = state.shown.length;
  byId("status").textContent = total
    ? `${count(first + 1)}–${count(Math.min(first + state.size, total))} of ${count(total)} rows`
      + (total < data.rows.length ? ` (${count(data.rows.length)} in all)` : "")
    : `0 of ${count(data.rows.length)} rows`;
  drawPages(Math.max(1, Math.ceil(total / state.size)));
}

function drawPages(pages) {
  const turn = (name, page, usable) => h("button", { type: "button", "data-turn": name,
    disabled: !usable, onclick: () => {
      state.page = page;
      draw();
      const again = document.querySelector(`[data-turn="${name}"]`);
      (again.disabled ? document.querySelector("#pages button:enabled") : again)?.focus();
    } }, name);
  byId("pages").replaceChildren(...(pages === 1 ? [] : [
    turn("First", 0, state.page > 0), turn("Back", state.page - 1, state.page > 0),
    h("span", {}, `page ${count(state.page + 1)} of ${count(pages)}`),
    turn("Forward", state.page + 1, state.page + 1 < pages),
    turn("Last", pages - 1, state.page + 1 < pages),
  ]));
}

// ---------------------------------------------------------------------- the detail of a row
const dialog = byId("detail");

const address = (row) =>
  `#${data.groups[row[at.group]]}:${encodeURIComponent(label(row, "score") || "score")}`;

function openDetail(row) {
  state.open = row;
  const [pair, detector, score, recipe] = ["pair", "detector", "score", "recipe"].map((f) => label(row, f));
  byId("detail-title").textContent = `${detector} ${score}`.trim();
  const where = [pair, recipe, label(row, "category")];
  byId("detail-where").replaceChildren(...dotted(where));
  byId("detail-body").replaceChildren(h("p", {}, "Reading …"));
  const place = state.shown.indexOf(row);
  byId("previous").disabled = place <= 0;
  byId("next").disabled = place < 0 || place + 1 >= state.shown.length;
  if (!dialog.open) {
    dialog.showModal();
    byId("detail-title").focus();
  }
  history.replaceState(null, "", address(row));
  whenRead(() => {
    if (state.open !== row) return;
    const detail = embedded(`detail-${row[at.group]}`);
    where.push(`ID ${detail.in_dist}`, `OOD ${detail.ood}`);
    byId("detail-where").replaceChildren(...dotted(where));
    byId("detail-body").replaceChildren(...detailParts(detail, score || "score"));
    byId("detail-body").scrollTop = 0;
  });
}

function step(by) {
  const next = state.shown[state.shown.indexOf(state.open) + by];
  if (next) openDetail(next);
}

function closed() {
  const row = state.open;
  state.open = null;
  history.replaceState(null, "", "#");
  const place = state.listed.indexOf(row);
  if (place >= 0) byId("board").tBodies[0].rows[place].querySelector("button").focus();
}

function openFromAddress() {
  const wanted = location.hash;
  const row = wanted.length > 1 && data.rows.find((candidate) => address(candidate) === wanted);
  if (row) openDetail(row);
}

// ---------------------------------------------------------------------- theme and print
function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  byId("theme").setAttribute("aria-pressed", String(dark));
}

function printed(before) {
  if (!before) {
    draw();
    byId("print-note").textContent = "";
    return;
  }
  if (dialog.open) return;
  draw(state.shown.slice(0, PRINTED));
  if (state.shown.length > PRINTED) {
    byId("print-note").textContent = `The first ${count(PRINTED)} of ${count(state.shown.length)}`
      + " rows are printed; filter to print others.";
  }
}

function arrowKeys(event) {
  const row = event.target.closest("tbody tr");
  const to = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling }[event.key];
  const button = to && event.target.matches("button.open") && to.querySelector("button.open");
  if (!button) return;
  event.preventDefault();
  button.focus();
}

function start() {
  prepareFilters();
  drawHead();
  applyFilters();
  const system = matchMedia("(prefers-color-scheme: dark)");
  byId("theme").setAttribute("aria-pressed", String(system.matches));
  system.addEventListener("change", () => {
    if (!document.documentElement.dataset.theme) {
      byId("theme").setAttribute("aria-pressed", String(system.matches));
    }
  });
  byId("theme").addEventListener("click", () =>
    setTheme(byId("theme").getAttribute("aria-pressed") !== "true"));
  form.addEventListener("input", applyFilters);
  byId("clear").addEventListener("click", () => { form.reset(); applyFilters(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("board").addEventListener("keydown", arrowKeys);
  dialog.addEventListener("close", closed);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  byId("close").addEventListener("click", () => dialog.close());
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("print").addEventListener("click", () => print());
  addEventListener("beforeprint", () => printed(true));
  addEventListener("afterprint", () => printed(false));
  addEventListener("hashchange", openFromAddress);
  openFromAddress();
}

start();
