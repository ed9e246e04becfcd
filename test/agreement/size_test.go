package agreement

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/share"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// As many targets as somebody may have, at as many sites.
func TestTenThousandTargets(t *testing.T) {
	const targets = 10_000
	etcd := cluster(t, 1)
	c := admin(t, etcd[0].endpoint())
	names := []string{"fra", "iad", "nrt", "syd", "gru"}
	all := sites(t, endpoints(etcd), names...)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	writes := func() (keys, batches uint64) {
		for _, s := range all {
			keys, batches = keys+s.Stats().Writes, batches+s.Stats().Batches
		}
		return keys, batches
	}

	heapBefore, cpuBefore, began := heap(), cpu(), time.Now()
	keysBefore, batchesBefore := writes()
	for _, s := range all {
		for n := range targets {
			s.Cast(key(n), up)
		}
	}
	cast := time.Since(began)
	complete := func(v string) func() bool {
		return func() bool {
			for i, s := range all {
				for _, is := range s.Sites() {
					if is.Votes != targets || !is.Fresh {
						return false
					}
				}
				want := 0
				for _, vote := range s.Votes(key(targets - 1)) {
					if vote.Status.String() == v && vote.Voter != names[i] {
						want++
					}
				}
				if want != len(all)-1 {
					return false
				}
			}
			return true
		}
	}
	eventually(t, 60*time.Second, "all votes are everywhere", complete("up"))
	took := time.Since(began)
	keys, batches := writes()
	t.Logf("%d targets at %d sites: Cast takes %s each; all votes everywhere after %s: %d keys in %d transactions, %.0f keys/s; CPU of all, etcd's among it, %s",
		targets, len(all), cast/targets/time.Duration(len(all)), took.Round(time.Millisecond), keys-keysBefore, batches-batchesBefore,
		float64(keys-keysBefore)/took.Seconds(), (cpu() - cpuBefore).Round(time.Millisecond))

	r := must[*clientv3.GetResponse](t)(c.Get(brief(t), share.DefaultPrefix+"votes/fra/", clientv3.WithPrefix()))
	bytes := 0
	for _, kv := range r.Kvs {
		bytes += len(kv.GetKey()) + len(kv.GetValue())
	}
	t.Logf("%d bytes a vote in etcd, its key among them: %s", bytes/len(r.Kvs), value(r.Kvs[0]))

	keys, batches = writes()
	began, cpuBefore = time.Now(), cpu()
	time.Sleep(6 * time.Second)
	keysNow, batchesNow := writes()
	perSecond := float64(batchesNow-batches) / time.Since(began).Seconds()
	t.Logf("in steady state: %.1f keys in %.1f transactions a second for all sites; CPU of all, etcd's among it, %.1f %%",
		float64(keysNow-keys)/time.Since(began).Seconds(), perSecond, 100*float64(cpu()-cpuBefore)/float64(time.Since(began)))
	if perSecond > 4 {
		t.Errorf("%.1f transactions a second, want one in two seconds and site", perSecond)
	}
	for _, s := range all {
		for range 3 {
			for n := range targets {
				s.Cast(key(n), up)
			}
		}
	}
	if _, now := writes(); now > batchesNow+uint64(len(all)) {
		t.Errorf("casting the same again has written %d times", now-batchesNow)
	}

	began, cpuBefore = time.Now(), cpu()
	for _, s := range all {
		for n := range targets {
			s.Cast(key(n), down)
		}
	}
	eventually(t, 60*time.Second, "all have changed everywhere", complete("down"))
	eventually(t, 60*time.Second, "all have changed everywhere", func() bool {
		for n := range targets {
			for _, s := range all {
				for _, v := range s.Votes(key(n)) {
					if v.Status != down.Status {
						return false
					}
				}
			}
		}
		return true
	})
	took = time.Since(began)
	changes := time.Duration(targets * len(all))
	t.Logf("all change at once: everywhere after %s; CPU for one vote, cast, written, read at %d sites and etcd's part among it: %s",
		took.Round(time.Millisecond), len(all)-1, (cpu()-cpuBefore)/changes)

	joins := open(t, share.Config{Endpoints: endpoints(etcd), Site: "new"})
	took = eventually(t, 20*time.Second, "one joins", func() bool { return len(joins.Votes(key(0))) == len(all) })
	t.Logf("a site that joins counts all others after %s", took.Round(time.Millisecond))

	with := heap()
	for _, s := range append(all, joins) {
		s.Close()
	}
	all, joins = nil, nil
	t.Logf("heap: %d MB with all of that, etcd's part among it (before: %d MB)", with>>20, heapBefore>>20)
}

func value(kv *mvccpb.KeyValue) string { return fmt.Sprintf("%s = %s", kv.GetKey(), kv.GetValue()) }
