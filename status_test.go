package failover

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-failover/failover/plugin/monitor"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/status"
)

// TestOverride decides about a member, and takes it back in other words than it was said in.
func TestOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, f := newWorld().begin(t, "failover www.example.org fra1=192.0.2.1:443 fra2=192.0.2.2:443")
		set := func(target override.Target, how status.How) error {
			_, err := process.Override(override.Override{Target: target, Action: override.Drain, Since: time.Now()}, how)
			return err
		}
		if err := set(override.Target{Pool: "WWW.example.org", Member: "FRA2"}, status.How{}); err != nil {
			t.Fatal(err)
		}
		expect(t, "fra2 drained", now(t, f), "1")
		if err := set(override.Target{Label: "fra1"}, status.How{}); !errors.Is(err, status.ErrBare) {
			t.Errorf("draining both: %v, want %v", err, status.ErrBare)
		}
		if err := set(override.Target{Label: "fra1"}, status.How{DryRun: true}); err != nil {
			t.Error(err)
		}
		expect(t, "nothing else done", now(t, f), "1")
		for _, target := range []override.Target{{Member: "192.0.2.3"}, {Pool: "api.example.org", Member: "192.0.2.1"}, {Label: "fra3"}, {Pool: "www.example.org", Member: "192.0.2.1:80"}} {
			if err := set(target, status.How{}); !errors.Is(err, status.ErrNotFound) {
				t.Errorf("%s: %v, want %v", target, err, status.ErrNotFound)
			}
		}
		if _, err := process.Clear(override.Target{Pool: "www.Example.org", Member: "[::ffff:192.0.2.2]:443"}, status.By{Author: "alice"}, status.How{}); err != nil {
			t.Error(err)
		}
		expect(t, "cleared", now(t, f), "1 2")
		if _, err := process.Clear(override.Target{Label: "fra1"}, status.By{}, status.How{}); !errors.Is(err, status.ErrNotFound) {
			t.Errorf("clearing what is not there: %v, want %v", err, status.ErrNotFound)
		}
	})
}

// TestOverrideOfNobody clears the override of a member that there is no more.
func TestOverrideOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _ = newWorld().begin(t, "failover www.example.org 192.0.2.1:443")
		process.deciding.Lock()
		process.put(new(override.Table).With(override.Override{Target: override.Target{Member: "[2001:db8::1]:443"}, Action: override.Down}))
		process.deciding.Unlock()
		if _, err := process.Clear(override.Target{Member: "[2001:DB8:0::1]:443"}, status.By{}, status.How{}); err != nil || process.Summary().Overrides != 0 {
			t.Errorf("%v, and %d are left, want none", err, process.Summary().Overrides)
		}
	})
}

// TestOverridesExpire has many end at the same moment.
func TestOverridesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, f := newWorld().begin(t, "failover www.example.org 192.0.2.1:443 192.0.2.2:443")
		var many []override.Override
		for i := range 5000 {
			many = append(many, override.Override{Target: override.Target{Member: fmt.Sprintf("192.0.2.2:%d", 1+i)}, Action: override.Drain,
				Since: time.Now(), Until: time.Now().Add(time.Hour)})
		}
		process.deciding.Lock()
		process.put(new(override.Table).With(many...))
		process.redecide(nil, process.overrides.Load(), "test")
		process.deciding.Unlock()
		expect(t, "drained", now(t, f), "1")
		expect(t, "over", after(t, f, time.Hour), "1 2")
		if n := process.Summary().Overrides; n != 0 {
			t.Errorf("%d are left, want none", n)
		}
	})
}

// TestIndex finds pools by name and by ID, over a reload that fails and one that does not.
func TestIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := monitor.New(nil)
		names := func() (all []string) {
			pools, total := process.Pools(status.Query{Limit: 10})
			for p := range pools {
				all = append(all, p.Name)
				if byID, ok := process.PoolByID(p.ID); !ok || byID.Name != p.Name {
					t.Errorf("%s is %q by its ID", p.Name, byID.Name)
				}
			}
			if total != len(all) || process.Summary().Pools != total {
				t.Errorf("%d pools, and %d in the summary, want %d", total, process.Summary().Pools, len(all))
			}
			return all
		}
		is := func(when string, want ...string) {
			t.Helper()
			if got := names(); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		is("at first")
		g1, _ := w.generate(t, m, nil, "failover www.example.org 192.0.2.1:443\nfailover api.example.org 192.0.2.2:443")
		g1.start()
		is("started", "api.example.org.", "www.example.org.")
		old := "www.example.org.@" + g1.pools[0].in.key
		if _, ok := process.PoolByID(old); !ok {
			t.Errorf("there is no %s", old)
		}
		for _, id := range []string{"", "@", "www.example.org.", "www.example.org.@", old + "#next"} {
			if p, ok := process.PoolByID(id); ok {
				t.Errorf("%q is %s", id, p.Name)
			}
		}

		g1.reload()
		g2, _ := w.generate(t, m, g1, "failover new.example.org 192.0.2.1:443")
		g2.start()
		is("reloading", "api.example.org.", "www.example.org.")
		g1.reloadFailed()
		is("failed", "api.example.org.", "www.example.org.")

		g1.reload()
		g3, _ := w.generate(t, m, g1, "failover new.example.org 192.0.2.1:443")
		g3.start()
		g1.reloaded()
		is("reloaded", "new.example.org.")
		if _, ok := process.PoolByID(old); ok {
			t.Errorf("%s is there after it has gone", old)
		}
		g3.stop()
		is("stopped")
	})
}
