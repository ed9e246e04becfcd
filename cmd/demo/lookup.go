package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// An answer is what a client would see of one.
type answer struct {
	addrs string // in the order they came, or what came in their place
	ttl   uint32
	note  string // the text of an Extended DNS Error
}

func (a answer) String() string {
	s := a.addrs
	if a.ttl > 0 {
		s += fmt.Sprintf("  ttl %d", a.ttl)
	}
	if a.note != "" {
		s += "  (" + a.note + ")"
	}
	return s
}

// lookup asks server once for the A records of name.
func lookup(ctx context.Context, server, name string) answer {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA).SetEdns0(1232, false)
	client := &dns.Client{Net: "udp", Timeout: time.Second}
	r, _, err := client.ExchangeContext(ctx, q, server)
	if err != nil {
		// Without its own address, which is another each time, it is the same failure each time.
		for next := err; next != nil; next = errors.Unwrap(next) {
			err = next
		}
		return answer{addrs: "no answer: " + err.Error()}
	}
	return parse(r)
}

func parse(r *dns.Msg) answer {
	var a answer
	var addrs []string
	for _, rr := range r.Answer {
		if rec, ok := rr.(*dns.A); ok {
			addrs = append(addrs, rec.A.String())
			a.ttl = rec.Hdr.Ttl
		}
	}
	a.addrs = strings.Join(addrs, " ")
	if a.addrs == "" {
		a.addrs = dns.RcodeToString[r.Rcode] + " without an address"
	}
	if opt := r.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if ede, ok := o.(*dns.EDNS0_EDE); ok {
				a.note = ede.ExtraText
			}
		}
	}
	return a
}
