"use strict";
// This script draws a pool, its members and their probes.

// The first tier is the primary, then comes each backup in turn.
function tierName(tier, pool) {
  if (tier === "") return ""; // an overlay, or a pool that has not begun to answer
  if (tier === "0") return "primary";
  if (tier === "fallback") return "fallback";
  return pool && pool.tiers.length === 2 ? "backup" : "backup " + tier;
}
function poolState(p) {
  if (p.answer.tier === "fallback") return {shape: "down", tint: "bad"};
  if (p.answer.tier !== "" && p.answer.tier !== "0") return {shape: "backup", tint: "warn"};
  return p.unwell ? {shape: "odd", tint: "warn"} : {shape: "up", tint: "soft"};
}
function memberState(m) {
  if (m.override && m.override.action === "drain") return {word: "drained", shape: "drained", tint: "hand"};
  if (m.status === "down") return {word: "down", shape: "down", tint: "bad"};
  if (m.status === "unknown") return {word: "unknown", shape: "unknown", tint: "warn"};
  if (m.waiting) return {word: "up, and waits to be let back", shape: "waiting", tint: "hand"};
  if (parse(m.heldUntil) > now()) return {word: "up, and held", shape: "waiting", tint: "warn"};
  return {word: "up", shape: "up", tint: "soft"};
}
const membersOf = p => p.tiers.flatMap(t => t.members);
function ups(p) {
  const all = membersOf(p), n = all.filter(m => m.status === "up").length;
  return all.length ? count(n) + " of " + count(all.length) + " up" : "no members";
}
// Which of those that are up are not to be used.
function kept(members) {
  const n = f => members.filter(m => m.status === "up" && f(memberState(m).shape)).length, drained = n(x => x === "drained"), waiting = n(x => x === "waiting");
  return (drained ? ", " + count(drained) + " drained" : "") + (waiting ? ", " + count(waiting) + " not used yet" : "");
}
// The first thing about a pool that is out of the ordinary.
function note(p) {
  for (const m of membersOf(p)) {
    const state = memberState(m);
    if (state.shape === "up" && !m.override) continue;
    const o = m.override, why = o ? [o.author && "by " + o.author, o.reason].filter(Boolean).join(": ") : m.status === "up" ? "" : m.why;
    return m.member + " " + (o && o.action !== "drain" ? state.word + " by hand" : state.word) + (why ? " – " + why : "");
  }
  for (const m of membersOf(p)) for (const q of m.probes) if (q.against) return m.member + " " + counter(q) + (q.last && q.last.error ? " – " + q.last.error : "");
  return "";
}
const counter = q => q.against + " of " + (q.status === "down" ? many(q.needed, "pass", "passes") : many(q.needed, "failure"));

function normal(p) {
  p.names ||= [p.name];
  p.tiers ||= [];
  p.answer.addresses ||= [];
  for (const t of p.tiers) { t.members ||= []; for (const m of t.members) { m.probes ||= []; for (const q of m.probes) q.trail ||= []; } }
  return p;
}

class PoolRow {
  static bodies = 0;

  constructor(p) {
    this.mark = mark();
    this.button = h("button", {type: "button", "aria-expanded": "false"});
    this.button.onclick = () => { chosen.set(this.pool.id, !this.open); this.toggle(!this.open); };
    this.tags = h("span");
    this.answer = h("span", {className: "answer"});
    this.tier = h("span");
    this.ups = h("span");
    this.since = h("time");
    this.note = h("p", {className: "note"});
    const fold = s("svg", {viewBox: "0 0 10 10", class: "fold", "aria-hidden": "true"}, s("path", {d: "M3 1l4 4-4 4"}));
    this.line = h("div", {className: "line"}, this.mark, h("h3", null, this.button, this.tags), this.answer, this.tier, this.ups,
      h("span", {className: "since soft small"}, this.since), fold, this.note);
    this.li = h("li", {className: "pool"}, this.line);
    this.li.row = this;
    this.body = null;
    this.open = false;
    this.update(p);
  }

