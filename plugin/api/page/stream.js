"use strict";
// This script loads the pools and follows the stream of the server.

let heard = 0;           // when the server last said anything
let lostAt = 0;          // until when we know what is; 0: we know now
let stream = null;       // null while there is none
let lastID = "";         // of the latest event
let retry = 500;         // how long until the next attempt
let loading = 0;         // counts the fetches: a later one makes an earlier one void
let reached = 0;         // how many pools of the plain list have been fetched
let held = null;         // what the stream says while the pools are fetched: it comes after them
const arrived = new Map(); // what it has said since the page was last brought up to date

function meet(doc, asked) {
  const got = Date.now();
  ahead = parse(doc.server.now) - (asked + got) / 2;
  heard = now();
  const restarted = server && server.started !== doc.server.started;
  server = doc.server;
  summary = doc.summary;
  warn(doc.warnings);
  const sites = server.sites || [];
  show($("sites"), sites.length);
  put($("sites"), "Sites that vote: " + sites.map(x => x.name + (x.ours ? " (this one" + (x.fresh ? ")" : ", not seen by the others)") : x.fresh ? "" : " (not heard of)")).join(", "));
  put($("server"), [server.host, server.version].filter(Boolean).join(" · "));
  put($("up-since"), "Running since " + absolute.format(parse(server.started)));
  return restarted;
}

async function ask(query, patience = 15000) {
  const asked = Date.now();
  const doc = await get("/api/v1/pools?" + new URLSearchParams(query), {signal: AbortSignal.timeout(patience)});
  doc.pools ||= [];
  doc.asked = asked;
  return doc;
}

// Fetches the pools anew, or some more of them.
async function load(offset = 0) {
  const turn = ++loading, asked = {limit: PAGE};
  held ||= [];
  if (!complete && filter.q) asked.q = filter.q;
  if (!complete && filter.unwell) asked.unwell = true;
  if (offset) asked.offset = offset;
  const doc = await ask(asked);
  let ill = [];
  if (doc.total > doc.pools.length && !filter.unwell && !offset) ill = (await ask({...asked, unwell: true})).pools; // these come first, wherever they stand
  if (turn !== loading) return;
  meet(doc, doc.asked);
  total = doc.total;
  reached = offset + doc.pools.length;
  complete = !asked.q && !asked.unwell && total <= reached;
  const here = new Map([...ill, ...doc.pools].map(p => [p.id, p]));
  if (!offset) for (const [id, row] of rows) if (!here.has(id)) { row.li.remove(); rows.delete(id); }
  const sorted = [...here.values()].sort((a, b) => b.unwell - a.unwell); // stable: by name otherwise
  for (let i = 0; i < sorted.length; i += 150) { // the page stays quick meanwhile
    for (const p of sorted.slice(i, i + 150)) take(p);
    if (i === 0) { summarise(); headings(); }
    await new Promise(done => setTimeout(done));
    if (turn !== loading) return;
  }
  const waited = held;
  held = null;
  for (const p of waited) hear(p);
  flush();
  found();
  summarise();
  headings();
  if (!$("day").hidden) drawDay();
}

async function loadEvents() {
  const doc = await get("/api/v1/events"), all = doc.events || [];
  since = parse(doc.since);
  const ids = new Set(all.map(e => e.id)), newest = all.length ? parse(all.at(-1).at) : 0;
  const later = events.filter(e => !ids.has(e.id) && parse(e.at) > Math.max(newest, since)); // the stream was quicker
  events = [];
  known.clear();
  for (const e of [...all, ...later]) happen(e);
  latest();
}

function hear(p) {
  if (held) { held.push(p); return; }
  arrived.set(p.id, p);
  flush.timer ||= setTimeout(flush, 40);
}

