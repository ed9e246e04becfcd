"use strict";
// This script draws the transitions and the timeline of the last 24 hours.

function happen(e) {
  if (known.has(e.id)) return false;
  known.add(e.id);
  events.push(e);
  while (events.length && (events.length > 12000 || parse(events[0].at) < now() - DAY)) {
    const gone = events.shift();
    since = Math.max(since, parse(gone.at));
    known.delete(gone.id);
  }
  return true;
}
const target = o => o.label ? "label " + o.label : o.pool ? o.member + " in " + o.pool : o.member;
function tell(e) {
  const o = e.override;
  if (e.kind === "override") {
    const what = {set: actionName(o.action), cleared: "Cleared", expired: "Ended", released: "Let back"}[e.change] || e.change;
    const words = x => x.action + (x.author ? " by " + x.author : "") + (x.reason ? ": " + x.reason : "");
    const by = e.change === "set" ? o.author : e.by, why = e.change === "set" ? o.reason : e.why;
    const was = e.change === "set" ? e.replaced : e.change === "released" ? null : o;
    return {who: o.pool || target(o), what: what + ": " + target(o) + (by ? ", by " + by : ""), why: [why, was && "it was " + words(was)].filter(Boolean).join("; ")};
  }
  if (e.kind === "server") return {who: server && server.host || "server", what: {started: "started", reloaded: "Corefile reloaded", refused: "reload refused"}[e.change] || e.change, why: e.why || ""};
  const who = e.pool + (e.view ? " (view " + e.view + ")" : "");
  if (e.kind === "answer") return {who, what: "now answers " + e.answer, why: e.why || ""};
  return {who, what: e.member + ": " + e.from + " → " + e.to, why: e.why || "", answer: e.answer};
}
// Shows the newest. Many at once are not read out one by one.
function latest(unread = 0) {
  clearTimeout(latest.timer);
  latest.timer = 0;
  const e = events.at(-1);
  if (e) {
    const said = tell(e);
    when($("latest-at"), e.at, "ago");
    put($("latest-words"), said.who + " " + said.what + (said.why ? " (" + said.why + ")" : "") + (unread > 1 ? ", and " + count(unread - 1) + " more" : ""));
  } else put($("latest-words"), quiet());
  if (!$("day").hidden) drawDay();
}
// When the record begins, if that is less than a day ago.
const beginning = () => since > now() - DAY + 60e3 ? "since " + clock(since) + ", when the record begins" : "";
const quiet = () => !since ? "" : "Nothing has changed " + (beginning() || "in the last 24 hours") + ".";
function news() {
  news.unread = latest.timer ? news.unread + 1 : 1;
  latest.timer ||= setTimeout(() => latest(news.unread), 200);
}

let listed = 100;
function drawDay() {
  if (!server || !since) { // what is not known is not drawn
    $("happened").replaceChildren(h("li", {className: "empty"}, "One moment"));
    $("chart").replaceChildren(h("p", {className: "empty"}, "One moment"));
    return;
  }
  const of = events.filter(e => !filter.q || JSON.stringify([e.pool, e.member, e.override]).toLowerCase().includes(filter.q));
  put($("happened-count"), count(of.length));
  $("happened").replaceChildren(...(of.length ? of.slice(-listed).reverse().map(e => {
    const said = tell(e), at = h("time", {className: "soft"});
    when(at, e.at, "ago");
    return h("li", {className: "happened"}, at, h("b", null, said.who), h("div", null,
      h("p", {className: e.to === "down" || e.change === "refused" ? "bad" : e.kind === "override" ? "hand" : ""}, said.what),
      said.why && h("p", {className: "small soft"}, said.why), said.answer && h("p", {className: "small soft"}, "now answers " + said.answer)));
  }) : [h("li", {className: "empty"}, filter.q ? "Nothing is found for this." : quiet())]));
  show($("older"), of.length > listed);
  drawChart(of);
}