  update(p) {
    const before = this.pool;
    this.text = null;
    this.pool = p;
    const state = poolState(p);
    shape(this.mark, state.shape);
    this.mark.setAttribute("class", "mark " + state.tint);
    put(this.button, p.name);
    if (!before || before.view !== p.view) {
      this.tags.replaceChildren(...[p.view && "view " + p.view, p.overlay && "overlay"].filter(Boolean).map(t => h("span", {className: "tag"}, t)));
    }
    put(this.answer, p.answer.text);
    tint(this.answer, p.overlay ? "answer soft" : "answer");
    put(this.tier, tierName(p.answer.tier, p));
    tint(this.tier, "tier-name " + (state.tint === "soft" || state.shape === "odd" ? "soft" : state.tint));
    put(this.ups, ups(p));
    const all = membersOf(p);
    tint(this.ups, "ups " + (all.every(m => m.status === "up") ? "soft" : all.some(m => m.status === "up") ? "warn" : "bad"));
    when(this.since, p.answer.since, "for");
    const words = p.unwell ? note(p) : "";
    put(this.note, words);
    show(this.note, words);
    if (before && (before.answer.text !== p.answer.text || before.answer.tier !== p.answer.tier)) {
      this.li.dataset.changed = this.li.dataset.changed === "odd" ? "even" : "odd"; // one animation after the other, or the second would not begin
    }
    if (this.open) this.details();
  }

  toggle(open) {
    this.open = open;
    this.button.setAttribute("aria-expanded", String(open));
    this.li.classList.toggle("open", open);
    if (open && !this.body) {
      this.body = h("div", {className: "body", id: "body-" + PoolRow.bodies++});
      this.button.setAttribute("aria-controls", this.body.id);
      this.li.append(this.body);
    }
    if (this.body) show(this.body, open);
    if (open) { this.details(); refresh(this); }
  }

  details() {
    const p = this.pool;
    const of = JSON.stringify(p.tiers.map(t => t.members.map(m => [m.address, m.label, m.probes.map(q => q.probe)])));
    if (this.of !== of) { // the Corefile has changed, or it is the first time
      this.of = of;
      this.facts = h("dl", {className: "facts"});
      this.tiers = p.tiers.map((t, i) => new TierPart(this, t, i));
      this.body.replaceChildren(this.facts, ...this.tiers.map(t => t.element));
    }
    const listed = p.answer.addresses.slice(0, 50).join(", ") + (p.answer.addresses.length > 50 ? " and " + count(p.answer.addresses.length - 50) + " more" : "");
    const facts = [
      !p.overlay && ["Answer", listed || p.answer.text],
      !p.overlay && ["TTL", p.answer.ttl + " s" + (p.minTTL === p.maxTTL ? "" : " (" + p.minTTL + " to " + p.maxTTL + ")")],
      p.names.length > 1 && ["Names", p.names.slice(0, 20).join(", ") + (p.names.length > 20 ? " and " + count(p.names.length - 20) + " more" : "")],
      p.block && ["Server block", p.block],
      p.view && ["View", p.view],
      ["Order", p.order + (p.answer.turns ? ", it turns" : "")],
      ["Fallback", p.fallback],
      p.failback && ["Failback", p.failback],
      p.hold > 0 && ["Hold", inSeconds(p.hold)],
      ["Probed", "every " + inSeconds(p.interval) + ", in doubt " + inSeconds(p.recheck) + ", time-out " + inSeconds(p.timeout)],
      ["Fall", p.fall + (p.window ? " of " + p.window : "")], ["Rise", String(p.rise)],
      membersOf(p).some(m => m.probes.length > 1) && ["Required", p.require + " of the probes"],
    ].filter(Boolean);
    const said = JSON.stringify(facts);
    if (this.said !== said) {
      this.said = said;
      this.facts.replaceChildren(...facts.map(([dt, dd]) => h("div", null, h("dt", null, dt), h("dd", null, dd))));
    }
    this.tiers.forEach((t, i) => t.update(p.tiers[i], p));
  }

