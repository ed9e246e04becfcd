package agreement

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/share"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestVotesArrive(t *testing.T) {
	all := sites(t, endpoints(cluster(t, 3)), "fra", "iad", "nrt")
	var took []time.Duration
	for n := range 100 {
		v := up
		if n%2 == 0 {
			v = down
		}
		want := "fra:" + v.Status.String()
		woken := make(chan time.Time, 2)
		for _, s := range all[1:] {
			s.mu.Lock()
			s.hears = func() {
				if s.words(key(0)) == want {
					select {
					case woken <- time.Now():
					default:
					}
				}
			}
			s.mu.Unlock()
		}
		began := time.Now()
		all[0].Cast(key(0), v)
		<-woken
		select {
		case at := <-woken:
			took = append(took, at.Sub(began))
		case <-time.After(5 * time.Second):
			t.Fatal("a vote has not come after 5 s")
		}
		for _, s := range all[1:] {
			if got := s.words(key(0)); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		time.Sleep(60 * time.Millisecond) // so that each is alone
	}
	slices.Sort(took)
	t.Logf("from Cast until both others are told: p50 %s, p99 %s", took[50], took[98])
	if took[98] > time.Second {
		t.Errorf("p99 %s, want less than a second", took[98])
	}
}

func TestDecisionsArrive(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 1)
	all := sites(t, endpoints(etcd), "fra", "iad")
	fra, iad := all[0], all[1]
	a := override.Target{Member: "192.0.2.1"}
	b := override.Target{Label: "Old"}
	o := override.Override{Target: a, Action: override.Drain, Reason: "new disks", Since: time.Now()}
	fra.Override(o)
	iad.Override(override.Override{Target: b, Action: override.Down, Since: time.Now()})
	want := "drain 192.0.2.1, down label Old"
	for _, s := range all {
		eventually(t, 5*time.Second, want, func() bool { return s.decisions() == want })
	}
	iad.Clear(a)
	o.Target = override.Target{Label: "OLD"}
	fra.Override(o) // in place of the other
	for _, s := range all {
		eventually(t, 5*time.Second, "the override is cleared", func() bool { return s.decisions() == "drain label OLD" })
	}
	fra.Let("www.example.org.", "192.0.2.1:80")
	eventually(t, 5*time.Second, "a member is let back", func() bool {
		iad.mu.Lock()
		defer iad.mu.Unlock()
		return slices.Equal(iad.letBack, []string{"www.example.org. 192.0.2.1:80"})
	})
	nrt := open(t, share.Config{Endpoints: endpoints(etcd), Site: "nrt"})
	eventually(t, 5*time.Second, "one who comes later knows them", func() bool { return nrt.decisions() == "drain label OLD" })

	// What is decided while etcd is away holds here at once, and there later.
	etcd[0].stop()
	fra.Clear(b)
	eventually(t, time.Second, "it is cleared here", func() bool { return fra.decisions() == "" })
	fra.Let("www.example.org.", "192.0.2.2:80")
	etcd[0].start()
	for _, s := range []*site{iad, nrt} {
		eventually(t, 10*time.Second, "it is cleared there, and another member let back", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.overrides) == 0 && slices.Contains(s.letBack, "www.example.org. 192.0.2.2:80")
		})
	}
	if len(fra.letBack) != 0 || len(nrt.letBack) != 1 {
		t.Errorf("let back at the site itself: %v; at one that came later: %v", fra.letBack, nrt.letBack)
	}
}

