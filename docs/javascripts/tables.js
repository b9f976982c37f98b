// Tables are sorted by a click on a heading; numbers by their value, other cells as text.
document.addEventListener("click", (event) => {
  const heading = event.target.closest("article table thead th");
  if (!heading) return;
  const body = heading.closest("table").tBodies[0];
  const column = [...heading.parentNode.children].indexOf(heading);
  const falling = heading.getAttribute("aria-sort") !== "descending";
  for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const value = (row) => row.cells[column]?.textContent.trim() ?? "";
  const number = (text) => parseFloat(text.replace(/[^0-9.eE+-].*$/, "").replace(/,/g, ""));
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    const [n, m] = [number(x), number(y)];
    if (Number.isNaN(n) !== Number.isNaN(m)) return Number.isNaN(n) ? 1 : -1;
    const order = Number.isNaN(n) ? x.localeCompare(y) : n - m;
    return falling ? -order : order;
  });
  body.append(...rows);
});
