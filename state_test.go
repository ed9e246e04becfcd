package failover

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/state"
)

// keeping are the directives of a pool whose state is kept in a file.
func keeping(file, directives string) string {
	return "failover {\nstate " + file + "\n}\n" + directives
}

// restarted is what happens to a generation that was stopped: another begins where it ended, with a monitor of its own.
// done is told of its first answer, while it starts, and of the generation afterwards.
func restarted(t *testing.T, w *world, directives string, done func(first string, g *generation, f Failover)) {
	t.Helper()
	g, f := w.generate(t, monitor.New(nil), nil, directives)
	w.takes = time.Second // no probe has an answer before the first query
	go g.start()
	synctest.Wait()
	first := ""
	if len(g.pools) > 0 {
		first = now(t, f)
	}
	done(first, g, f)
	g.stop()
	w.takes = 0
}

func TestStateOverRestart(t *testing.T) {
	for _, tc := range []struct {
		name, block string
		before      func(t *testing.T, w *world, f Failover)
		want        string
	}{
		{"all up", "", func(*testing.T, *world, Failover) {}, "1 2"},
		{"one down", "", func(_ *testing.T, w *world, _ Failover) { w.set("down", "192.0.2.1") }, "2"},
		{"on backup", "", func(_ *testing.T, w *world, _ Failover) { w.set("down", "192.0.2.1", "192.0.2.2") }, "3"},
		{"the last that worked", "fallback last\n", func(_ *testing.T, w *world, _ Failover) {
			w.set("down", "192.0.2.1")
			time.Sleep(wayDown)
			w.set("down", "192.0.2.2", "192.0.2.3")
			time.Sleep(2 * wayDown)
		}, "2"},
		{"held", "hold 1h\n", func(_ *testing.T, w *world, _ Failover) {
			w.set("down", "192.0.2.1")
			time.Sleep(wayDown)
			w.set("", "192.0.2.1")
			time.Sleep(wayUp)
		}, "2"},
		{"waiting", "failback manual\n", func(_ *testing.T, w *world, _ Failover) {
			w.set("down", "192.0.2.1")
			time.Sleep(wayDown)
			w.set("", "192.0.2.1")
			time.Sleep(wayUp)
		}, "2"},
		{"let back", "failback manual\n", func(t *testing.T, w *world, _ Failover) {
			w.set("down", "192.0.2.1")
			time.Sleep(wayDown)
			w.set("", "192.0.2.1")
			time.Sleep(wayUp)
			undo(t, "192.0.2.1")
		}, "1 2"},
		{"drained", "", func(t *testing.T, _ *world, _ Failover) { decide(t, "drain label=east", 0) }, "2"},
		{"drained for a while that is over", "", func(t *testing.T, _ *world, _ Failover) { decide(t, "drain label=east", 10*time.Second) }, "1 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "state")
			directives := keeping(file, three+tc.block+"}")
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				g, f := w.begin(t, directives)
				tc.before(t, w, f)
				time.Sleep(wayDown)
				synctest.Wait()
				g.stop()
				time.Sleep(5 * time.Second)
				restarted(t, w, directives, func(first string, g *generation, f Failover) {
					expect(t, "The first answer", first, tc.want)
					if !g.answering() {
						t.Error("Not ready though everything is known")
					}
					expect(t, "When it has probed", after(t, f, time.Minute), tc.want)
				})
			})
		})
	}
}

// Statuses that are too old are not believed, and overrides are.
func TestStateAge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	directives := keeping(file, three+"}")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		g, _ := w.begin(t, directives)
		w.set("down", "192.0.2.1")
		decide(t, "drain 192.0.2.2", 0)
		time.Sleep(wayDown)
		synctest.Wait()
		g.stop()
		time.Sleep(time.Minute + time.Second)
		restarted(t, w, directives, func(first string, _ *generation, f Failover) {
			expect(t, "Nothing is known of the first", first, "1")
			expect(t, "When it has probed", after(t, f, time.Minute), "3")
		})
	})
}

// The age is that of the process, not that of the last change.
func TestStateIsRefreshed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		newWorld().begin(t, keeping(file, three+"}"))
		time.Sleep(time.Hour)
		synctest.Wait()
		if age := time.Since(savedAt(t, file)); age > 15*time.Second {
			t.Errorf("The file is %s old", age)
		}
	})
}

func savedAt(t *testing.T, file string) time.Time {
	t.Helper()
	var d state.Document
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d.Saved
}

// What an overlay has found is there again.
func TestStateOfOverlay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		directives := keeping(file, over("from next"))
		_, f := w.begin(t, directives)
		f.Next = newSource(t, "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2")
		w.set("down", "192.0.2.1")
		settle(t, f, "www.example.org. A")
		f.generation.stop()
		restarted(t, w, directives, func(_ string, _ *generation, f Failover) {
			f.Next = newSource(t, "www.example.org. 60 A 192.0.2.1, www.example.org. 60 A 192.0.2.2")
			if got := shown(t, f, "www.example.org. A"); strings.Contains(got, "192.0.2.1") || !strings.Contains(got, "192.0.2.2") {
				t.Errorf("The first answer is %s", got)
			}
			if s := process.Summary(); s.Up != 1 || s.Down != 1 {
				t.Errorf("The summary is %+v, want what is known from before", s)
			}
		})
	})
}

