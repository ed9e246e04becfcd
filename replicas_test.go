package failover

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// Two that see the same come to the same, and the primary hears of each transition once.
func TestReplicasAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		w, d := newWorld(), newDDNS(t)
		w.writesTo(t, d, writing+three+"}")
		wait(3 * time.Second) // so that they detect at different times
		w.writesTo(t, d, writing+three+"}")
		wait(time.Hour)
		for range 10 {
			w.set("down", "192.0.2.1")
			wait(wayDown + time.Second)
			d.at(t, "One fails", wwwA, "192.0.2.2")
			wait(10 * time.Minute)
			w.set("", "192.0.2.1")
			wait(wayUp + time.Second)
			d.at(t, "It is back", wwwA, "192.0.2.1 192.0.2.2")
			wait(10 * time.Minute)
		}
		if changes, _, writes := d.counts(); changes != 21 || writes > 2*21 {
			t.Errorf("%d changes by %d UPDATEs in 20 transitions, want 21", changes, writes)
		}
		if said := lines("[WARNING]"); len(said) > 0 {
			t.Errorf("Said of those that agree: %q", said)
		}
	})
}

// Two that start at once do not take each other for strangers.
func TestReplicasStartAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logbook(t)
		w, d := newWorld(), newDDNS(t)
		a, _ := w.willWriteTo(t, d, nil, writing+three+"}")
		b, _ := w.willWriteTo(t, d, nil, writing+three+"}")
		go a.start()
		b.start()
		wait(time.Hour)
		d.at(t, "Started", wwwA, "192.0.2.1 192.0.2.2")
		if changes, _, _ := d.counts(); changes != 1 || len(lines("[WARNING]")) > 0 {
			t.Errorf("%d changes, and the log has %q", changes, lines("[WARNING]"))
		}
	})
}

// Two that do not see the same leave what the better view is, and do not fight.
func TestReplicasDisagree(t *testing.T) {
	for _, tc := range []struct {
		name  string
		block string
		a, b  []string // what is down for each
		want  string
	}{
		{"one sees one down", "}", []string{"192.0.2.1"}, nil, "192.0.2.1 192.0.2.2"},
		{"one sees both down", "}", []string{"192.0.2.1", "192.0.2.2"}, nil, "192.0.2.1 192.0.2.2"},
		{"one sees all down", "}", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, []string{"192.0.2.1"}, "192.0.2.2"},
		{"one has no answer at all", "fallback none\n}", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, []string{"192.0.2.1"}, "192.0.2.2"},
		{"each sees another down", "}", []string{"192.0.2.2"}, []string{"192.0.2.1"}, "192.0.2.2"},
	} {
		for _, swapped := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.name, swapped), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lines := logbook(t)
					a, b, d := newWorld(), newWorld(), newDDNS(t)
					if swapped {
						tc.a, tc.b = tc.b, tc.a
					}
					a.writesTo(t, d, writing+three+tc.block)
					b.writesTo(t, d, writing+three+tc.block)
					wait(10 * time.Minute)
					a.set("down", tc.a...)
					wait(time.Minute)
					b.set("down", tc.b...)
					wait(4 * comparison)
					d.at(t, "Settled", wwwA, tc.want)
					before, _, _ := d.counts()
					if before > 8 {
						t.Errorf("%d changes until both are settled", before)
					}
					wait(time.Hour)
					d.at(t, "An hour later", wwwA, tc.want)
					if after, _, _ := d.counts(); after != before {
						t.Errorf("%d changes in an hour", after-before)
					}
					said := lines("another has written")
					if len(said) == 0 || len(said) > 2 {
						t.Errorf("The log has %q", said)
					}
					// They see the same again.
					a.set("", "192.0.2.1", "192.0.2.2", "192.0.2.3")
					b.set("", "192.0.2.1", "192.0.2.2", "192.0.2.3")
					wait(wayUp + 4*comparison)
					d.at(t, "All is well", wwwA, "192.0.2.1 192.0.2.2")
				})
			})
		}
	}
}

// What one has written that died is not for ever, unless it is nothing that the other is sure of.
func TestReplicasOneGone(t *testing.T) {
	for block, want := range map[string]string{"}": "192.0.2.2", "fallback none\n}": "192.0.2.1 192.0.2.2"} {
		synctest.Test(t, func(t *testing.T) {
			a, b, d := newWorld(), newWorld(), newDDNS(t)
			a.writesTo(t, d, writing+three+block)
			g, _ := b.writesTo(t, d, writing+three+block)
			wait(time.Minute)
			a.set("down", "192.0.2.1")
			if strings.Contains(block, "none") {
				a.set("down", "192.0.2.2", "192.0.2.3")
			}
			wait(4 * comparison)
			d.at(t, "Overruled", wwwA, "192.0.2.1 192.0.2.2")
			g.stop()
			wait(time.Hour)
			d.at(t, "An hour later", wwwA, "192.0.2.1 192.0.2.2")
			wait(2 * time.Hour)
			d.at(t, "Three hours later", wwwA, want)
			before, _, _ := d.counts()
			wait(oneDay)
			if after, _, _ := d.counts(); after != before {
				t.Errorf("%d changes in a day afterwards", after-before)
			}
		})
	}
}

// Those that are configured differently leave what the other has written, as long as they may be gone.
func TestReplicasApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDDNS(t)
		w.writesTo(t, d, writing+"failover www.example.org 192.0.2.1:443")
		w.writesTo(t, d, writing+"failover www.example.org 192.0.2.2:443")
		wait(oneDay)
		if changes, _, _ := d.counts(); changes > 14 {
			t.Errorf("%d changes in a day, want one in two hours", changes)
		}
	})
}

// One that sees less does not have its way whenever something changes for it, nor ever longer from time to time.
func TestReplicasFlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, d := newWorld(), newWorld(), newDDNS(t)
		a.writesTo(t, d, writing+three+"}")
		b.writesTo(t, d, writing+three+"}")
		wait(time.Minute)
		wrong := time.Duration(0)
		watch := func(d *ddns, long time.Duration) {
			for range long / (10 * time.Second) {
				wait(10 * time.Second)
				if d.has("www.example.org.", dns.TypeA) != "192.0.2.1 192.0.2.2" {
					wrong += 10 * time.Second
				}
			}
		}
		b.set("down", "192.0.2.1")
		watch(d, 10*time.Minute)
		if wrong > 2*comparison+time.Minute {
			t.Errorf("It is wrong for %s after the first", wrong)
		}
		wrong = 0
		for range 10 {
			b.set("down", "192.0.2.2")
			watch(d, 3*time.Minute)
			b.set("", "192.0.2.2")
			watch(d, 3*time.Minute)
		}
		if wrong > 0 {
			t.Errorf("It is wrong for %s of an hour", wrong)
		}
		for range 5 {
			b.set("", "192.0.2.1")
			watch(d, 5*time.Hour)
			b.set("down", "192.0.2.1")
			wrong = 0
			watch(d, time.Hour)
			if wrong > 2*comparison+time.Minute {
				t.Errorf("It is wrong for %s", wrong)
			}
		}
	})
}