// A site's first votes are those of one who knows what the others say.
func TestNewcomerListensFirst(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 1)
	iad := open(t, share.Config{Endpoints: endpoints(etcd), Site: "iad"})
	took := eventually(t, 2*time.Second, "nobody else is there", func() bool { return isClosed(iad.Ready()) })
	t.Logf("ready after %s where nobody else is there", took.Round(time.Millisecond))
	iad.Keep(key(0), t, true)
	iad.Cast(key(0), up)
	fra := open(t, share.Config{Endpoints: endpoints(etcd), Site: "fra"})
	fra.mu.Lock()
	fra.hears = func() { // as a pool does
		if votes := fra.Votes(key(0)); len(votes) > 0 {
			fra.Keep(key(0), t, votes[0].Kept)
			fra.Cast(key(0), up)
		}
	}
	fra.mu.Unlock()
	fra.Cast(key(0), up)
	stop := always(func() bool {
		votes := iad.Votes(key(0))
		return len(votes) == 0 || votes[0].Kept
	})
	took = eventually(t, 3*time.Second, "it has heard the other", func() bool { return isClosed(fra.Ready()) })
	t.Logf("ready after %s beside another", took.Round(time.Millisecond))
	eventually(t, 2*time.Second, "it votes", func() bool { return iad.words(key(0)) == "fra:up" })
	if n := stop(); n > 0 {
		t.Errorf("%d times it had voted before it knew", n)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// What the sites have cleared before they went is not back with one that comes later, and knew it.
func TestNobodyIsThere(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 1)
	known := share.Past{Known: []override.Override{{Target: override.Target{Member: "192.0.2.1"}, Action: override.Drain, Since: time.Now().Add(-time.Hour)}}}
	fra := follow(t, share.Config{Endpoints: endpoints(etcd), Site: "fra"}, known)
	eventually(t, 5*time.Second, "the first to come brings it", func() bool { return fra.decisions() == "drain 192.0.2.1" })
	fra.Clear(known.Known[0].Target)
	c := admin(t, endpoints(etcd)...)
	eventually(t, 5*time.Second, "it is cleared in etcd", func() bool {
		return must[*clientv3.GetResponse](t)(c.Get(brief(t), share.DefaultPrefix+"overrides/", clientv3.WithPrefix())).Count == 0
	})
	fra.Close()
	iad := follow(t, share.Config{Endpoints: endpoints(etcd), Site: "iad"}, known)
	eventually(t, 5*time.Second, "one that comes later knows that", func() bool { return isClosed(iad.Ready()) && iad.decisions() == "" })
	if r := must[*clientv3.GetResponse](t)(c.Get(brief(t), share.DefaultPrefix+"overrides/", clientv3.WithPrefix())); r.Count > 0 {
		t.Errorf("it has written %s", r.Kvs)
	}
}

// A place takes over from the one before: at no moment is the site alone, and nothing that was decided is lost.
func TestPlaceIsTaken(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 1)
	for name, prefix := range map[string]string{"the same": "", "another prefix": "/other/"} {
		t.Run(name, func(t *testing.T) {
			all := sites(t, endpoints(etcd), "fra", "iad")
			fra, iad := all[0], all[1]
			iad.Cast(key(0), up)
			fra.Cast(key(0), up)
			eventually(t, 5*time.Second, "iad votes", func() bool { return fra.words(key(0)) == "iad:up" })
			o := override.Override{Target: override.Target{Member: "192.0.2.1"}, Action: override.Drain, Since: time.Now()}
			fra.Override(o)
			eventually(t, 5*time.Second, "a decision", func() bool { return iad.decisions() != "" })
			iad.Clear(o.Target) // as fra is about to go
			eventually(t, 5*time.Second, "it is cleared", func() bool { return iad.decisions() == "" })

			next := follow(t, share.Config{Endpoints: endpoints(etcd), Site: "fra", Prefix: prefix}, share.Past{Share: fra.Share, Known: []override.Override{o}})
			if !isClosed(next.Ready()) {
				t.Error("the new place has to wait for what the one before knew")
			}
			stop := always(func() bool { return next.words(key(0)) == "iad:up" })
			next.Cast(key(0), up)
			second := override.Override{Target: override.Target{Member: "192.0.2.2"}, Action: override.Down, Since: time.Now()}
			next.Override(second)
			fra.Close()
			if prefix == "" {
				eventually(t, 10*time.Second, "it votes, and decides", func() bool { return iad.words(key(0)) == "fra:up" && iad.decisions() == "down 192.0.2.2" })
				time.Sleep(3 * time.Second)
				if got := next.decisions(); got != "down 192.0.2.2" {
					t.Errorf("what another site has cleared is back: %q", got)
				}
			} else {
				eventually(t, 2*time.Second, "it brings what was decided", func() bool { return next.decisions() == "drain 192.0.2.1, down 192.0.2.2" })
			}
			if n := stop(); prefix == "" && n > 0 {
				t.Errorf("%d times the site was alone", n)
			}
			next.Clear(o.Target)
			next.Clear(second.Target)
			eventually(t, 5*time.Second, "all is cleared", func() bool { return next.decisions() == "" })
		})
	}
}