  // Says whether a search finds it.
  found(words) {
    this.text ||= [...this.pool.names, ...membersOf(this.pool).map(m => m.member)].join("\n").toLowerCase();
    return this.text.includes(words);
  }
}

class TierPart {
  constructor(row, t, i) {
    this.i = i;
    this.title = h("b");
    this.words = h("span");
    this.members = t.members.map(m => new MemberPart(row, m));
    this.element = h("section", {className: "tier"}, h("h4", null, this.title, this.words), h("ul", null, ...this.members.map(m => m.element)));
  }

  update(t, p) {
    put(this.title, p.overlay ? "Members" : tierName(String(this.i), p).replace(/^./, c => c.toUpperCase()));
    const use = p.overlay ? "" : p.answer.tier === String(this.i) ? "in use, " : "";
    put(this.words, p.overlay ? ups({tiers: [t]}) + kept(t.members) : use + (t.usable ? "usable" : "not usable") + " – " + ups({tiers: [t]}) + kept(t.members) + ", " + t.need + " needed");
    tint(this.words, t.usable || p.overlay ? "soft" : "bad");
    this.members.forEach((m, i) => m.update(t.members[i], p));
  }
}

class MemberPart {
  constructor(row, m) {
    this.row = row;
    this.mark = mark();
    this.name = h("b", null, m.member);
    this.status = h("span");
    this.since = h("time", {className: "soft"});
    this.answered = h("span", {className: "soft"});
    this.why = h("p", {className: "said"});
    this.held = h("p", {className: "said warn"}, "may be used ", this.heldAt = h("time"));
    this.next = h("p", {className: "said soft"}, "could change ", this.nextAt = h("time"));
    this.override = h("div", {className: "override"}, this.overrideWords = h("p"), this.overrideTimes = h("p", null, "set ", this.setAt = h("time"), this.endWords = h("span"), this.endAt = h("time")));
    this.probes = m.probes.map(() => new ProbePart());
    this.change = h("button", {type: "button", "aria-haspopup": "dialog"}, "Change ...");
    this.change.onclick = () => openHand(this.row, this.address);
    this.acts = h("div", {className: "acts"}, this.change);
    this.element = h("li", {className: "member"},
      h("div", {className: "who"}, this.mark, this.name, h("div", {className: "of"}, h("p", {className: "said"}, this.status, " ", this.since, this.answered), this.why, this.held, this.next), this.override),
      h("div", null, ...this.probes.map(q => q.element)), this.acts);
  }

  update(m, p) {
    this.address = m.address;
    const state = memberState(m), o = m.override;
    shape(this.mark, state.shape);
    this.mark.setAttribute("class", "mark " + state.tint);
    put(this.status, o && o.action !== "drain" ? state.word + " by hand" : state.word);
    tint(this.status, state.tint);
    when(this.since, o && o.action === "drain" ? o.since : m.since, "for");
    put(this.answered, m.answered ? ", in the answer" : p.overlay ? "" : ", not in the answer");
    const drained = o && o.action === "drain" ? "its status is " + m.status : o && m.probed ? "its probes say " + m.probed : "";
    const words = [drained, m.status !== "up" && m.why].filter(Boolean).join(" – ");
    put(this.why, words);
    show(this.why, words);
    const held = parse(m.heldUntil) > now();
    show(this.held, held);
    if (held) when(this.heldAt, m.heldUntil, "until");
    const next = !o && parse(m.couldChangeAt); // an override says itself when it ends
    show(this.next, next);
    if (next) when(this.nextAt, m.couldChangeAt, "soonest");
    show(this.override, o);
    if (o) {
      put(this.overrideWords, actionName(o.action) + (o.author ? " by " + o.author : "") + (o.reason ? ": " + o.reason : "") + scope(o));
      when(this.setAt, o.since, "ago");
      put(this.endWords, parse(o.until) ? ", ends " : ", until it is cleared");
      when(this.endAt, o.until, "until");
    }
    this.probes.forEach((q, i) => q.update(m.probes[i], m.probes.length));
    show(this.acts, server && server.changes !== "none");
    put(this.change, m.waiting ? "Let back ..." : "Change ...");
    this.change.setAttribute("aria-label", this.change.textContent.replace(" ...", "") + " " + m.member + " in " + p.name);
  }
}
const actionName = action => ({drain: "Drained", down: "Held down", up: "Held up"}[action] || action);
const scope = o => o.label ? " (label " + o.label + ")" : o.pool ? "" : " (" + o.member + " in all pools)";

