package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// rate is how often a second each site is asked.
	rate = 50

	// patience is how long an answer may take before the query counts as lost.
	patience = 2 * time.Second

	// late is how long it may take. Nobody waits for anything, so what it takes is the machine's.
	late = 500 * time.Millisecond
)

// change is an answer that was not the same as the one before.
type change struct {
	answer string // the members, by their numbers: "1 2"
	at     time.Time
}

// replica is a CoreDNS as its clients see it.
type replica struct {
	mu      sync.Mutex
	away    bool // it is not asked
	changes []change
	asked   int
	lost    []string
	slowest time.Duration
}

// restart forgets everything but the answer.
func (r *replica) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = r.changes[max(0, len(r.changes)-1):]
	r.asked, r.lost, r.slowest = 0, nil, 0
}

// answer is the last one, and since when it is that.
func (r *replica) answer() change {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.changes) == 0 {
		return change{}
	}
	return r.changes[len(r.changes)-1]
}

// since is when an answer was first given after a time.
func (r *replica) since(answer string, after time.Time) (at time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.changes, func(c change) bool { return c.answer == answer && c.at.After(after) })
	if i < 0 {
		return at, false
	}
	return r.changes[i].at, true
}

// course is all answers, one after the other: "1 2, 2, 1 2".
func (r *replica) course() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var words []string
	for _, c := range r.changes {
		words = append(words, c.answer)
	}
	return strings.Join(words, ", ")
}

func (r *replica) setAway(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
}

// query asks a site until the context ends.
func (l *lab) query(ctx context.Context, site int) {
	r := &l.replicas[site]
	conn, err := dns.Dial("udp", net.JoinHostPort(l.site(site), port))
	if err != nil {
		r.missed(err)
		return
	}
	defer conn.Close()
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		away := r.away
		r.mu.Unlock()
		if away {
			continue
		}
		m := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
		sent := time.Now()
		_ = conn.SetDeadline(sent.Add(patience))
		err := conn.WriteMsg(m)
		var a *dns.Msg
		for err == nil && (a == nil || a.Id != m.Id) {
			a, err = conn.ReadMsg()
		}
		if err != nil {
			r.missed(err)
			continue
		}
		r.answered(l.words(a), sent)
	}
}

func (r *replica) missed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return // since it was asked
	}
	r.asked++
	r.lost = append(r.lost, fmt.Sprintf("%s %v", time.Now().Format("05.000"), err))
}

func (r *replica) answered(answer string, sent time.Time) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	r.slowest = max(r.slowest, now.Sub(sent))
	if n := len(r.changes); n == 0 || r.changes[n-1].answer != answer {
		r.changes = append(r.changes, change{answer, now})
	}
}

// words are the members in an answer by their numbers.
func (l *lab) words(m *dns.Msg) string {
	if m.Rcode != dns.RcodeSuccess {
		return dns.RcodeToString[m.Rcode]
	}
	var words []string
	for _, rr := range m.Answer {
		a, ok := rr.(*dns.A)
		if !ok {
			return rr.String()
		}
		word := a.A.String()
		for i := range members {
			if word == l.member(i) {
				word = strconv.Itoa(i + 1)
			}
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}