func TestEtcdIsAwayForAWhile(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 1)
	all := sites(t, endpoints(etcd), "fra", "iad", "nrt")
	for _, s := range all {
		s.Cast(key(0), up)
	}
	fra, both := all[0], "iad:up nrt:up"
	eventually(t, 5*time.Second, both, func() bool { return fra.words(key(0)) == both })

	// As long as they are fresh nothing happens.
	stop := always(func() bool { return fra.words(key(0)) == both })
	etcd[0].stop()
	time.Sleep(2 * time.Second)
	etcd[0].start()
	time.Sleep(9 * time.Second)
	if n := stop(); n > 0 {
		t.Errorf("%d times votes were not there, with etcd away for 2 s", n)
	}

	// Then nobody counts, and later all at once.
	if s := fra.Stats(); !s.Connected || s.Lost != "" || !s.Since.IsZero() {
		t.Errorf("With a connection %+v, want that it is there", s)
	}
	stopped := time.Now()
	etcd[0].stop()
	eventually(t, 5*time.Second, "the connection is lost", func() bool { return fra.Stats().Lost != "" })
	if s := fra.Stats(); s.Connected || s.Since.Before(stopped) || time.Since(s.Since) > 5*time.Second {
		t.Errorf("Without etcd %+v, want that the connection is lost since %v", s, stopped)
	}
	took := eventually(t, 12*time.Second, "nobody counts", func() bool { return fra.words(key(0)) == "" })
	t.Logf("votes are stale after %s", took.Round(time.Millisecond))
	all[1].Cast(key(0), down)
	both = "iad:down nrt:up"
	stop = always(func() bool { w := fra.words(key(0)); return w == "" || w == both })
	etcd[0].start()
	took = eventually(t, 15*time.Second, both, func() bool { return fra.words(key(0)) == both })
	t.Logf("etcd is there again: all votes after %s", took.Round(time.Millisecond))
	if n := stop(); n > 0 {
		t.Errorf("%d times there were but some votes, or old ones", n)
	}
	eventually(t, 5*time.Second, "it is said", func() bool { return fra.logged("Votes are not shared") })
	if s := fra.Stats(); !s.Connected || s.Lost != "" || !s.Since.IsZero() {
		t.Errorf("With a connection again %+v, want that it is there", s)
	}
}

func TestLeaderStops(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 3)
	all := sites(t, endpoints(etcd), "fra", "iad", "nrt")
	for _, s := range all {
		s.Cast(key(0), up)
		s.Cast(key(1), up)
	}
	var stops []func() int
	for i, s := range all {
		want := strings.Join(slices.Delete([]string{"fra:up", "iad:up", "nrt:up"}, i, i+1), " ")
		eventually(t, 5*time.Second, want, func() bool { return s.words(key(0)) == want && s.words(key(1)) == want })
		stops = append(stops, always(func() bool { return s.words(key(0)) == want }))
	}
	leader := etcd[slices.IndexFunc(etcd, func(m *member) bool { return m.etcd.Server.Leader() == m.etcd.Server.MemberID() })]
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(leader.stop)
	<-leader.etcd.Server.StopNotify()
	all[0].Cast(key(1), down)
	took := eventually(t, 10*time.Second, "a vote goes through", func() bool { return strings.HasPrefix(all[1].words(key(1)), "fra:down") })
	t.Logf("the leader is gone: a vote has come after %s", took.Round(time.Millisecond))
	time.Sleep(12 * time.Second)
	for i, stop := range stops {
		if n := stop(); n > 0 {
			t.Errorf("site %d: %d times votes were not there", i, n)
		}
	}
}

// A member that hangs, as one that is stopped by a signal does, is one among others.
func TestMemberHangs(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 3)
	way := through(t, etcd[0].endpoint())
	ends := []string{way.endpoint(), etcd[1].endpoint(), etcd[2].endpoint()}
	all := sites(t, ends, "fra", "iad", "nrt")
	for _, s := range all {
		s.Cast(key(0), up)
	}
	eventually(t, 5*time.Second, "votes", func() bool { return all[0].words(key(0)) == "iad:up nrt:up" })
	stop := always(func() bool { return all[0].words(key(0)) == "iad:up nrt:up" })
	way.swallow.Store(true)
	time.Sleep(20 * time.Second)
	if n := stop(); n > 0 {
		t.Errorf("%d times votes were not there", n)
	}
}

