package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/coredns-failover/failover/test/sandbox"
)

// fault is something that befalls a member, for one replica (-1: for all of them) and some seconds.
type fault struct {
	name         string
	makes        condition
	begin, end   func(l *lab, member, replica int) error
	onlyReplicas bool
}

// rules drops packets to and from a member, all or some, at the member.
func rules(which string) func(*lab, int, int) error {
	return func(_ *lab, member, _ int) error {
		return filter(fmt.Sprint("m", member), "in "+which+" drop", "out "+which+" drop")
	}
}

func noRules(_ *lab, member, _ int) error { return filter(fmt.Sprint("m", member)) }

// shape puts a queueing discipline on a member's link.
func shape(discipline string) func(*lab, int, int) error {
	return func(_ *lab, member, _ int) error {
		return sandbox.Run(fmt.Sprintf("tc -n m%d qdisc replace dev eth0 root %s", member, discipline))
	}
}

func noShape(_ *lab, member, _ int) error {
	return sandbox.Run(fmt.Sprintf("tc -n m%d qdisc del dev eth0 root", member))
}

var faults = []fault{
	{name: "killed", makes: bad,
		begin: func(l *lab, member, _ int) error { return l.kill(member) },
		end:   func(l *lab, member, _ int) error { return l.revive(member) }},
	{name: "cut", makes: bad, begin: rules("meta l4proto tcp"), end: noRules},
	{name: "cut for one", makes: bad, onlyReplicas: true,
		begin: func(_ *lab, member, replica int) error {
			return filter(fmt.Sprint("m", member), "in ip saddr "+replicaAddress(replica)+" drop")
		}, end: noRules},
	{name: "link down", makes: bad,
		begin: func(_ *lab, member, _ int) error { return sandbox.Run(fmt.Sprintf("ip link set m%d down", member)) },
		end:   func(_ *lab, member, _ int) error { return sandbox.Run(fmt.Sprintf("ip link set m%d up", member)) }},
	{name: "loses a third", makes: fuzzy, begin: rules("numgen random mod 100 < 18"), end: noRules},
	{name: "slow", makes: fuzzy, begin: shape("tbf rate 8kbit burst 1600 latency 300ms"), end: noShape},
	{name: "late", makes: fuzzy, begin: shape("netem delay 400ms 200ms loss 5%"), end: noShape},
}

// chaos lets faults befall members until the end, at most one each, and mends them all.
func (l *lab) chaos(rng *rand.Rand, end time.Time, count map[string]int) error {
	type active struct {
		fault
		until   time.Time
		replica int
	}
	var on [len(members)]*active
	mend := func(member int) error {
		a := on[member]
		on[member] = nil
		if err := a.end(l, member, a.replica); err != nil {
			return fmt.Errorf("mend %s: %w", a.name, err)
		}
		l.set(-1, member, good)
		return nil
	}
	for time.Now().Before(end) {
		time.Sleep(time.Duration(200+rng.IntN(2000)) * time.Millisecond)
		for m, a := range on {
			if a != nil && time.Now().After(a.until) {
				if err := mend(m); err != nil {
					return err
				}
			}
		}
		m := rng.IntN(len(members))
		f := faults[rng.IntN(len(faults))]
		if on[m] != nil || f.name == "late" && !l.netem {
			continue
		}
		replica := -1
		if f.onlyReplicas {
			replica = rng.IntN(replicas)
		}
		// What is happening to it may be seen before we know that it has happened.
		l.set(replica, m, fuzzy)
		if err := f.begin(l, m, replica); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		l.set(replica, m, f.makes)
		on[m] = &active{f, time.Now().Add(time.Duration(2+rng.IntN(25)) * time.Second), replica}
		count[f.name]++
	}
	for m, a := range on {
		if a != nil {
			if err := mend(m); err != nil {
				return err
			}
		}
	}
	return nil
}