function flush() {
  clearTimeout(flush.timer);
  flush.timer = 0;
  for (const p of arrived.values()) {
    const row = rows.get(p.id);
    if (row) { recount(row.pool, normal(p)); take(p); }
    else if (p.unwell) {
      recall();
      if (rows.size < 6 * PAGE) take(p);
    }
  }
  if (arrived.size) { summarise(); headings(); }
  arrived.clear();
}

function listen() {
  clearTimeout(listen.timer);
  if (stream) stream.close();
  const mine = stream = new EventSource("/api/v1/events?pools=true" + (lastID ? "&last=" + encodeURIComponent(lastID) : ""));
  const on = (kind, f) => mine.addEventListener(kind, message => {
    if (mine !== stream) return;
    heard = now();
    if (message.lastEventId) lastID = message.lastEventId;
    f(JSON.parse(message.data || "{}"));
  });
  mine.onopen = () => begin().catch(lose);
  mine.onerror = lose;
  on("pool", hear);
  for (const kind of ["transition", "answer", "override", "server"]) on(kind, e => { if (happen(e)) news(); });
  for (const kind of ["override", "server"]) on(kind, recall);
  on("warnings", doc => { warn(doc.warnings); summarise(); });
  on("reset", () => { lastID = ""; begin().catch(lose); });
  on("reload", () => load().catch(lose));
}
async function begin() {
  await Promise.all([load(), loadEvents()]);
  retry = 500;
}

// The connection is gone: say so, and try again.
function lose(error) {
  if (error instanceof Error) console.warn(error);
  if (stream) stream.close();
  stream = null;
  lostAt ||= heard;
  document.body.classList.add("stale", "lost");
  put($("lost-words"), "Connection lost" + (lostAt ? ", as of " + clock(lostAt) : "") + (error && error.problem ? " (" + error.message + ")" : "") + ". Trying again.");
  show($("lost"), true);
  put($("live"), "not connected");
  if (!server) put($("summary"), "Connection lost");
  summarise();
  clearTimeout(listen.timer);
  listen.timer = setTimeout(listen, retry);
  retry = Math.min(2 * retry, 8000);
}
function found() {
  if (!stream) return;
  lostAt = 0;
  document.body.classList.remove("stale", "lost");
  show($("lost"), false);
  $("live").replaceChildren(mark("up"), "live");
}

// The stream tells of changes only, and nothing when it is cut without a word. So the server is asked now and then:
// for everything where that is little, or else for the counts, and for the pools that are open and in sight.
async function poll() {
  try {
    if (!stream || held) return;
    const small = complete && total <= SMALL && !document.hidden;
    const doc = await ask({limit: small ? SMALL : 1}, POLL);
    if (!stream || held) return;
    flush();
    if (meet(doc, doc.asked)) return listen();
    if (small) {
      for (const p of doc.pools) if (!arrived.has(p.id)) take(p);
      headings();
    } else if (!document.hidden) {
      const sight = [...rows.values()].filter(r => r.open && inSight(r.li)).slice(0, 8);
      await Promise.all(sight.map(refresh));
    }
    summarise();
  } catch (error) {
    lose(error);
  } finally {
    setTimeout(poll, document.hidden ? 3 * POLL : POLL);
  }
}
// Asks for the counts soon, where what the page has does not tell them.
function recall() {
  recall.timer ||= setTimeout(async () => {
    recall.timer = 0;
    const doc = await ask({limit: 1}).catch(() => null); // the next poll says what is wrong
    if (doc && stream) { meet(doc, doc.asked); summarise(); }
  }, 500);
}
const inSight = e => { const r = e.getBoundingClientRect(); return r.height > 0 && r.bottom > 0 && r.top < innerHeight; };
async function refresh(row) {
  if (complete && total <= SMALL) return;
  const doc = await get("/api/v1/pools/" + encodeURIComponent(row.pool.name)).catch(() => null); // it may be gone
  for (const p of doc ? doc.pools : []) if (rows.has(p.id) && !held && !arrived.has(p.id)) take(p);
}
