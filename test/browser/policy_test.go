package browser

import (
	"fmt"
	"strings"
	"testing"
)

// The page does nothing that its policy forbids, and asks nobody but its server.
func TestPolicy(t *testing.T) {
	first := listen(t, "127.0.0.2:0")
	s := start(t, fmt.Sprintf("failover www.example.org %s", first))
	b := open(t, s.page, look{})
	b.until(`row("www.example.org.").querySelector(".member")`)
	b.click(`document.querySelector(".acts button")`)
	b.until(`document.getElementById("hand").open`)
	b.press("\x1b")
	b.click(`document.querySelector("nav a[href='#day']")`)
	b.until(`!document.getElementById("day").hidden`)
	if got := eval[[]string](b, "violations"); len(got) > 0 {
		t.Errorf("The page violates its policy: %v", got)
	}
	stream := false
	for _, url := range b.asked() {
		if !strings.HasPrefix(url, s.page) && !strings.HasPrefix(url, "data:") {
			t.Errorf("The page asks for %s, want nothing but %s", url, s.page)
		}
		stream = stream || strings.HasPrefix(url, s.page+"api/v1/events?pools=true")
	}
	if !stream {
		t.Errorf("The page does not follow the events; it asked for %v", b.asked())
	}

	// The policy is there, and would have been noticed.
	eval[any](b, `for (const tag of ["script", "style"]) {
		const e = document.createElement(tag);
		e.textContent = tag === "script" ? "window.evil = true" : "body { display: none }";
		document.body.append(e);
	}`)
	b.until(`violations.length === 2 && !window.evil && getComputedStyle(document.body).display !== "none"`)
}
