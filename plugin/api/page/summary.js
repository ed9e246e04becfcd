"use strict";
// This script writes the summary, the counts and the warnings of the server.

function sentence(x) {
  if (!x.pools) return {state: "warn", shape: "odd", text: "No pools"};
  const fallback = x.fallback && many(x.fallback, "pool") + " on fallback", backup = x.backup && (x.fallback ? count(x.backup) : many(x.backup, "pool")) + " on backup";
  if (x.fallback) return {state: "bad", shape: "down", text: fallback + (backup ? ", " + backup : "")};
  if (x.backup) return {state: "warn", shape: "backup", text: backup};
  if (x.unwell) return {state: "warn", shape: "odd", text: many(x.unwell, "pool") + " not quite well"};
  return {state: "well", shape: "well", text: "All well"};
}
const colours = {bad: "#d93025", warn: "#e0920b", well: "#7d828c", lost: "#d93025"};
function summarise() {
  if (!summary) return;
  const x = counts(), pools = sentence(x), title = $("summary");
  const said = warnings.length && pools.state === "well" ? {state: "warn", shape: "odd", text: many(warnings.length, "server warning")} : pools;
  const text = lostAt ? "Connection lost" : said.text;
  const state = lostAt ? "lost" : said.state, figure = lostAt ? "unknown" : said.shape;
  document.body.dataset.state = lostAt ? "bad" : said.state;
  if (title.dataset.said !== text) {
    title.dataset.said = text;
    title.replaceChildren(mark(figure), h("span", null, text));
  }
  put($("counts"), (lostAt ? "As of " + clock(lostAt) + ": " + said.text.toLowerCase() + " – " : "") + many(x.pools, "pool") + ", " + many(x.members, "member") + ": " +
    [count(x.up) + " up", x.down && count(x.down) + " down", x.unknown && count(x.unknown) + " unknown"].filter(Boolean).join(", ") +
    (x.overrides ? "; " + many(x.overrides, "override") : ""));
  document.title = text + " – failover" + (server.host ? " " + server.host : "");
  const {fill, line, width} = shapes[figure], colour = colours[state];
  const icon = "data:image/svg+xml," + encodeURIComponent(`<svg xmlns="${SVG}" viewBox="0 0 16 16">` +
    (fill ? `<path d="${fill}" fill="${colour}"/>` : `<path d="${line}" fill="none" stroke="${colour}" stroke-width="${width}"/>`) + "</svg>");
  const link = document.querySelector("link[rel=icon]");
  if (link.href !== icon) link.href = icon;
}

// Shows what the server says of itself.
function warn(all) {
  warnings = all || [];
  const list = $("warnings"), said = JSON.stringify(warnings);
  if (list.dataset.said === said) return;
  list.dataset.said = said;
  show(list, warnings.length);
  list.replaceChildren(...warnings.map(w => {
    const at = h("time");
    when(at, w.since, "for");
    return h("li", {className: "warning"}, mark("odd"), h("span", null, w.text, w.since && h("span", {className: "soft"}, " (", at, ")")));
  }));
}

// Brings the counts up to date with a change, before the server is next asked for them.
function recount(was, is) {
  if (complete) return; // they are taken from the rows
  tally(summary, was, -1);
  tally(summary, is, 1);
}
function tally(x, p, n) {
  const t = p.answer.tier;
  x.pools += n;
  x.fallback += n * (t === "fallback");
  x.backup += n * (t !== "fallback" && t !== "" && t !== "0");
  x.unwell += n * p.unwell;
  for (const m of membersOf(p)) { x.members += n; x[m.status] += n; }
}
function counts() {
  if (!complete || held) return summary;
  const x = {pools: 0, fallback: 0, backup: 0, unwell: 0, members: 0, up: 0, down: 0, unknown: 0, overrides: summary.overrides};
  for (const row of rows.values()) tally(x, row.pool, 1);
  return x;
}
