"use strict";
// This script connects the keys and the buttons, and starts the page. It is the last script.

$("hand-form").addEventListener("submit", e => { e.preventDefault(); act(); });
for (const id of ["action", "where", "until", "at"]) $(id).addEventListener("change", decide);
$("sure-box").addEventListener("change", enable);
$("token-go").addEventListener("click", useToken);
$("token").addEventListener("keydown", e => { if (e.key === "Enter") { e.preventDefault(); useToken(); } }); // the form's button is disabled
$("cancel").addEventListener("click", () => $("hand").close());
$("q").addEventListener("input", refilter);
$("unwell").addEventListener("change", refilter);
$("more-go").addEventListener("click", () => { if (!held) load(reached).catch(lose); });
$("older-go").addEventListener("click", () => { listed += 500; drawDay(); });
addEventListener("keydown", e => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName) && !/^(checkbox|radio)$/.test(document.activeElement.type);
  if (e.key === "/" && !typing && !$("hand").open && !e.ctrlKey && !e.metaKey && !e.altKey) {
    e.preventDefault();
    $("q").focus();
    $("q").select();
  } else if (e.key === "Escape" && document.activeElement === $("q")) {
    e.preventDefault();
    if ($("q").value) { $("q").value = ""; refilter(); } else $("q").blur();
  }
});
function view() {
  const day = location.hash === "#day";
  show($("now"), !day);
  show($("day"), day);
  show($("unwell-label"), !day);
  for (const a of document.querySelectorAll("nav a")) a.hash === (day ? "#day" : "#now") ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current");
  if (day) drawDay();
}
addEventListener("hashchange", view);
view();
listen();
setTimeout(poll, POLL);
setInterval(() => { if (!$("day").hidden && !document.hidden) drawDay(); }, 60e3);
