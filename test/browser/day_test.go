package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// drawn has the earliest time at which anything is drawn in the timeline: in all, or in the lane of one member. It is in
// milliseconds since 1970, and 0 if nothing is drawn.
const drawn = `(lane => {
	const bars = [...document.querySelectorAll("#chart .lane")].filter(e => !lane || e.textContent.includes(lane)).flatMap(e => [...e.querySelectorAll("[class^=seg-]")]);
	return bars.length ? Date.now() - 86400e3 * (1 - Math.min(...bars.map(bar => parseFloat(bar.getAttribute("x")) / 100))) : 0;
})`

// resolution is what the timeline may be off by: a thousandth of a percent of a day, and the time since it was drawn.
const resolution = 3 * time.Second

// reload has the program take up another Corefile.
func (s *server) reload(change func(corefile string) string) {
	s.t.Helper()
	text, err := os.ReadFile(s.corefile)
	if err != nil {
		s.t.Fatal(err)
	}
	write(s.t, s.corefile, change(string(text)))
	if err := s.command.Process.Signal(syscall.SIGUSR1); err != nil {
		s.t.Fatal(err)
	}
}

// The timeline has nothing of the time before the server was there, however the page is opened, and nothing of a pool
// before there was that pool.
func TestTimelineBegins(t *testing.T) {
	well, second := listen(t, "127.0.0.2:0"), listen(t, "127.0.0.3:0")
	var lines strings.Builder
	for i := range 1000 {
		backup := second.String()
		if i%300 == 0 {
			backup = "127.0.0.9:9" // nobody listens there
		}
		fmt.Fprintf(&lines, "failover w%04d.example.org east=%s {\nbackup west=%s\n}\n", i, well, backup)
	}
	s := start(t, lines.String())
	var document struct{ Server struct{ Started time.Time } }
	s.get("api/v1/pools?limit=0", &document)
	started := document.Server.Started

	b := open(t, s.page+"#day", look{})
	b.until(`document.querySelectorAll("#chart .seg-down").length > 0`)
	b.until(`!document.getElementById("live").textContent.includes("connecting") && document.querySelectorAll("#happened .happened").length > 0`)
	b.shot("day-opened")
	early := func(lane string, begin time.Time) {
		t.Helper()
		at := time.UnixMilli(int64(eval[float64](b, drawn+fmt.Sprintf("(%q)", lane))))
		if at.Before(begin.Add(-resolution)) {
			t.Errorf("The timeline of %q begins at %v, want nothing before %v", lane, at, begin)
		}
	}
	early("", started)
	if text := eval[string](b, `document.getElementById("chart").innerText`); !strings.Contains(text, "no record before "+started.Format("15:04")) {
		t.Errorf("The timeline says %q, want that there is no record before %v", text, started)
	}

	// A pool of the next Corefile, whose members another pool has had all the time.
	within(t, 30*time.Second, "the server is older than the timeline is inexact", func() bool { return time.Since(started) > 3*resolution })
	reloaded := time.Now()
	s.reload(func(text string) string {
		text = strings.TrimSuffix(strings.TrimSpace(text), "}") // of the server block
		return text + "failover new.example.org known=127.0.0.9:9 gone=127.0.0.8:9 {\nbackup " + well.String() + "\n}\n}\n"
	})
	b.until(`[...document.querySelectorAll("#happened .happened")].some(e => e.textContent.includes("Corefile reloaded"))`)
	b.until(`[...document.querySelectorAll("#chart .lane")].some(e => e.textContent.includes("gone 127.0.0.8")) && [...document.querySelectorAll("#chart .lane")].some(e => e.textContent.includes("known 127.0.0.9"))`)
	early("gone 127.0.0.8", reloaded)
	early("known 127.0.0.9", reloaded)
	early("", started)
	b.shot("day-reloaded")

	// A member that a reload adds to a pool is drawn from then on. It is up first, which is no event.
	late := listen(t, "127.0.0.4:0")
	added := time.Now()
	s.reload(func(text string) string {
		return strings.Replace(text, "failover w0001.example.org east=", fmt.Sprintf("failover w0001.example.org late=%s east=", late), 1)
	})
	b.until(`[...document.querySelectorAll("#happened .happened")].filter(e => e.textContent.includes("Corefile reloaded")).length === 2`)
	within(t, 30*time.Second, "the member is there", func() bool { return time.Since(added) > resolution })
	late.Close()
	b.until(`[...document.querySelectorAll("#chart .lane")].some(e => e.textContent.includes("late 127.0.0.4") && e.querySelector(".seg-down"))`)
	early("late 127.0.0.4", added)
}

// What the server cannot do itself is in the page's headline, with the reason, until it can.
func TestServerWarnings(t *testing.T) {
	well := listen(t, "127.0.0.2:0")
	dir := filepath.Join(t.TempDir(), "states")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, fmt.Sprintf("failover www.example.org fra1=%s", well))
	s.reload(func(text string) string {
		return strings.Replace(text, "timeout 1s", "timeout 1s\nstate "+filepath.Join(dir, "state")+" 4s", 1)
	})
	within(t, 20*time.Second, "the state is kept", func() bool { _, err := os.Stat(filepath.Join(dir, "state")); return err == nil })
	b := open(t, s.page, look{})
	b.until(`document.getElementById("summary").textContent === "All well" && document.getElementById("warnings").hidden`)

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	b.until(`/state file .* cannot be written: .*no such file/.test(document.getElementById("warnings").innerText)`)
	b.until(`document.getElementById("summary").textContent === "1 server warning" && document.title.startsWith("1 server warning")`)
	b.shot("warnings")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.until(`document.getElementById("summary").textContent === "All well" && document.getElementById("warnings").hidden`)

	// A reload that is refused, and one that is not.
	s.reload(func(text string) string { return strings.Replace(text, "timeout 1s", "timeout soon", 1) })
	b.until(`/reload was refused.*timeout "soon"/.test(document.getElementById("warnings").innerText)`)
	b.until(`document.getElementById("summary").textContent === "1 server warning"`)
	b.until(`document.getElementById("latest-words").textContent.includes("reload refused")`)
	b.shot("refused")
	s.reload(func(text string) string { return strings.Replace(text, "timeout soon", "timeout 1s", 1) })
	b.until(`document.getElementById("summary").textContent === "All well" && document.getElementById("warnings").hidden`)
}
