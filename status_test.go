package failover

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/monitor"
)

// TestIndex finds pools by name and by ID, over a reload that fails and one that does not.
func TestIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := monitor.New(nil)
		names := func() (all []string) {
			pools, total := process.Pools(api.Query{Limit: 10})
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
		old := g1.pools[slices.IndexFunc(g1.pools, func(p *livePool) bool { return p.names[0] == "www.example.org." })].id()
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
