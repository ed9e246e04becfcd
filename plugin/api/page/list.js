"use strict";
// This script orders and filters the list of pools.

const lists = {true: $("ill-list"), false: $("well-list")};
const filter = {q: "", unwell: false};
const matches = row => (!filter.unwell || row.pool.unwell) && (!filter.q || row.found(filter.q));
const grave = p => ({down: 0, backup: 1, odd: 2, up: 3})[poolState(p).shape];
const before = (a, b) => grave(a.pool) - grave(b.pool) || (a.pool.name < b.pool.name ? -1 : a.pool.name > b.pool.name ? 1 : a.pool.id < b.pool.id ? -1 : 1);

// Puts a row where it belongs: the worst first, then by name; nowhere if it is not looked for. A focus inside it stays.
function place(row) {
  const list = lists[row.pool.unwell], focus = row.li.contains(document.activeElement) ? document.activeElement : null;
  if (!focus && !matches(row)) { row.li.remove(); return; }
  let low = 0, high = list.children.length;
  if (row.li.parentNode === list) row.li.remove(), high--;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (before(list.children[middle].row, row) < 0) low = middle + 1; else high = middle;
  }
  list.insertBefore(row.li, list.children[low] || null);
  if (focus) focus.focus({preventScroll: true});
}

// A pool is open when somebody has opened it, or when it is one of few that are not well.
const opened = p => chosen.get(p.id) ?? (p.unwell ? Math.max(lists.true.children.length, summary.unwell) <= 6 : total <= 3);

function take(p) {
  normal(p);
  let row = rows.get(p.id);
  if (!row) {
    row = new PoolRow(p);
    rows.set(p.id, row);
    place(row);
    if (opened(p)) row.toggle(true);
    return;
  }
  const was = row.pool;
  row.update(p);
  if (grave(was) !== grave(p) || was.name !== p.name || matches(row) !== row.li.isConnected) {
    place(row);
    if (was.unwell !== p.unwell && row.open !== opened(p) && !row.li.contains(document.activeElement)) row.toggle(opened(p));
  }
}

function headings() {
  const ill = lists.true.children.length, well = lists.false.children.length;
  show($("ill"), ill);
  show($("well"), well);
  put($("ill-count"), count(ill));
  put($("well-count"), count(well));
  const n = ill + well, all = complete ? rows.size : total, narrowed = filter.q || filter.unwell;
  put($("found"), !narrowed ? "" : (complete ? count(n) : count(total)) + " found");
  show($("none"), !n && server && !held);
  put($("none"), narrowed ? (filter.unwell && !filter.q ? (warnings.length ? "All pools are well." : "All is well.") : "Nothing is found for this.") : "There is no pool here.");
  show($("more"), !complete && n < all);
  put($("more-words"), many(n, "pool") + " of " + count(all) + " are shown. A search looks at all of them.");
  show($("more-go"), rows.size < 5 * PAGE);
}

function refilter() {
  filter.q = $("q").value.trim().toLowerCase();
  filter.unwell = $("unwell").checked;
  // A row that is hidden costs more than one that is not there.
  const looked = [...rows.values()].filter(matches).sort(before);
  for (const unwell of [true, false]) lists[unwell].replaceChildren(...looked.filter(row => row.pool.unwell === unwell).map(row => row.li));
  headings();
  if (!complete) {
    put($("found"), "searching");
    clearTimeout(refilter.timer);
    refilter.timer = setTimeout(() => load().catch(lose), 150);
  }
  if (!$("day").hidden) drawDay();
}
