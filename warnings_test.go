package failover

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/probe"

	"github.com/prometheus/client_golang/prometheus"
)

// warned are the warnings of the process, each as KIND: TEXT.
func warned() string {
	var all []string
	for _, w := range process.Warnings() {
		all = append(all, w.Kind+": "+w.Text)
	}
	return strings.Join(all, "\n")
}

// warnedKinds are the kinds for which the metric is 1.
func warnedKinds(t *testing.T) string {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	kinds := 0
	for _, family := range families {
		if family.GetName() != "coredns_failover_warnings" {
			continue
		}
		for _, series := range family.GetMetric() {
			if kinds++; series.GetGauge().GetValue() == 1 {
				all = append(all, series.GetLabel()[0].GetValue())
			}
		}
	}
	if kinds != len(api.WarningKinds) {
		t.Errorf("There are series of %d kinds of warnings, want all %d", kinds, len(api.WarningKinds))
	}
	return strings.Join(all, " ")
}

// A state that cannot be written is a warning until it can, and so it is for each decision of an operator, at once.
func TestWarningOfState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "states")
	makeDir := func() {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	makeDir()
	synctest.Test(t, func(t *testing.T) {
		newWorld().begin(t, keeping(filepath.Join(dir, "state"), three+"}"))
		if got := warned(); got != "" {
			t.Errorf("It warns of %q, want nothing", got)
		}
		if o := decide(t, "drain 192.0.2.1", 0); len(o.Warnings)+len(o.Notes) > 0 {
			t.Errorf("A drain that is kept warns of %q, and notes %q", o.Warnings, o.Notes)
		}

		// Nothing has been written since the directory went, when the operator decides.
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		const want = "this decision does not survive a restart of the server: the state file "
		for action, o := range map[string]api.Outcome{"down": decide(t, "down 192.0.2.1", 0), "up": decide(t, "up 192.0.2.1", 0), "drain": decide(t, "drain 192.0.2.1", 0)} {
			if len(o.Warnings) != 1 || !strings.HasPrefix(o.Warnings[0], want) || !strings.Contains(o.Warnings[0], "no such file or directory") {
				t.Errorf("%s warns of %q, want %q and the reason", action, o.Warnings, want)
			}
		}
		dry, err := process.Override(decision("drain 192.0.2.2", 0), api.How{DryRun: true})
		if err != nil || len(dry.Warnings) != 1 || !strings.HasPrefix(dry.Warnings[0], want) {
			t.Errorf("What a drain would do is %+v, %v, want the warning %q", dry, err, want)
		}
		cleared, err := process.Clear(targeted("192.0.2.1"), api.By{}, api.How{})
		if err != nil || len(cleared.Warnings) != 1 || !strings.HasPrefix(cleared.Warnings[0], want) {
			t.Errorf("A clear does %+v, %v, want the warning %q", cleared, err, want)
		}
		if got := warned(); !strings.HasPrefix(got, "state: the state file "+dir) || strings.Contains(got, "\n") || warnedKinds(t) != "state" {
			t.Errorf("It warns of %q and the metric of %q, want the state file", got, warnedKinds(t))
		}
		if since := process.Warnings()[0].Since; since.Before(began) || time.Since(since) > time.Minute {
			t.Errorf("It warns since %v, want since %v or little later", since, began)
		}

		makeDir()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := warned() + warnedKinds(t); got != "" {
			t.Errorf("It warns of %q although the file is written again, want nothing", got)
		}
		if o := decide(t, "drain 192.0.2.1", 0); len(o.Warnings) > 0 {
			t.Errorf("A drain warns of %q, want nothing", o.Warnings)
		}
	})
}

// A file that is something else is left alone by the Corefile after it, too, and is a warning for as long as the
// Corefile names it.
func TestWarningOfForeignState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(file, []byte("precious\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		before, _ := w.begin(t, keeping(file, three+"}"))
		next := func(directives string) {
			g, _ := w.generate(t, before.monitor, before, directives)
			before.reload()
			g.start()
			before.reloaded()
			before = g
			synctest.Wait()
		}
		const want = "is no state file of failover"
		if got := warned(); !strings.HasPrefix(got, "state: ") || !strings.Contains(got, want) {
			t.Errorf("It warns of %q, want %q", got, want)
		}
		if o := decide(t, "drain 192.0.2.1", 0); len(o.Warnings) != 1 || !strings.Contains(o.Warnings[0], want) {
			t.Errorf("A drain warns of %q, want %q", o.Warnings, want)
		}
		next(keeping(file, three+"}"))
		time.Sleep(time.Minute)
		if data, err := os.ReadFile(file); string(data) != "precious\n" {
			t.Errorf("After a reload the file is %q, %v, want it left alone", data, err)
		}
		if got := warned(); !strings.Contains(got, want) {
			t.Errorf("After a reload it warns of %q, want %q", got, want)
		}
		next(three + "}")
		if got := warned(); got != "" {
			t.Errorf("Without state it warns of %q, want nothing", got)
		}
	})
}