// Whatever is in its place, or is not, the server starts.
func TestStateOfOthers(t *testing.T) {
	const whole = `{"format":"failover state","version":1,"saved":"2000-01-01T00:00:00Z","overrides":[`
	for _, tc := range []struct {
		name, content, warning string
		kept                   bool // the content
	}{
		{"empty", "", "", false},
		{"torn", whole, "is not whole", false},
		{"foreign", "precious\n", "is no state file of failover", true},
		{"foreign JSON", `{"version":1}`, "is no state file of failover", true},
		{"of the future", `{"format":"failover state","version":2,"more":[]}`, "has version 2", true},
		{"a decision that cannot be", whole + `{"member":"192.0.2.1","action":"explode"}]}`, `action "explode"`, false},
		{"addresses that are none", whole + `],"pools":[{"id":"example.org.@test#next","found":{"":"0001-01-01T00:00:00Z","fe80::1%eth0":"0001-01-01T00:00:00Z","::ffff:192.0.2.1":"0001-01-01T00:00:00Z"}}]}`, "", false},
		{"another shape", `{"format":"failover state","version":1,"questions":7}`, "is not whole", false},
		{"an odd status", whole + `],"questions":[{"question":"sight://0","targets":[{"target":"192.0.2.1:443","status":"odd"}]}]}`, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(file, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				lines := logbook(t)
				g, f := newWorld().begin(t, keeping(file, three+"}\nfailover {\nfrom next\nprobe tcp://:443\n}"))
				expect(t, "Started", now(t, f), "1 2")
				if n := len(*g.overlays[0].known.Load()); n != 0 {
					t.Errorf("The overlay has %d addresses", n)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				g.stop()
				if tc.warning != "" && len(lines(tc.warning)) != 1 || tc.warning == "" && len(lines("[WARNING]")) != 0 {
					t.Errorf("The log is %q, want %q once", lines(""), tc.warning)
				}
			})
			now, err := os.ReadFile(file)
			if err != nil || (string(now) == tc.content) != tc.kept {
				t.Errorf("Afterwards it is %q, %v; want it left alone: %t", now, err, tc.kept)
			}
		})
	}
}

// A place that cannot be written to is said once, and again when it can.
func TestStateUnwritable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not there yet")
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		w := newWorld()
		_, f := w.begin(t, keeping(`"`+filepath.Join(dir, "state")+`"`, three+"}"))
		w.set("down", "192.0.2.1")
		expect(t, "It answers all the same", after(t, f, time.Minute), "2")
		if n := len(lines("cannot be written: ")); n != 1 {
			t.Errorf("The log says so %d times, want once: %q", n, lines(""))
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(lines("is written again")); n != 1 {
			t.Errorf("The log says so %d times that it is written again, want once: %q", n, lines(""))
		}
	})
}

// Of two processes one writes the file, and the other says which. When that ends it takes its place.
func TestStateOfTwo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	lock, err := state.Lock(file + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := state.Lock(file + ".lock"); err == nil {
		t.Skip("no locks here")
	}
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		newWorld().begin(t, keeping(file, three+"}"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(lines("cannot be written: process ")); n != 1 {
			t.Errorf("The log says so %d times, want once: %q", n, lines(""))
		}
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Both write it: %v", err)
		}
		lock.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if age := time.Since(savedAt(t, file)); age > 15*time.Second {
			t.Errorf("The file is %s old", age)
		}
	})
}

// A reload goes on with the file, or with another one, or without.
func TestStateOverReloads(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		g, _ := w.begin(t, keeping(first, three+"}"))
		decide(t, "drain 192.0.2.1", 0)
		reload := func(directives string) (f Failover) {
			next, f := w.generate(t, g.monitor, g, directives)
			g.reload()
			next.start()
			g.reloaded()
			time.Sleep(time.Minute)
			synctest.Wait()
			g = next
			return f
		}
		expect(t, "The same file", now(t, reload(keeping(first, three+"}"))), "2")
		expect(t, "Another", now(t, reload(keeping(second, three+"}"))), "2")
		if a, b := savedAt(t, first), savedAt(t, second); !b.After(a) {
			t.Errorf("The first is written at %s, the second at %s", a, b)
		}
		at := savedAt(t, second)
		expect(t, "None", now(t, reload(three+"}")), "2")
		time.Sleep(time.Hour)
		synctest.Wait()
		if left := savedAt(t, second).Sub(at); left > time.Minute {
			t.Errorf("It is still written %s later", left)
		}
		undo(t, "192.0.2.1")
		expect(t, "One with a decision in it: what the process knows is newer", now(t, reload(keeping(second, three+"}"))), "1 2")
	})
}

// Fallbacks to what worked last, and decisions about who comes back, are all that a pool has to remember by itself.
func TestPoolsKeep(t *testing.T) {
	for block, want := range map[string]bool{"": false, "fallback last\n": true, "failback manual\n": true} {
		_, f := newWorld().generate(t, monitor.New(nil), nil, three+block+"}")
		if _, ok := f.pools[0].keep(); ok != want {
			t.Errorf("%q is kept: %t, want %t", block, ok, want)
		}
	}
}
