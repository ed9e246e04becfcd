package test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// stub is a plugin that answers what a test says, where none of CoreDNS's own can. It comes right after
// failover; see stubbed.
type stub struct {
	answer func(*dns.Msg) *dns.Msg
}

// stubs are the answers of the tests by the word that stands for each in a Corefile.
var stubs sync.Map

func init() {
	plugin.Register("stub", func(c *caddy.Controller) error {
		c.Next()
		if !c.NextArg() {
			return c.ArgErr()
		}
		answer, ok := stubs.Load(c.Val())
		if !ok {
			return c.Errf("no stub %q", c.Val())
		}
		dnsserver.GetConfig(c).AddPlugin(func(plugin.Handler) plugin.Handler { return stub{answer.(func(*dns.Msg) *dns.Msg)} })
		return nil
	})
	i := slices.Index(dnsserver.Directives, "template") // failover will be before it
	if err := dnsserver.SetDirectives(slices.Insert(slices.Clone(dnsserver.Directives), i+1, "stub")); err != nil {
		panic(err)
	}
}

// stubbed is the directive of a plugin that answers each query with what answer returns.
func stubbed(t testing.TB, answer func(*dns.Msg) *dns.Msg) string {
	t.Helper()
	word := fmt.Sprintf("%s-%d", t.Name(), dns.Id())
	stubs.Store(word, answer)
	t.Cleanup(func() { stubs.Delete(word) })
	return fmt.Sprintf("stub %q", word)
}

// Name implements the plugin.Handler interface.
func (stub) Name() string { return "stub" }

// ServeDNS implements the plugin.Handler interface.
func (s stub) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return dns.RcodeSuccess, w.WriteMsg(s.answer(r))
}

// reply is an answer to a query with these records, as a zone file has them.
func reply(t testing.TB, r *dns.Msg, records ...string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetReply(r)
	m.Authoritative = true
	for _, record := range records {
		rr, err := dns.NewRR(record)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}
