package ctl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/pool"
)

// How soon a probe changes its status, as the documentation of the TTL has it.
func TestProbeTerm(t *testing.T) {
	p := &api.Pool{Interval: 5, Recheck: 1}
	passed, failed := &api.Result{Passed: true}, &api.Result{}
	for _, c := range []struct {
		probe api.Probe
		want  string
	}{
		{api.Probe{Status: "up", Needed: 3, Last: passed}, "7s, 3 failures away from down: interval 5s + 2 x recheck 1s"},
		{api.Probe{Status: "up", Needed: 3, Against: 2, Last: failed}, "1s, 1 failure away from down: 1 x recheck 1s"},
		{api.Probe{Status: "up", Needed: 5, Against: 3, Last: passed}, "6s, 2 failures away from down: interval 5s + 1 x recheck 1s"}, // with a window
		{api.Probe{Status: "up", Needed: 1, Last: passed}, "5s, 1 failure away from down: interval 5s"},
		{api.Probe{Status: "down", Needed: 2, Last: failed}, "6s, 2 passes away from up: interval 5s + 1 x recheck 1s"},
		{api.Probe{Status: "down", Needed: 2, Against: 1, Last: passed}, "1s, 1 pass away from up: 1 x recheck 1s"},
		{api.Probe{Status: "unknown", Needed: 3}, "3s, 3 failures away from down: 3 x recheck 1s"},
		{api.Probe{Status: "unknown", Needed: 3, Against: 1, Last: failed}, "2s, 2 failures away from down: 2 x recheck 1s"},
	} {
		got := probeTerm(p, &c.probe)
		if text := got.soonest.String() + ", " + got.words; text != c.want {
			t.Errorf("%+v is %q, want %q", c.probe, text, c.want)
		}
	}
}

// What is told of a TTL adds up to the one that plugin/pool makes, whatever the members do.
func TestTTLAgrees(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	any := func(words ...string) string { return words[rnd.IntN(len(words))] }
	told := make(map[string]int)
	for range 5_000 {
		hold := time.Duration(rnd.IntN(3)) * 10 * time.Second
		p := pool.Pool{Policy: &pool.Policy{Min: pool.Min{Count: 1 + rnd.IntN(2)}, Hold: hold, MinTTL: 5 * time.Second, MaxTTL: time.Duration(6+rnd.IntN(60)) * time.Second}}
		d := &api.Pool{
			Interval: 5, Recheck: 1, Hold: hold.Seconds(), Require: 1 + rnd.IntN(2), MinTTL: 5, MaxTTL: int(p.MaxTTL.Seconds()),
		}
		var health []pool.Health
		for tier := range 1 + rnd.IntN(3) {
			var members []pool.Member
			docs := api.Tier{Need: p.Min.Count}
			usable := 0
			for i := range 2 + rnd.IntN(2) {
				members = append(members, pool.Member{Addr: netip.AddrFrom4([4]byte{192, 0, byte(tier), byte(i)})})
				m := api.Member{Member: fmt.Sprintf("%d/%d", tier, i)}
				for range 2 {
					q := api.Probe{Status: any("up", "up", "down", "unknown"), Needed: 3}
					if q.Last = new(api.Result); q.Status == "up" {
						q.Last.Passed = true
					}
					if rnd.IntN(3) == 0 {
						q.Against, q.Last.Passed = 1+rnd.IntN(2), !q.Last.Passed
					}
					m.Probes = append(m.Probes, q)
				}
				m.Status = statusOfProbes(m.Probes, d.Require)
				h := pool.Health{Up: m.Status != "down", Next: statusTerm(d, &m).soonest}
				switch what := any("", "", "held", "waiting", "drain", "up", "down"); what {
				case "held":
					if m.Status == "up" {
						h.Held = time.Duration(1+rnd.IntN(40)) * time.Second
						m.Held = noon.Add(h.Held)
						h.Returned = m.Held.Add(-time.Hour)
						m.Returned = h.Returned
					}
				case "waiting":
					if m.Status == "up" {
						h.Held, m.Waiting = pool.Forever, true
						h.Returned = noon.Add(-time.Duration(rnd.IntN(1e9)))
						m.Returned = h.Returned
					}
				case "drain", "up", "down":
					m.Override = &override.Override{Action: override.Action(what)}
					h.Next = pool.Forever
					if rnd.IntN(2) == 0 {
						h.Next = time.Duration(rnd.IntN(40)) * time.Second
						m.Override.Until = noon.Add(h.Next)
					}
					if h.Drained = what == "drain"; !h.Drained {
						m.Status = what
					}
					h.Up = m.Status != "down" && !h.Drained
				}
				if h.Up && h.Held == 0 {
					usable++
				}
				health, docs.Members = append(health, h), append(docs.Members, m)
			}
			docs.Usable = usable >= docs.Need
			p.Tiers, d.Tiers = append(p.Tiers, members), append(d.Tiers, docs)
		}
		c := p.Choose(health, nil)
		d.Answer.TTL, d.Answer.Tier = int(c.TTL.Seconds()), fmt.Sprint(c.Tier)
		if c.Tier == pool.InFallback {
			d.Answer.Tier = "fallback"
		}
		words := ttlWords(d, noon)
		if strings.Contains(words, "as it was") || !strings.HasPrefix(words, fmt.Sprintf("TTL %ds: ", d.Answer.TTL)) {
			t.Fatalf("The TTL is %s, and of\n%+v\nis told %q", c.TTL, health, words)
		}
		for _, kind := range []string{"overridden for so long", "is held", "+ hold", "which none does", "less than", "more than", "all tiers", "tiers 0 to 1"} {
			if strings.Contains(words, kind) {
				told[kind]++
			}
		}
	}
	if len(told) != 8 {
		t.Errorf("Only of these was told: %v", told)
	}
	d := &api.Pool{Answer: api.Answer{Tier: "0", TTL: 30}, MinTTL: 30, MaxTTL: 30}
	if got, want := ttlWords(d, noon), "TTL 30s, as the Corefile says."; got != want {
		t.Errorf("Of a fixed TTL is told %q, want %q", got, want)
	}
}

// statusOfProbes is what so many probes that have to pass make of a member.
func statusOfProbes(probes []api.Probe, require int) string {
	n := make(map[string]int)
	for _, p := range probes {
		n[p.Status]++
	}
	switch {
	case n["down"] > len(probes)-require:
		return "down"
	case n["up"] >= require:
		return "up"
	}
	return "unknown"
}
