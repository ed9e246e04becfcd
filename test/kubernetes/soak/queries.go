package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// patience is how long an answer may take before the query counts as lost.
const patience = 3 * time.Second

// ask asks a replica for the addresses of a name.
func ask(replica int, network, name string) (addrs []string, rcode int, err error) {
	c := &dns.Client{Net: network, Timeout: patience}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), net.JoinHostPort(replicaAddress(replica), port))
	if err != nil {
		return nil, 0, err
	}
	return addresses(m), m.Rcode, nil
}

func addresses(m *dns.Msg) []string {
	var addrs []string
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			addrs = append(addrs, a.A.String())
		}
	}
	return addrs
}

// tally counts the answers and keeps the first things that were wrong.
type tally struct {
	answers, lost, wrong atomic.Int64
	slowest              [2]atomic.Int64 // over UDP and over TCP, in nanoseconds
	mu                   sync.Mutex
	firsts               []string
}

func (t *tally) complain(count *atomic.Int64, format string, args ...any) {
	count.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.firsts) < 20 {
		t.firsts = append(t.firsts, fmt.Sprintf("%s ", time.Now().Format("15:04:05.000"))+fmt.Sprintf(format, args...))
	}
}

// answered counts an answer and how long it took.
func (t *tally) answered(sent time.Time, slowest *atomic.Int64) {
	t.answers.Add(1)
	took := int64(time.Since(sent))
	for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
	}
}

// questions are what is asked, and how often of a hundred times.
var questions = []struct {
	name  string
	qtype uint16
	rcode int
	share int
}{
	{"www.example.org.", dns.TypeA, dns.RcodeSuccess, 80},
	{"www.example.org.", dns.TypeAAAA, dns.RcodeSuccess, 10},
	{"absent.example.org.", dns.TypeA, dns.RcodeNameError, 10},
}

// query asks a replica over UDP, so often a second, until the end.
func (l *lab) query(replica int, rate float64, end time.Time, t *tally) {
	conn, err := dns.Dial("udp", net.JoinHostPort(replicaAddress(replica), port))
	if err != nil {
		t.complain(&t.lost, "dial: %v", err)
		return
	}
	defer func() { conn.Close() }()
	begin := time.Now()
	for n := 0; time.Now().Before(end); n++ {
		time.Sleep(time.Until(begin.Add(time.Duration(float64(n) / rate * float64(time.Second)))))
		at, i := n%100, 0
		for ; at >= questions[i].share; i++ {
			at -= questions[i].share
		}
		q := questions[i]
		m := new(dns.Msg).SetQuestion(q.name, q.qtype)
		sent := time.Now()
		_ = conn.SetDeadline(sent.Add(patience))
		if err := conn.WriteMsg(m); err != nil {
			t.complain(&t.lost, "replica %d: %v", replica, err)
			continue
		}
		r, err := conn.ReadMsg()
		for err == nil && r.Id != m.Id {
			r, err = conn.ReadMsg()
		}
		if err != nil {
			t.complain(&t.lost, "replica %d: %v", replica, err)
			continue
		}
		t.answered(sent, &t.slowest[0])
		l.check(replica, q.name, r, q.rcode, sent, t)
	}
}

// check judges an answer.
func (l *lab) check(replica int, name string, r *dns.Msg, rcode int, sent time.Time, t *tally) {
	if r.Rcode != rcode {
		t.complain(&t.wrong, "replica %d: %s is %s", replica, name, dns.RcodeToString[r.Rcode])
		return
	}
	if rcode != dns.RcodeSuccess || r.Question[0].Qtype != dns.TypeA {
		if len(r.Answer) > 0 || len(r.Ns) != 1 {
			t.complain(&t.wrong, "replica %d: a denial of %s with %d answers and %d in the authority", replica, name, len(r.Answer), len(r.Ns))
		}
		return
	}
	addrs := addresses(r)
	if what := l.wrong(replica, addrs, sent); what != "" {
		t.complain(&t.wrong, "replica %d answers %v: %s\n   %s", replica, addrs, what, l.truth)
	}
}

// queryTCP does the same, with a connection for each query.
func (l *lab) queryTCP(replica int, pause time.Duration, end time.Time, t *tally) {
	for time.Now().Before(end) {
		time.Sleep(pause)
		sent := time.Now()
		addrs, rcode, err := ask(replica, "tcp", "www.example.org.")
		if err != nil {
			t.complain(&t.lost, "replica %d over TCP: %v", replica, err)
			continue
		}
		t.answered(sent, &t.slowest[1])
		if what := l.wrong(replica, addrs, sent); rcode != dns.RcodeSuccess || what != "" {
			t.complain(&t.wrong, "replica %d over TCP answers %v: %s", replica, addrs, what)
		}
	}
}

// say writes what was wrong.
func (t *tally) say() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range slices.Clone(t.firsts) {
		fmt.Fprintln(os.Stderr, line)
	}
}
