"use strict";
// This script runs the dialog for an override.

// What is kept between visits is a name only; the token goes with the tab. Where nothing may be kept it is asked for again.
function remembered(store, name) { try { return store.getItem(name) || ""; } catch { return ""; } }
function remember(store, name, value) { try { store.setItem(name, value); } catch { /* not kept */ } }
let token = remembered(sessionStorage, "failover-token");
let hand = null; // {row, member, turn, outcome}: what the dialog is about

const actions = {drain: ["Drain", "It leaves the answer; its probes go on."], down: ["Hold down", "It counts as down."], up: ["Hold up", "It counts as up."], clear: ["Clear", "Its probes decide again."]};

function pick(group, name, value, title, words, checked) {
  const input = h("input", {type: "radio", name, value, checked});
  group.append(h("label", {className: "pick"}, input, h("span", null, title, words && h("span", {className: "small soft"}, h("br"), words))));
}
function openHand(row, address) {
  const p = row.pool, m = membersOf(p).find(m => m.address === address), o = m.override;
  hand = {row, member: m, turn: 0, outcome: null};
  put($("hand-title"), m.member + " in " + p.name + (p.view ? " (view " + p.view + ")" : ""));
  put($("hand-now"), "It is " + memberState(m).word + (m.answered ? ", and in the answer." : "."));
  for (const id of ["action", "where"]) for (const old of [...$(id).querySelectorAll("label")]) old.remove();
  for (const [value, [title, words]] of Object.entries(actions)) {
    const back = value === "clear" && m.waiting && !o;
    pick($("action"), "action", value, back ? "Let back" : title, back ? "It is used again." : words, o || m.waiting ? value === "clear" : value === "drain");
  }
  const at = !o || o.pool ? "pool" : o.label ? "label" : "member";
  pick($("where"), "where", "pool", "In this pool", "", at === "pool");
  pick($("where"), "where", "member", "In every pool that has " + m.address, "", at === "member");
  if (m.label) pick($("where"), "where", "label", "All members labelled " + m.label, "", at === "label");
  $("until").value = "";
  $("reason").value = "";
  $("author").value = remembered(localStorage, "failover-author");
  $("hand").showModal();
  decide();
  if (server.changes === "token" && !token) $("token").focus();
}
const chosenOf = name => document.querySelector(`#hand-form input[name=${name}]:checked`).value;

// The request that the dialog stands for.
function request(dry) {
  const {row, member: m} = hand, o = m.override, where = chosenOf("where"), action = chosenOf("action"), clear = action === "clear";
  const word = clear && o && o.member && (where === "pool") === Boolean(o.pool) ? o.member : m.address; // as it was set
  const e = encodeURIComponent, base = "/api/v1/overrides/";
  const path = where === "label" ? base + "labels/" + e(m.label) : where === "member" ? base + "members/" + e(word) : base + "pools/" + e(row.pool.name) + "/members/" + e(word);
  const query = new URLSearchParams(), said = {reason: $("reason").value.trim(), author: $("author").value.trim()};
  if (dry) query.set("dry-run", "true");
  if (!dry && $("sure-box").checked && !$("sure").hidden) query.set("force", "true");
  if (clear) for (const [k, v] of Object.entries(said)) if (v) query.set(k, v);
  const change = {action, ...said}, until = $("until").value;
  if (until === "at") { if ($("at").value) change.until = new Date($("at").value).toISOString(); }
  else if (until) change.for = until;
  const headers = token && server.changes === "token" ? {Authorization: "Bearer " + token} : {};
  if (!clear) headers["Content-Type"] = "application/json";
  return [path + (String(query) && "?" + query), {method: clear ? "DELETE" : "PUT", headers, body: clear ? undefined : JSON.stringify(change)}];
}