func TestCompaction(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 1)
	way := through(t, etcd[0].endpoint())
	c := admin(t, etcd[0].endpoint())
	fra := open(t, share.Config{Endpoints: endpoints(etcd), Site: "fra"})
	iad := open(t, share.Config{Endpoints: []string{way.endpoint()}, Site: "iad"})
	fra.Cast(key(0), up)
	fra.Cast(key(1), up)
	eventually(t, 10*time.Second, "fra:up", func() bool { return iad.words(key(0)) == "fra:up" && iad.words(key(1)) == "fra:up" })
	stop := always(func() bool { return iad.words(key(1)) == "fra:up" })
	way.cut.Store(true)
	way.sever()
	fra.Cast(key(0), down)
	eventually(t, 5*time.Second, "the vote is written", func() bool {
		r := must[*clientv3.GetResponse](t)(c.Get(brief(t), share.DefaultPrefix+"votes/fra/", clientv3.WithPrefix()))
		return slices.ContainsFunc(r.Kvs, func(kv *mvccpb.KeyValue) bool { return strings.Contains(string(kv.GetValue()), `"down"`) })
	})
	r := must[*clientv3.PutResponse](t)(c.Put(brief(t), "elsewhere", ""))
	must[*clientv3.CompactResponse](t)(c.Compact(brief(t), r.Header.GetRevision()))
	way.cut.Store(false)
	took := eventually(t, 5*time.Second, "fra:down", func() bool { return iad.words(key(0)) == "fra:down" })
	t.Logf("a watch that has missed what is compacted: known after %s", took.Round(time.Millisecond))
	if n := stop(); n > 0 {
		t.Errorf("%d times a vote was not there", n)
	}
}

func TestSnapshotIsRestored(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 1)
	all := sites(t, endpoints(etcd), "fra", "iad")
	fra, iad := all[0], all[1]
	decide := func(member string) {
		fra.Override(override.Override{Target: override.Target{Member: member}, Action: override.Drain, Since: time.Now()})
	}
	for n := range 300 {
		fra.Cast(key(n), up)
	}
	decide("192.0.2.1")
	decide("192.0.2.2")
	eventually(t, 5*time.Second, "votes", func() bool {
		return iad.words(key(299)) == "fra:up" && iad.words(key(0)) == "fra:up" && strings.HasPrefix(iad.decisions(), "drain 192.0.2.1, ")
	})
	etcd[0].stop()
	backup := t.TempDir()
	copyDir(t, etcd[0].config.Dir, backup)
	etcd[0].start()

	for n := range 150 {
		fra.Cast(key(n), down)
	}
	fra.Withdraw(key(299))
	decide("192.0.2.3")
	fra.Clear(override.Target{Member: "192.0.2.1"})
	want := "drain 192.0.2.2, drain 192.0.2.3"
	good := func() bool {
		return iad.words(key(0)) == "fra:down" && iad.words(key(149)) == "fra:down" && iad.words(key(150)) == "fra:up" &&
			iad.words(key(299)) == "" && iad.decisions() == want
	}
	eventually(t, 10*time.Second, "votes that have changed", good)
	old := always(func() bool {
		return iad.words(key(0)) != "fra:up" && iad.words(key(299)) == "" && iad.decisions() == want
	})

	etcd[0].stop()
	copyDir(t, backup, etcd[0].config.Dir)
	etcd[0].start()
	eventually(t, 20*time.Second, "it is seen", func() bool { return fra.logged("set back") })
	took := eventually(t, 20*time.Second, "what was", good)
	t.Logf("a snapshot is restored: as it was %s after that was seen", took.Round(time.Millisecond))
	if n := old(); n > 0 {
		t.Errorf("%d times what was said before the snapshot was taken for true", n)
	}
	nrt := open(t, share.Config{Endpoints: endpoints(etcd), Site: "nrt"})
	eventually(t, 10*time.Second, "one who comes later knows it", func() bool {
		return nrt.decisions() == want && nrt.words(key(0)) == "fra:down" && nrt.words(key(299)) == ""
	})
}

