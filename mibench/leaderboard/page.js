// Sorting by a column's button, and from a number to the maps behind it. The page reads the same without it.
"use strict";

const key = (cell) => (cell.dataset.v === undefined ? cell.textContent.trim() : cell.dataset.v);

function sort(head) {
  const table = head.closest("table");
  const column = [...head.parentElement.children].indexOf(head);
  const first = head.dataset.first || "ascending";
  const now = head.getAttribute("aria-sort");
  const order = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
  for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const compare = (a, b) => {
    const [one, other] = [key(a.children[column]), key(b.children[column])];
    if (one === "" || other === "") return (one === "") - (other === ""); // what has no number stays below
    const [x, y] = [Number(one), Number(other)];
    return sign * (Number.isNaN(x) || Number.isNaN(y) ? one.localeCompare(other) : x - y);
  };
  for (const body of table.tBodies) {
    body.append(...[...body.rows].filter((row) => row.children.length > 1).sort(compare));
  }
}

function show(gallery, metric, method) {
  const scores = JSON.parse(gallery.querySelector("script").textContent);
  gallery.querySelector("select").value = metric;
  for (const item of gallery.querySelectorAll("li[data-method]")) {
    const of = (scores[metric] || {})[item.closest("ul").dataset.sample] || {};
    item.querySelector(".value").textContent = metric ? (of[item.dataset.method] ?? "no score") : "";
    item.classList.toggle("chosen", item.dataset.method === method);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("th button");
  if (button) sort(button.closest("th"));
  const number = event.target.closest("a[data-metric]");
  const gallery = number && document.querySelector(number.getAttribute("href"));
  if (gallery) show(gallery, number.dataset.metric, number.closest("tr").dataset.method);
});
document.addEventListener("change", (event) => {
  if (event.target.matches(".pick select")) show(event.target.closest("section"), event.target.value, "");
});