// Asks what the choice would do, and lets it be confirmed only then.
async function decide() {
  if (!hand) return;
  const turn = ++hand.turn, action = chosenOf("action");
  hand.outcome = null;
  const needs = server.changes === "token" && !token;
  show($("token-part"), needs);
  show($("until-part"), action !== "clear");
  show($("at-part"), $("until").value === "at");
  show($("sure"), false);
  $("sure-box").checked = false;
  put($("go"), document.querySelector("#action input:checked + span").firstChild.textContent);
  enable();
  if (needs) return say("What this would do is shown once there is a token.");
  if (action !== "clear" && $("until").value === "at" && !$("at").value) return say("Until when?");
  say("Asking what this would do.");
  try {
    const outcome = await get(...request(true));
    if (hand && turn === hand.turn) consider(outcome, false);
  } catch (error) {
    if (hand && turn === hand.turn) refused(error);
  }
}
function say(text, name = "soft") {
  $("outcome").replaceChildren(h("h3", {id: "outcome-title"}, "What it does"), h("p", {className: name}, text));
}
function consider(outcome, last) {
  hand.outcome = outcome;
  const effects = outcome.effects || [], warnings = outcome.warnings || [], bare = last || effects.some(f => f.bare);
  const words = (a, p) => (a.text || "nothing") + (!a.tier ? "" : a.tier !== "fallback" ? " (" + tierName(a.tier, p) + ")" : a.text.includes("fallback") ? "" : " (fallback)");
  const items = effects.map(f => {
    const row = rows.get(f.poolId), a = words(f.before, row && row.pool), b = words(f.after, row && row.pool);
    const several = (f.members || []).length > 1 ? ": " + f.members.join(", ") : "", name = f.pool + (f.view ? " (view " + f.view + ")" : "") + several;
    return h("li", null, h("b", null, name), h("br"), a === b ? "goes on to answer " + a : h("span", null, a, h("span", {className: "arrow"}, "→"), h("span", {className: f.bare ? "bad" : ""}, b)));
  });
  if (!items.length) items.push(h("li", null, chosenOf("action") === "clear" && hand.member.waiting ? "It may be answered again." : "No answer changes."));
  const kept = outcome.unchanged || 0, more = outcome.pools - kept - effects.length;
  if (more > 0) items.push(h("li", {className: "soft"}, "and " + many(more, "further pool")));
  if (kept && (effects.length || outcome.pools > 1)) items.push(h("li", {className: "soft"}, kept === 1 ? "1 pool keeps its answer" : count(kept) + " pools keep their answer"));
  $("outcome").replaceChildren(h("h3", {id: "outcome-title"}, "What it does"), h("ul", null, ...items),
    ...warnings.map(w => h("p", {className: "warning"}, mark("backup"), h("span", null, w))),
    ...(outcome.notes || []).map(n => h("p", {className: "small soft"}, n)));
  show($("sure"), bare);
  const names = effects.filter(f => f.bare).map(f => f.pool);
  put($("sure-words"), (names.length === 1 ? names[0] + " has" : "Pools have") + " no usable tier then. Do it all the same.");
  enable();
}
function refused(error) {
  const problem = error.problem || {};
  if (error.status === 401) {
    token = "";
    remember(sessionStorage, "failover-token", token);
    decide();
    put($("token-wrong"), "The server does not take this token.");
    show($("token-wrong"), true);
    $("token").focus();
  } else if (error.status === 409 && problem.outcome) {
    consider(problem.outcome, true);
    $("sure-box").focus();
  } else {
    say("The server does not do this: " + error.message, "bad");
  }
}
function enable() {
  $("go").disabled = !hand || !hand.outcome || (!$("sure").hidden && !$("sure-box").checked);
}
async function act() {
  if (server.changes === "token" && !token) return useToken();
  enable();
  if ($("go").disabled) return;
  const turn = hand.turn;
  $("go").disabled = true;
  remember(localStorage, "failover-author", $("author").value.trim());
  try {
    await get(...request(false));
    $("hand").close();
  } catch (error) {
    if (hand && turn === hand.turn) { hand.outcome = null; refused(error); }
  }
}
function useToken() {
  const given = $("token").value.trim();
  if (!given) return;
  token = given;
  remember(sessionStorage, "failover-token", token);
  $("token").value = "";
  show($("token-wrong"), false);
  decide();
  document.querySelector("#action input:checked").focus();
}