func TestLeaseIsRevoked(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 1)
	c := admin(t, etcd[0].endpoint())
	all := sites(t, endpoints(etcd), "fra", "iad")
	for n := range 250 {
		all[0].Cast(key(n), up)
	}
	eventually(t, 5*time.Second, "votes", func() bool { return all[1].words(key(0)) == "fra:up" && all[1].words(key(249)) == "fra:up" })
	time.Sleep(20 * time.Second) // longer than a lease that nobody keeps
	r := must[*clientv3.GetResponse](t)(c.Get(brief(t), share.DefaultPrefix+"sites/fra"))
	if len(r.Kvs) == 0 || all[1].words(key(0)) != "fra:up" {
		t.Fatal("the site is gone by itself")
	}
	for range 3 {
		r := must[*clientv3.GetResponse](t)(c.Get(brief(t), share.DefaultPrefix+"sites/fra"))
		must[*clientv3.LeaseRevokeResponse](t)(c.Revoke(brief(t), clientv3.LeaseID(r.Kvs[0].GetLease())))
		eventually(t, 5*time.Second, "it is gone", func() bool { return all[1].words(key(0)) == "" })
		took := eventually(t, 5*time.Second, "it is written anew", func() bool {
			return all[1].words(key(0)) == "fra:up" && all[1].words(key(249)) == "fra:up"
		})
		t.Logf("the lease is revoked: 250 votes are there again after %s", took.Round(time.Millisecond))
	}
}

func TestKeysAreTamperedWith(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 1)
	c := admin(t, etcd[0].endpoint())
	all := sites(t, endpoints(etcd), "fra", "iad")
	fra, iad := all[0], all[1]
	fra.Cast(key(0), up)
	fra.Cast(key(1), up)
	good := func() bool { return iad.words(key(0)) == "fra:up" && iad.words(key(1)) == "fra:up" }
	eventually(t, 5*time.Second, "votes", good)
	r := must[*clientv3.GetResponse](t)(c.Get(brief(t), share.DefaultPrefix+"votes/fra/", clientv3.WithPrefix()))
	at, was := string(r.Kvs[0].GetKey()), string(r.Kvs[0].GetValue())
	now := func() string {
		r := must[*clientv3.GetResponse](t)(c.Get(brief(t), at))
		if len(r.Kvs) == 0 {
			return ""
		}
		return string(r.Kvs[0].GetValue())
	}
	for name, value := range map[string]string{
		"turned round": strings.Replace(was, `"up"`, `"down"`, 1),
		"empty":        "",
		"no JSON":      "up",
		"huge":         strings.Repeat("x", 1<<20),
		"of another":   string(r.Kvs[1].GetValue()),
	} {
		before := fra.Stats().Writes
		must[*clientv3.PutResponse](t)(c.Put(brief(t), at, value))
		eventually(t, 5*time.Second, name+": it is put right", func() bool { return fra.Stats().Writes > before && now() == was && good() })
	}
	must[*clientv3.DeleteResponse](t)(c.Delete(brief(t), at))
	eventually(t, 5*time.Second, "a vote that was deleted", func() bool { return now() == was && good() })
	must[*clientv3.PutResponse](t)(c.Put(brief(t), share.DefaultPrefix+"sites/fra", "{"))
	eventually(t, 20*time.Second, "a beat that is none", good)
	must[*clientv3.DeleteResponse](t)(c.Delete(brief(t), share.DefaultPrefix, clientv3.WithPrefix()))
	eventually(t, 5*time.Second, "all that was deleted", func() bool { return good() && now() != "" })

	// What is none of ours does no harm.
	before := iad.Stats().Ignored
	junk := []string{"x", "votes/", "votes/nrt", "votes/nrt/x", "votes/../" + key(0).Question, "sites/", "sites/a/b", "sites/nrt", "overrides/x", "letback/x", "votes/fra/x"}
	for _, k := range junk {
		must[*clientv3.PutResponse](t)(c.Put(brief(t), share.DefaultPrefix+k, strings.Repeat("\xff", 100_000)))
	}
	eventually(t, 5*time.Second, "it is counted", func() bool { return iad.Stats().Ignored >= before+9 })
	fra.Cast(key(1), down)
	eventually(t, 5*time.Second, "it goes on", func() bool { return iad.words(key(1)) == "fra:down" })
	if n := iad.fresh(); n != 2 {
		t.Errorf("%d sites count, want 2: %+v", n, iad.Sites())
	}
	nrt := open(t, share.Config{Endpoints: endpoints(etcd), Site: "nrt"})
	eventually(t, 20*time.Second, "a site whose keys somebody has filled", func() bool { return nrt.fresh() == 3 && nrt.words(key(1)) == "fra:down" })
}

