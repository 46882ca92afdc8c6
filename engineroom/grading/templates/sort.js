// Puts a button into each heading of a table that can be sorted. Without it the tables stand as
// they are.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    if (!heading.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const number = heading.dataset.sort === "number";
      const now = heading.getAttribute("aria-sort");
      const first = number ? "descending" : "ascending";
      const second = number ? "ascending" : "descending";
      const order = now === first ? second : first;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      const value = (row) => {
        const cell = row.cells[column];
        const text = cell.dataset.value ?? cell.textContent.trim();
        return number ? (text === "" ? -Infinity : Number(text)) : text;
      };
      const compare = number
        ? (a, b) => (a < b ? -1 : a > b ? 1 : 0)
        : new Intl.Collator(undefined, { numeric: true, sensitivity: "base" }).compare;
      const sign = order === "ascending" ? 1 : -1;
      const body = table.tBodies[0];
      body.append(
        ...[...body.rows]
          .map((row) => [value(row), row])
          .sort((a, b) => sign * compare(a[0], b[0]))
          .map((pair) => pair[1]),
      );
    });
  });
}
