"use strict";
// This script has the elements, the words, the times and the state that all scripts share. Text from the server enters the page as text only. Times are by the server's clock.

const DAY = 86400e3, PAGE = 1000, SMALL = 200, POLL = 5000, SVG = "http://www.w3.org/2000/svg";
const $ = id => document.getElementById(id);

// Elements: h("p", {className: "soft"}, "text", node).
function h(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name in e) e[name] = value; else e.setAttribute(name, value);
  }
  e.append(...children.filter(c => c !== null && c !== undefined && c !== ""));
  return e;
}
function s(tag, attributes, ...children) {
  const e = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) e.setAttribute(name, value);
  e.append(...children);
  return e;
}
// What has not changed is not written: it would lose a selection, and be read out again.
function put(e, text) { if (e.textContent !== text) e.textContent = text; }
function tint(e, name) { if (e.className !== name) e.className = name; }
function show(e, yes) { if (e.hidden === Boolean(yes)) e.hidden = !yes; }

// One shape for each state, so that none is told by its colour alone.
const disc = "M8 2.6a5.4 5.4 0 1 0 0 10.8A5.4 5.4 0 1 0 8 2.6z";
const shapes = {
  up: {fill: disc},
  down: {line: "M3.2 3.2l9.6 9.6M12.8 3.2l-9.6 9.6", width: 3},
  backup: {fill: "M8 1.6L15 14H1z"},
  unknown: {line: disc, width: 1.8, dashes: "2.8 2.8"},
  drained: {fill: "M8 2.6a5.4 5.4 0 1 0 0 10.8z", line: disc, width: 1.6},
  waiting: {line: disc + "M8 5v3.2l2.2 1.4", width: 1.6},
  well: {line: "M2.5 8.6l3.8 3.8L13.6 4", width: 2.6},
  odd: {fill: "M8 1.5L14.5 8L8 14.5L1.5 8z"},
};
function shape(svg, name) {
  if (svg.dataset.shape === name) return;
  svg.dataset.shape = name;
  const {fill, line, width, dashes} = shapes[name];
  svg.replaceChildren();
  if (fill) svg.append(s("path", {d: fill}));
  if (line) svg.append(s("path", {d: line, fill: "none", "stroke-width": width, "stroke-dasharray": dashes || "none"}));
}
function mark(name) {
  const svg = s("svg", {viewBox: "0 0 16 16", class: "mark", "aria-hidden": "true"});
  if (name) shape(svg, name);
  return svg;
}

// Words for numbers and times.
const count = n => n.toLocaleString("en");
const many = (n, one, more = one + "s") => count(n) + " " + (n === 1 ? one : more);
const took = t => t < .0995 ? (t * 1e3).toFixed(t < .00995 ? 1 : 0) + " ms" : t < .9995 ? Math.round(t * 1e3) + " ms" : t.toFixed(t < 9.95 ? 1 : 0) + " s";
const inSeconds = n => n < 1 && n > 0 ? Math.round(n * 1e3) + " ms" : n + " s";
function span(ms) {
  const t = Math.max(0, Math.round(ms / 1e3)), m = Math.floor(t / 60), hours = Math.floor(m / 60);
  if (t < 120) return t + " s";
  if (m < 120) return m + " min";
  if (hours < 48) return hours + " h" + (hours < 10 && m % 60 ? " " + m % 60 + " min" : "");
  return Math.floor(hours / 24) + " days";
}
let ahead = 0; // of this machine's clock, the server's
const now = () => Date.now() + ahead;
const parse = iso => { const t = iso ? Date.parse(iso) : 0; return t > 0 ? t : 0; };
const absolute = new Intl.DateTimeFormat("sv-SE", {dateStyle: "short", timeStyle: "long"});
const clock = t => new Date(t).toLocaleTimeString("en-GB");
const phrases = {
  ago: t => { const d = now() - t; return d < 1500 && d > -1500 ? "now" : d > 0 ? span(d) + " ago" : "in " + span(-d); },
  for: t => "for " + span(Math.max(1e3, now() - t)),
  until: t => t - now() > 500 ? "in " + span(t - now()) : "now",
  soonest: t => t - now() > 1500 ? "in " + span(t - now()) : "at any moment",
};
function when(e, iso, phrase) {
  const t = parse(iso);
  show(e, t);
  if (!t) return;
  if (e.at !== t) { e.at = t; e.dateTime = iso; e.title = absolute.format(t); }
  e.phrase = phrase;
  put(e, phrases[phrase](t));
}
setInterval(() => {
  if (!document.hidden) for (const e of document.getElementsByTagName("time")) if (e.at) put(e, phrases[e.phrase](e.at));
}, 1000);

// What the server has said.
let server = null, summary = null, total = 0;
let complete = false;    // all pools are here, so that searching needs no server
const rows = new Map();  // by the pool's ID
let warnings = [];       // failures of the server itself
let events = [];         // of the last day, the oldest first
let since = 0;           // when these begin: before that nothing is known; 0: not heard yet
const known = new Set(); // their IDs
const chosen = new Map(); // which pools somebody has opened or closed

async function get(path, options = {}) {
  const response = await fetch(path, {cache: "no-store", credentials: "same-origin", ...options});
  const body = await response.json().catch(() => ({title: response.statusText}));
  if (!response.ok) throw Object.assign(new Error(body.detail || body.title || "status " + response.status), {status: response.status, problem: body});
  return body;
}
