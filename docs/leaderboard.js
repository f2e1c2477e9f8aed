// The table of this page, sorted by a click on a head and filtered by words.  A column whose cells
// all begin with a number is sorted by it, another one as text; empty cells stand last.

const NUMBER = /^[-−]?[\d,]+(\.\d+)?(?=[†\s%]|$)/;

const textOf = (row, column) => row.cells[column].textContent.trim();

function numberOf(text) {
  const found = text.match(NUMBER);
  return found ? Number(found[0].replace("−", "-").replaceAll(",", "")) : NaN;
}

function sortBy(table, column, descending) {
  const body = table.tBodies[0], rows = [...body.rows];
  const given = (row) => !["", "–"].includes(textOf(row, column));
  const known = rows.filter(given);
  const numbers = known.every((row) => !Number.isNaN(numberOf(textOf(row, column))));
  const compare = (a, b) => numbers
    ? numberOf(textOf(a, column)) - numberOf(textOf(b, column))
    : textOf(a, column).localeCompare(textOf(b, column), "en", { numeric: true });
  known.sort((a, b) => (descending ? compare(b, a) : compare(a, b)));
  body.append(...known, ...rows.filter((row) => !given(row)));
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const first = button.textContent.includes("↑") ? "descending" : "ascending";
      const other = { ascending: "descending", descending: "ascending" };
      const order = before ? other[before] : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sortBy(table, column, order === "descending");
    });
  });
}

function filterable(table) {
  const field = document.createElement("input");
  field.type = "search";
  field.id = "words";
  const label = document.createElement("label");
  label.className = "filter";
  label.append("Rows with ", field);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
  (table.closest(".md-typeset__scrollwrap") ?? table).before(label);
}

for (const table of document.querySelectorAll("article table")) {
  sortable(table);
  filterable(table);
}
