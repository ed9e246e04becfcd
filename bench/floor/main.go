// Command floor is a CoreDNS with a plugin that writes a message made beforehand: whatever a plugin does costs more.
// It is there to be measured, see run.sh, and answers anything with the same three addresses.
package main

import (
	"context"
	"net"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"

	"github.com/miekg/dns"
)

func main() {
	dnsserver.Directives = append(dnsserver.Directives, "canned")
	plugin.Register("canned", setup)
	coremain.Run()
}

func setup(c *caddy.Controller) error {
	dnsserver.GetConfig(c).AddPlugin(func(plugin.Handler) plugin.Handler { return plugin.HandlerFunc(answer) })
	return nil
}

var answers = func() (rrs []dns.RR) {
	for i := range byte(3) {
		rrs = append(rrs, &dns.A{
			Hdr: dns.RR_Header{Name: "www.bench.test.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
			A:   net.IPv4(127, 0, 0, i+1),
		})
	}
	return rrs
}()

func answer(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m := new(dns.Msg).SetReply(r)
	m.Authoritative, m.Answer = true, answers
	return dns.RcodeSuccess, w.WriteMsg(m)
}