func TestSiteNameIsUsedTwice(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 1)
	way := through(t, etcd[0].endpoint())
	iad := open(t, share.Config{Endpoints: endpoints(etcd), Site: "iad"})
	first := open(t, share.Config{Endpoints: []string{way.endpoint()}, Site: "fra"})
	first.Cast(key(0), up)
	eventually(t, 10*time.Second, "the first", func() bool { return iad.words(key(0)) == "fra:up" })
	second := open(t, share.Config{Endpoints: endpoints(etcd), Site: "fra"})
	second.Cast(key(0), down)
	took := eventually(t, 10*time.Second, "the second is refused", func() bool { return second.Stats().Refused != "" })
	t.Logf("refused after %s: %s", took.Round(time.Millisecond), second.Stats().Refused)
	if s := second.Stats(); s.Lost != "" || time.Since(s.Since) > 15*time.Second {
		t.Errorf("Refused %+v, want since when", s)
	}
	stop := always(func() bool { return iad.words(key(0)) == "fra:up" })
	iad.Cast(key(0), up)
	eventually(t, 10*time.Second, "the second hears others", func() bool { return second.words(key(0)) == "iad:up" })
	time.Sleep(12 * time.Second)
	if n := stop(); n > 0 || first.Stats().Refused != "" {
		t.Errorf("%d times the first did not count; refused: %q", n, first.Stats().Refused)
	}
	way.cut.Store(true) // it dies without a word
	way.sever()
	took = eventually(t, 15*time.Second, "the second takes over", func() bool { return iad.words(key(0)) == "fra:down" })
	t.Logf("the second takes over after %s", took.Round(time.Millisecond))
	if got := second.Stats().Refused; got != "" {
		t.Errorf("refused: %q", got)
	}
	way.cut.Store(false)
	eventually(t, 10*time.Second, "the first comes back, and is refused", func() bool { return first.Stats().Refused != "" })
	second.Close()
	took = eventually(t, 5*time.Second, "the first has the name again", func() bool { return iad.words(key(0)) == "fra:up" })
	t.Logf("the second ends, and the first takes over after %s", took.Round(time.Millisecond))
}

// goroutines are those of the plugin and its client.
func goroutines() int {
	b := make([]byte, 4<<20)
	n := 0
	for stack := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(stack, "plugin/share") || strings.Contains(stack, "client/v3") && !strings.Contains(stack, "server/v3") {
			n++
		}
	}
	return n
}

func TestClose(t *testing.T) {
	before := goroutines()
	etcd := cluster(t, 1)
	way := through(t, etcd[0].endpoint())
	all := sites(t, endpoints(etcd), "fra", "iad")
	nrt := open(t, share.Config{Endpoints: []string{way.endpoint()}, Site: "nrt"})
	for n, s := range append(all, nrt) {
		s.Cast(key(0), up)
		s.Cast(key(n), up)
	}
	eventually(t, 10*time.Second, "votes", func() bool { return all[0].words(key(0)) == "iad:up nrt:up" })
	all[1].Close()
	took := eventually(t, time.Second, "the votes of who has ended are gone", func() bool { return all[0].words(key(0)) == "nrt:up" })
	t.Logf("gone %s after Close", took.Round(time.Millisecond))

	for name, hang := range map[string]func(){
		"swallows":     func() { way.swallow.Store(true) },
		"is not there": func() { way.cut.Store(true); way.sever() },
	} {
		s := nrt
		if name != "swallows" {
			way.swallow.Store(false)
			s = open(t, share.Config{Endpoints: []string{way.endpoint()}, Site: "syd"})
			eventually(t, 10*time.Second, "a site", func() bool { return s.fresh() > 1 })
		}
		hang()
		began := time.Now()
		s.Close()
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("Close takes %s while etcd %s, want about a second at most", took, name)
		} else {
			t.Logf("Close takes %s while etcd %s", took.Round(time.Millisecond), name)
		}
		way.cut.Store(false)
		way.swallow.Store(false)
	}
	never := open(t, share.Config{Endpoints: []string{freePortURL(t)}, Site: "never"})
	began := time.Now()
	never.Close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("Close takes %s where there never was an etcd", took)
	}
	all[0].Close()
	eventually(t, 5*time.Second, fmt.Sprintf("%d goroutines, as before", before), func() bool { return goroutines() <= before })
}

func freePortURL(t testing.TB) string {
	t.Helper()
	u := freePort(t, "http")
	return u.String()
}
