package main

import (
	"context"
	"errors"
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
	away    bool // it may leave queries without an answer
	back    time.Time
	changes []change
	last    time.Time // that it answered
	asked   int
	lost    []string
	slowest time.Duration
}

// replicas are those of all sites, for one name.
type replicas [sites]replica

// all says whether all answer the same.
func (rs *replicas) all(answer string) bool {
	for i := range rs {
		if rs[i].answer().answer != answer {
			return false
		}
	}
	return true
}

// wrong is what should not have been at sites that all take this course.
func (rs *replicas) wrong(course string) error {
	var errs []error
	for i := range rs {
		for _, what := range rs[i].wrong(course) {
			errs = append(errs, fmt.Errorf("%s %s", names[i], what))
		}
	}
	return errors.Join(errs...)
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

// wrong is what should not have been: another course, queries that were lost, answers that took long.
func (r *replica) wrong(course string) (wrong []string) {
	if got := r.course(); got != course {
		wrong = append(wrong, fmt.Sprintf("answered %q, want %q", got, course))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lost) > 0 {
		wrong = append(wrong, fmt.Sprintf("lost %d queries: %s", len(r.lost), strings.Join(r.lost[:min(5, len(r.lost))], "; ")))
	}
	if r.slowest > late {
		wrong = append(wrong, fmt.Sprintf("took %s for an answer", r.slowest))
	}
	return wrong
}

func (r *replica) setAway(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away, r.back = away, time.Now()
}

// patience is how long it is waited for an answer. Of one that is away the first answer is wanted, and not after a query
// that has had none.
func (r *replica) patience() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return 50 * time.Millisecond
	}
	return patience
}

// query asks a site for a name until the context ends.
func (l *lab) query(ctx context.Context, site int, name string, r *replica) {
	conn, err := dns.Dial("udp", net.JoinHostPort(l.site(site), port))
	if err != nil {
		r.missed(err, time.Now())
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
		m := new(dns.Msg).SetQuestion(name, dns.TypeA)
		sent := time.Now()
		_ = conn.SetDeadline(sent.Add(r.patience()))
		err := conn.WriteMsg(m)
		for answered := false; err == nil && !answered; {
			var a *dns.Msg
			if a, err = conn.ReadMsg(); err == nil {
				r.answered(l.words(a)) // one that is late is what it answers, too
				answered = a.Id == m.Id
			}
		}
		if err != nil {
			r.missed(err, sent)
			continue
		}
		r.took(time.Since(sent))
	}
}

func (r *replica) missed(err error, sent time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away || sent.Before(r.back) {
		return
	}
	r.asked++
	r.lost = append(r.lost, fmt.Sprintf("%s %v", time.Now().Format("05.000"), err))
}

func (r *replica) took(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if !r.away {
		r.slowest = max(r.slowest, d)
	}
}

func (r *replica) answered(answer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now()
	if n := len(r.changes); n == 0 || r.changes[n-1].answer != answer {
		r.changes = append(r.changes, change{answer, r.last})
	}
}

// answeredSince says whether it has answered after a time.
func (r *replica) answeredSince(t time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last.After(t)
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
