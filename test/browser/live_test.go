package browser

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A member dies: the page says so within a second of the server's transition, and is not loaded anew for it.
func TestTransition(t *testing.T) {
	first, second := listen(t, "127.0.0.2:0"), listen(t, "127.0.0.3:0")
	s := start(t, fmt.Sprintf("failover www.example.org fra1=%s {\nbackup ams1=%s\n}", first, second))
	b := open(t, s.page, look{})
	b.until(`row("www.example.org.").innerText.includes("primary") && document.getElementById("summary").textContent === "All well"`)
	eval[any](b, `window.same = true;
		noteWhen("row", () => /ams1|127\.0\.0\.3/.test(row("www.example.org.").querySelector(".answer").textContent) && row("www.example.org.").textContent.includes("backup"));
		noteWhen("title", () => document.title.startsWith("1 pool on backup"))`)
	first.Close()
	b.until(`seen.row && seen.title`)

	var said struct {
		Events []struct {
			At           time.Time
			Kind, To, ID string
		}
	}
	s.get("api/v1/events", &said)
	var at time.Time
	for _, e := range said.Events {
		if e.Kind == "transition" && e.To == "down" {
			at = e.At
		}
	}
	for _, what := range []string{"row", "title"} {
		shown := time.UnixMilli(eval[int64](b, "seen."+what+".at"))
		late := shown.Sub(at)
		t.Logf("The %s shows it %v after the transition", what, late)
		if late > time.Second {
			t.Errorf("The %s shows it %v after the transition, want a second at most", what, late)
		}
	}
	if !eval[bool](b, `window.same === true && performance.getEntriesByType("navigation").length === 1`) {
		t.Error("The page was loaded anew")
	}
	for _, shown := range []string{
		`document.getElementById("summary").textContent === "1 pool on backup"`,
		`document.getElementById("ill-list").contains(row("www.example.org."))`,
		`row("www.example.org.").querySelector(".member").innerText.includes("down")`,
		`row("www.example.org.").querySelector(".member").innerText.includes("refused")`,
		`/fra1 127.0.0.2:\d+: up → down/.test(document.getElementById("latest-words").textContent)`,
		`row("www.example.org.").querySelector(".spark .failed").getAttribute("d").length > 0`,
		`[...row("www.example.org.").querySelectorAll("time")].every(e => !e.checkVisibility() || (e.dateTime && /\d\d:\d\d:\d\d/.test(e.title)))`,
	} {
		b.until(shown)
	}

	b.click(`document.querySelector("nav a[href='#day']")`)
	b.until(`document.querySelector("#happened").innerText.includes("up → down")`)
	b.until(`/started\s+1 pool: 2 members up, 0 down/.test(document.querySelector("#happened").innerText)`)
	b.until(`[...document.querySelectorAll("#chart .lane svg[role=img]")].some(e => /down 1 time/.test(e.getAttribute("aria-label")))`)
	if !eval[bool](b, `document.querySelectorAll("#chart .seg-up").length > 0 && document.querySelectorAll("#chart .seg-down").length > 0`) {
		t.Error("The timeline has no time up or no time down")
	}
	b.shot("day")
}

// Counters move before a status does, and are shown as they move.
func TestCounters(t *testing.T) {
	first := listen(t, "127.0.0.2:0")
	s := start(t, fmt.Sprintf("failover www.example.org %s {\nfall 100\n}", first))
	b := open(t, s.page, look{})
	b.until(`row("www.example.org.").innerText.includes("0 of 100 failures")`)
	first.Close()
	b.until(`/[1-9]\d* of 100 failures/.test(row("www.example.org.").innerText)`)
	b.until(`/failed after .* refused/.test(row("www.example.org.").innerText)`)
}

// Without a server the page says so, and since when, and finds back by itself.
func TestConnectionLost(t *testing.T) {
	first := listen(t, "127.0.0.2:0")
	s := start(t, fmt.Sprintf("failover www.example.org %s", first))
	b := open(t, s.page, look{})
	b.until(`document.title.startsWith("All well")`)
	s.stop()
	b.until(`!document.getElementById("lost").hidden && /Connection lost, as of \d\d:\d\d:\d\d/.test(document.getElementById("lost").textContent)`)
	if title := eval[string](b, "document.title"); !strings.HasPrefix(title, "Connection lost") {
		t.Errorf("The title is %q, want one that says that the connection is lost", title)
	}
	if eval[bool](b, `document.querySelector("header").innerText.includes("\nAll well")`) {
		t.Error("All is well, says a page that does not know")
	}
	b.shot("lost")
	s.run()
	b.until(`document.getElementById("lost").hidden && document.title.startsWith("All well")`)
}