class ProbePart {
  constructor() {
    this.url = h("span");
    this.last = h("span");
    this.lastAt = h("time");
    this.counter = h("span");
    this.dueAt = h("time");
    this.due = h("span", null, " · next ", this.dueAt);
    this.certificateAt = h("time");
    this.certificate = h("span", null, " · certificate expires ", this.certificateAt);
    this.said = h("p", {className: "said soft"}, this.last, " ", this.lastAt, " · ", this.counter, this.due, this.certificate);
    this.trail = s("svg", {class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", role: "img"});
    this.votes = h("table", {className: "votes small"}, h("caption", {className: "only-read"}, "What each site says"), this.sites = h("tr"), this.words = h("tr"));
    this.element = h("div", {className: "probe"}, this.url, this.trail, this.votes, this.said);
  }

  update(q, of) {
    put(this.url, q.probe + (of > 1 ? " – " + q.status : ""));
    tint(this.url, of > 1 && q.status === "down" ? "bad" : "");
    const last = q.last;
    put(this.last, !last ? "not probed yet" : last.passed ? "passed in " + took(last.took) : "failed after " + took(last.took) + (last.error ? ": " + last.error : ""));
    tint(this.last, last && !last.passed ? "bad" : "");
    when(this.lastAt, last && last.at, "ago");
    put(this.counter, counter(q));
    tint(this.counter, q.against && q.status !== "down" ? "warn" : "");
    const due = parse(q.due);
    show(this.due, due);
    if (due) when(this.dueAt, q.due, "until");
    show(this.certificate, q.certificateExpires);
    tint(this.certificate, q.expiring ? "warn" : "");
    if (q.certificateExpires) when(this.certificateAt, q.certificateExpires, "until");
    this.vote(q.votes || []);
    const drawn = q.trail.join();
    if (this.drawn !== drawn) { this.drawn = drawn; spark(this.trail, q.trail); }
  }

  // A column for each site.
  vote(votes) {
    show(this.votes, votes.length);
    const said = JSON.stringify(votes);
    if (this.voted === said) return;
    this.voted = said;
    this.sites.replaceChildren(...votes.map(v => h("th", {scope: "col"}, v.site)));
    this.words.replaceChildren(...votes.map(v => h("td", {className: v.status === "down" ? "bad" : "", title: v.why || ""}, v.status)));
  }
}

// How long the latest probes took: a line, and a bar at the bottom for each that failed.
function spark(svg, trail) {
  const passed = trail.filter(t => t >= 0), most = Math.max(...passed, 1e-4), failed = trail.length - passed.length;
  const x = i => (100 * (i + .5) / Math.max(trail.length, 20) + 100 * (1 - trail.length / Math.max(trail.length, 20))).toFixed(2);
  let line = "", bars = "", pen = "M";
  trail.forEach((t, i) => {
    if (t < 0) { bars += "M" + x(i) + " 14v9"; pen = "M"; return; }
    line += pen + x(i) + " " + (22 - 19 * t / most).toFixed(1);
    if (pen === "M" && !(trail[i + 1] >= 0)) line += "h.4"; // one alone is a dot
    pen = "L";
  });
  svg.replaceChildren(s("path", {d: line}), s("path", {d: bars, class: "failed"}));
  const words = !trail.length ? "no probe has ended yet" : "the latest " + many(trail.length, "probe") + ": " +
    (passed.length ? took(Math.min(...passed)) + " to " + took(most) : "none passed") + (failed && passed.length ? ", " + failed + " failed" : "");
  svg.setAttribute("aria-label", words);
  svg.append(s("title", {}, words));
}
