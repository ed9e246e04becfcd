package directives

import (
	"slices"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
)

// restore puts the process-wide list back when the test ends.
func restore(t *testing.T) []string {
	t.Helper()
	stock := slices.Clone(dnsserver.Directives)
	t.Cleanup(func() { dnsserver.Directives = stock })
	return stock
}

func TestInsert(t *testing.T) {
	stock := restore(t)
	if err := Insert(); err != nil {
		t.Fatal(err)
	}
	i := slices.Index(dnsserver.Directives, "failover")
	if i < 0 || dnsserver.Directives[i+1] != "template" {
		t.Fatalf("failover at %d of %v, want it directly before template", i, dnsserver.Directives)
	}
	if rest := slices.Delete(slices.Clone(dnsserver.Directives), i, i+1); !slices.Equal(rest, stock) {
		t.Errorf("the other directives are %v, want them as they were: %v", rest, stock)
	}
}

// What must see a query before failover does, and what must see it after, are promises of the
// README: this fails when a new CoreDNS moves one of them to the other side.
func TestOrder(t *testing.T) {
	restore(t)
	if err := Insert(); err != nil {
		t.Fatal(err)
	}
	at := func(name string) int { return slices.Index(dnsserver.Directives, name) }
	for _, above := range []string{"acl", "cache", "dns64", "dnssec", "header", "loadbalance", "minimal", "rewrite", "tsig"} {
		if i := at(above); i < 0 || i > at("failover") {
			t.Errorf("%s is number %d, want it above failover, number %d", above, i, at("failover"))
		}
	}
	for _, below := range []string{"auto", "etcd", "file", "forward", "hosts", "kubernetes", "secondary", "template", "transfer"} {
		if at(below) < at("failover") {
			t.Errorf("%s is number %d, want it below failover, number %d", below, at(below), at("failover"))
		}
	}
}

func TestInsertRefuses(t *testing.T) {
	restore(t)
	for _, list := range [][]string{nil, {"errors", "forward"}, {"failover", "template"}} {
		dnsserver.Directives = list
		if err := Insert(); err == nil {
			t.Errorf("Insert into %q: no error", list)
		}
		if !slices.Equal(dnsserver.Directives, list) {
			t.Errorf("a refused Insert left %q, want %q", dnsserver.Directives, list)
		}
	}
}