// The members that something has happened to, or that are not up: a thin line while up, a block while not.
// Nothing is drawn of a time before the process, the record or the pool.
function drawChart(of) {
  const end = now(), begin = end - DAY, pools = new Map();
  const first = Math.max(begin, parse(server.started), since);
  of = of.filter(e => parse(e.at) >= first);
  const reloads = events.filter(e => e.kind === "server" && e.change === "reloaded").map(e => parse(e.at));
  const lane = (id, pool, view, member) => {
    if (!pools.has(id)) pools.set(id, {name: pool + (view ? " (view " + view + ")" : ""), last: 0, members: new Map(), answers: []});
    const p = pools.get(id);
    if (member && !p.members.has(member)) p.members.set(member, {turns: [], flags: []});
    return member ? p.members.get(member) : p;
  };
  for (const e of of) {
    if (e.kind === "override" || e.kind === "server") continue;
    const p = lane(e.poolId, e.pool, e.view);
    p.last = Math.max(p.last, parse(e.at));
    if (e.answer) p.answers.push({at: parse(e.at), text: e.answer});
    if (e.kind === "transition") lane(e.poolId, e.pool, e.view, e.member).turns.push({at: parse(e.at), from: e.from, to: e.to, why: e.why});
  }
  const decided = of.filter(e => e.kind === "override");
  for (const row of rows.values()) {
    const p = row.pool;
    if (!matches(row) || (!p.unwell && !pools.has(p.id))) continue;
    for (const m of membersOf(p)) {
      if (pools.has(p.id) && pools.get(p.id).members.has(m.member)) continue;
      if (m.status !== "up" || m.override) lane(p.id, p.name, p.view, m.member).now = {status: m.status, since: parse(m.since), why: m.why};
    }
    for (const e of pools.has(p.id) ? decided : []) {
      for (const m of membersOf(p)) {
        const o = e.override, hit = o.label ? o.label === m.label : (!o.pool || o.pool === p.name) && (o.member === m.address || m.address.startsWith(o.member + ":"));
        const l = pools.get(p.id).members.get(m.member);
        if (hit && l) l.flags.push({at: parse(e.at), text: tell(e).what});
      }
    }
  }
  const x = t => (100 * (Math.min(Math.max(t, begin), end) - begin) / DAY).toFixed(3);
  const width = (a, b) => Math.max(.15, x(b) - x(a)).toFixed(3) + "%";
  const hours = [];
  const t = new Date(begin);
  t.setMinutes(0, 0, 0);
  while (t <= end) { t.setHours(t.getHours() + 1); if (t.getHours() % 6 === 0 && t > begin && t < end) hours.push(t.getTime()); }
  const silence = () => first - begin < 60e3 ? [] : [titled(s("rect", {x: 0, width: x(first) + "%", y: 0, height: 22, class: "no-record"}), "no record before " + clock(first))];
  const grid = () => [...silence(), ...hours.map(t => s("line", {x1: x(t) + "%", x2: x(t) + "%", y1: 0, y2: 22, class: "grid"}))];
  const titled = (e, text) => { e.append(s("title", {}, text)); return e; };
  const out = [h("div", {className: "lane"}, h("span", null, h("span", {className: "only-read"}, "From " + absolute.format(begin) + " to now")),
    s("svg", {"aria-hidden": "true"}, ...hours.map(t => s("text", {x: x(t) + "%", y: 14, "text-anchor": "middle"}, clock(t).slice(0, 5)))))];
  for (const p of pools.values()) { // that a server has begun is nothing to look at
    for (const [name, l] of p.members) if (!l.now && !l.flags.length && l.turns.every(turn => turn.from === "unknown" && turn.to === "up")) p.members.delete(name);
  }
  const sorted = [...pools.values()].filter(p => p.members.size).sort((a, b) => b.last - a.last);
  for (const [id, p] of pools) {
    const row = rows.get(id);
    p.began = Math.max(first, row ? parse(row.pool.began) : 0);
    for (const m of row ? membersOf(row.pool) : []) if (m.began && p.members.has(m.member)) p.members.get(m.member).began = parse(m.began);
    // Without a row the pool is gone, at the latest by the first reload after its last event.
    p.ended = row || !complete ? end : reloads.find(t => t > p.last) || p.last;
  }
  for (const p of sorted.slice(0, 40)) {
    const dots = p.answers.map(a => titled(s("circle", {cx: x(a.at) + "%", cy: 11, r: 3, class: "dot"}), clock(a.at) + ": answers " + a.text));
    out.push(h("div", {className: "lane name"}, h("span", null, p.name),
      s("svg", {role: "img", "aria-label": p.answers.length ? many(p.answers.length, "change") + " of the answer" : "no change of the answer"}, ...grid(), ...dots)));
    for (const [name, l] of p.members) {
      const parts = [];
      const began = Math.max(p.began, l.began || 0);
      let away = 0, falls = 0, {at, to: status, why} = l.turns.length ? {at: began, to: l.turns[0].from} :
        {at: Math.max(began, l.now.since || reloads.at(-1) || 0), to: l.now.status, why: l.now.why};
      for (const turn of [...l.turns, {at: p.ended}]) {
        // That a member was unknown before its first status says nothing: it may not have been there.
        if (turn.at > at && !(status === "unknown" && turn === l.turns[0])) parts.push({from: at, to: turn.at, status, why});
        ({at, to: status, why} = turn);
      }
      const drawn = parts.map(g => {
        const tall = g.status === "down" ? 16 : g.status === "up" ? 3 : 8;
        if (g.status === "down") { away += g.to - g.from; falls++; }
        return titled(s("rect", {x: x(g.from) + "%", width: width(g.from, g.to), y: 11 - tall / 2, height: tall, class: "seg-" + g.status}),
          g.status + " from " + clock(g.from) + " to " + clock(g.to) + ", " + span(g.to - g.from) + (g.why ? ": " + g.why : ""));
      });
      const flags = l.flags.map(f => titled(s("circle", {cx: x(f.at) + "%", cy: 11, r: 5, class: "flag"}), clock(f.at) + ": " + f.text));
      const label = name + ": " + (falls ? "down " + many(falls, "time") + ", " + span(away) + " in all" : "never down") + (l.flags.length ? ", " + many(l.flags.length, "override") : "");
      out.push(h("div", {className: "lane"}, h("span", {className: "who-short"}, name), s("svg", {role: "img", "aria-label": label}, ...grid(), ...drawn, ...flags)));
    }
  }
  if (!sorted.length) out.splice(0, 1, h("p", {className: "empty"}, "Every member has been up" + (beginning() && " " + beginning()) + "."));
  else {
    const key = (figure, words) => h("span", null, s("svg", {"aria-hidden": "true"}, figure), words);
    out.push(h("p", {className: "legend"}, key(s("rect", {y: 5.5, width: "100%", height: 3, class: "seg-up"}), "up"), key(s("rect", {width: "100%", height: 14, class: "seg-down"}), "down"),
      key(s("rect", {y: 3, width: "100%", height: 8, class: "seg-unknown"}), "unknown"), key(s("circle", {cx: "50%", cy: 7, r: 3, class: "dot"}), "the answer changed"),
      key(s("circle", {cx: "50%", cy: 7, r: 5, class: "flag"}), "by hand"),
      first - begin < 60e3 ? "" : key(s("rect", {width: "100%", height: 14, class: "no-record"}), "no record before " + clock(first)), sorted.length > 40 ? h("span", null, "The latest 40 of " + many(sorted.length, "pool") + "; a search narrows it.") : ""));
  }
  $("chart").replaceChildren(...out);
}
