package browser

import (
	"fmt"
	"strings"
	"testing"
)

// A thousand pools. The bounds are for a machine that is busy with something else; on an idle one it is a tenth.
func TestManyPools(t *testing.T) {
	shared, backup, own := listen(t, "127.0.0.2:0"), listen(t, "127.0.0.3:0"), listen(t, "127.0.0.4:0")
	var lines strings.Builder
	const pools = 1000
	for i := range pools {
		primary := shared
		if i == 500 {
			primary = own
		}
		fmt.Fprintf(&lines, "failover w%04d.example.org east=%s {\nbackup west=%s\n}\n", i, primary, backup)
	}
	s := start(t, lines.String())
	b := open(t, s.page, look{})
	bound := func(what string, took, most float64) {
		t.Helper()
		t.Logf("%s: %.0f ms", what, took)
		if took > most {
			t.Errorf("%s: %.0f ms, want %.0f at most", what, took, most)
		}
	}
	b.until(fmt.Sprintf(`document.querySelectorAll(".pool").length === %d`, pools))
	bound("First rows", eval[float64](b, "seen.first.after"), 3000)
	b.until(`document.title.startsWith("All well")`)
	b.shot("thousand")

	// From the key to what is on the screen.
	const typed = `new Promise(done => {
		const q = document.getElementById("q"), begin = performance.now();
		q.value = "%s";
		q.dispatchEvent(new Event("input", {bubbles: true}));
		requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begin)));
	})`
	bound("Search", eval[float64](b, fmt.Sprintf(typed, "w0500")), 1000)
	if n := eval[int](b, `document.querySelectorAll(".pool").length`); n != 1 {
		t.Errorf("%d pools are found, want 1", n)
	}
	if found := eval[string](b, `document.getElementById("found").textContent`); found != "1 found" {
		t.Errorf("The page says %q, want 1 found", found)
	}
	bound("End of the search", eval[float64](b, fmt.Sprintf(typed, "")), 2000)

	// A change of one pool touches its row and no other.
	eval[any](b, `window.touched = new Set();
		new MutationObserver(all => {
			for (const m of all) {
				const e = m.target.nodeType === Node.ELEMENT_NODE ? m.target : m.target.parentElement, li = e && !e.closest("time") && e.closest(".pool");
				if (li) touched.add(li.querySelector("h3").textContent);
			}
		}).observe(document.querySelector("main"), {subtree: true, childList: true, characterData: true, attributes: true});
		window.idle = performance.now();
		window.stuck = 0;
		setInterval(() => { const now = performance.now(); stuck = Math.max(stuck, now - idle); idle = now; }, 5);
		noteWhen("one", () => document.title.startsWith("1 pool on backup"));`)
	own.Close()
	b.until(`seen.one && row("w0500.example.org.").innerText.includes("backup")`)
	if got := eval[[]string](b, `[...touched].filter(name => name !== "w0500.example.org.")`); len(got) > 0 {
		t.Errorf("The change of one pool touched %d others: %.200v", len(got), got)
	}
	bound("Longest standstill for one change", eval[float64](b, "stuck"), 500)

	// A change of all of them at once.
	eval[any](b, `stuck = 0; noteWhen("some", () => /^\d* ?[^1]\d* pools on backup|1,000 pools/.test(document.title)); noteWhen("all", () => document.title.startsWith("1,000 pools on backup"));`)
	shared.Close()
	b.until(`seen.some && seen.all`)
	bound("All pools change, from the first to the last", eval[float64](b, "seen.all.after - seen.some.after"), 10_000)
	bound("Longest standstill for all changes", eval[float64](b, "stuck"), 5000)
	b.shot("thousand-ill")

	b.click(`document.getElementById("unwell")`)
	b.until(`document.getElementById("found").textContent === "1,000 found" && document.getElementById("well").hidden`)
}

// More pools than are fetched at once: what is not well is there wherever it stands, and a search is the server's.
func TestMorePoolsThanFetched(t *testing.T) {
	up, down := listen(t, "127.0.0.2:0"), listen(t, "127.0.0.3:0")
	down.Close()
	var lines strings.Builder
	for i := range 1200 {
		primary := up
		if i == 1100 {
			primary = down
		}
		fmt.Fprintf(&lines, "failover w%04d.example.org %s\n", i, primary)
	}
	s := start(t, lines.String())
	b := open(t, s.page, look{})
	b.until(`document.title.startsWith("1 pool on fallback") && document.getElementById("ill-list").contains(row("w1100.example.org."))`)
	b.until(`document.getElementById("more-words").textContent.startsWith("1,001 pools of 1,200") && !row("w1150.example.org.")`)
	b.fill("q", "w115")
	b.until(`document.getElementById("found").textContent === "10 found" && row("w1150.example.org.") && !row("w0001.example.org.")`)
	b.press("\x1b")
	b.until(`document.getElementById("more-words").textContent.startsWith("1,001 pools of 1,200") && row("w0001.example.org.") && !row("w1150.example.org.")`)
	b.click(`document.getElementById("more-go")`)
	b.until(`row("w1150.example.org.") && document.querySelectorAll(".pool").length === 1200 && document.getElementById("more").hidden`)
}