// Without state a decision ends with the process: that is a note. With other sites it does not, while they are heard.
func TestDecisionWithoutState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		newWorld().begin(t, three+"}")
		const ends = "this decision does not survive a restart of the server: the Corefile has no state"
		if o := decide(t, "drain 192.0.2.1", 0); len(o.Warnings) > 0 || !slices.Equal(o.Notes, []string{ends}) {
			t.Errorf("It warns of %q and notes %q, want the note %q", o.Warnings, o.Notes, ends)
		}
		if o, err := process.Clear(targeted("192.0.2.1"), api.By{}, api.How{}); err != nil || len(o.Warnings)+len(o.Notes) > 0 {
			t.Errorf("A clear does %+v, %v, want neither a warning nor a note", o, err)
		}
		a := elsewhere(t)
		if o := decide(t, "drain 192.0.2.1", 0); len(o.Warnings)+len(o.Notes) > 0 || warned() != "" {
			t.Errorf("With other sites it warns of %q and notes %q, and the server of %q, want nothing", o.Warnings, o.Notes, warned())
		}
		a.lost = "connection refused"
		want := []string{"the other sites do not have this decision yet: there is no connection to etcd: connection refused", ends}
		if o := decide(t, "drain 192.0.2.1", 0); !slices.Equal(o.Warnings, want) || len(o.Notes) > 0 {
			t.Errorf("Without a connection it warns of %q and notes %q, want %q", o.Warnings, o.Notes, want)
		}
		if got := warned(); got != "share: votes and overrides are not shared over etcd: connection refused" || warnedKinds(t) != "share" {
			t.Errorf("It warns of %q and the metric of %q, want etcd", got, warnedKinds(t))
		}
	})
}

// Probes that are left out are a warning, until there was none for a minute.
func TestWarningOfSkips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now().Truncate(time.Second)
		t.Cleanup(func() { lastSkip = skips{} })
		for range 30 {
			observeProbe("exec", probe.ErrNotAsked, 0, 0)
			time.Sleep(10 * time.Second)
		}
		want := "probe: probes are left out: exec: " + probe.ErrNotAsked.Error()
		if got := warned(); got != want || !process.Warnings()[0].Since.Equal(began) {
			t.Errorf("It warns of %q, want %q since %v", got, want, began)
		}
		time.Sleep(2 * time.Minute)
		if got := warned(); got != "" {
			t.Errorf("Two minutes later it warns of %q, want nothing", got)
		}
	})
}

// What a server of updates says is a warning until it takes them.
func TestWarningOfUpdates(t *testing.T) {
	u := &updater{opened: true}
	if text, _ := u.failure(); text != "" {
		t.Errorf("It warns of %q, want nothing", text)
	}
	u.spoken, u.hushed = 20, 7
	if text, _ := u.failure(); text != "27 names are not as they should be" {
		t.Errorf("It warns of %q, want 27 names", text)
	}
	u.said, u.why = "refused", "REFUSED"
	if text, _ := u.failure(); text != "REFUSED" {
		t.Errorf("It warns of %q, want what the server says", text)
	}
	u.closed = true
	if text, _ := u.failure(); text != "" {
		t.Errorf("Closed, it warns of %q, want nothing", text)
	}
}

// The reason of a refusal is this plugin's own error, or one of syntax that the file has; another is not known.
func TestRefusal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Corefile")
	change := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const good, torn = "example.org {\n    errors\n}\n", "example.org {\n    errors {\n        stacktrace\n"
	r := new(refusal)
	want := func(what, text string) {
		t.Helper()
		if got, _ := r.current(file); text == "" && got != "" || !strings.Contains(got, text) {
			t.Errorf("%s: it warns of %q, want %q", what, got, text)
		}
	}
	change(good)
	want("At first", "")

	// The reload plugin does not begin with a file that it cannot parse: no callback comes.
	change(torn)
	want("With an error of syntax", "the Corefile cannot be read, and the one before is in use: "+file)
	change(good)
	want("Without", "")

	r.begin()
	r.by(os.ErrInvalid) //nolint:errcheck // it is the same
	if reason := r.refuse(file); reason != os.ErrInvalid.Error() {
		t.Errorf("The reason is %q, want %q", reason, os.ErrInvalid)
	}
	want("Refused by this plugin", "the reload was refused, and the Corefile before is in use: invalid argument")
	r.begin()
	if reason := r.refuse(file); reason != unknownReason {
		t.Errorf("The reason is %q, want %q", reason, unknownReason)
	}
	change(torn)
	r.begin()
	if reason := r.refuse(file); !strings.Contains(reason, "EOF") {
		t.Errorf("The reason is %q, want the error of syntax", reason)
	}
	if reason := r.refuse(""); reason != unknownReason {
		t.Errorf("The reason is %q, want %q where there is no file", reason, unknownReason)
	}
	change(good)
	want("As long as no reload takes place", unknownReason)
	r.end()
	want("Reloaded", "")
}

// A pool that a reload keeps is as old as it was, and one that a reload brings is new.
func TestPoolBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		first := time.Now()
		before, _ := w.begin(t, three+"}")
		time.Sleep(time.Hour)
		g, _ := w.generate(t, before.monitor, before, three+"}\n"+strings.Replace(three, "www.", "new.", 1)+"}")
		second := time.Now() // of start
		before.reload()
		g.start()
		before.reloaded()
		got := make(map[string]time.Time)
		pools, _ := process.Pools(api.Query{Limit: 10})
		for p := range pools {
			got[p.Name] = p.Began
		}
		if known, added := got["www.example.org."], got["new.example.org."]; !known.Equal(first) || !added.Equal(second) {
			t.Errorf("The pools began at %v, want the old one at %v and the new one at %v", got, first, second)
		}
	})
}
