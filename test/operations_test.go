package test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// What docs/operations.md has an operator say to failoverctl is taken by the server that it shows, in this order.
func TestOperationsCommands(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	corefile := loopback.Replace(corefiles(t, "../docs/operations.md")[0])
	furnished := furnish(t)
	hosts := make(map[string]*host)
	// The members are hosts of the test, and everything else listens where nobody does.
	mapped := regexp.MustCompile(`=127[.\d]+:\d+`).ReplaceAllStringFunc(corefile, func(word string) string {
		address, _, _ := strings.Cut(word[1:], ":")
		hosts[address] = member(t, address)
		return "=" + hosts[address].String()
	})
	mapped = strings.NewReplacer(":9054", ":"+freePort(t), ":9153", ":"+freePort(t), ":8080", ":"+freePort(t),
		":8181", ":"+freePort(t), "/run/", furnished+"/", "lameduck 10s", "lameduck 1ms",
		"    failover {\n", "    failover {\n        interval 400ms\n        recheck 20ms\n").Replace(mapped)
	mapped = strings.Replace(mapped, "{\n", "{\n    bind 127.0.0.1\n", 1)
	if err := os.WriteFile("Corefile", []byte(mapped), 0o600); err != nil {
		t.Fatal(err)
	}
	port := dnsserver.Port
	dnsserver.Port = "0"
	t.Cleanup(func() { dnsserver.Port = port })
	s := start(t, mapped)
	run := func(args ...string) said {
		return failoverctl(t.Context(), append([]string{"-server", "unix://" + furnished + "/failover.sock"}, args...)...)
	}

	// One has been down, and waits to be let back.
	primary := hosts["127.0.2.20"]
	if primary == nil {
		t.Fatalf("The primary is not among %v", hosts)
	}
	primary.stop()
	eventually(t, bound, "the primary is down", func() bool { return strings.Contains(run("status", "-unwell").out, "connection refused") })
	primary.start()
	eventually(t, bound, "the primary waits", func() bool { return strings.Contains(run("status", "-unwell").out, "waits to be cleared") })

	commands := 0
	for _, block := range regexp.MustCompile(`(?ms)^ *~~~ sh\n(.*?)^ *~~~$`).FindAllStringSubmatch(string(page), -1) {
		for line := range strings.Lines(block[1]) {
			line, ours := strings.CutPrefix(strings.TrimSpace(line), "failoverctl ")
			if !ours {
				continue
			}
			commands++
			var args []string
			for _, word := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(loopback.Replace(line), -1) {
				args = append(args, strings.Trim(word, `"`))
			}
			got := run(args...)
			if got.status != 0 {
				t.Errorf("failoverctl %s has the status %d: %s%s", line, got.status, got.out, got.err)
			}
		}
	}
	if commands < 15 {
		t.Errorf("The page has %d commands, want those that it has", commands)
	}
	if got := run("status", "-unwell"); !strings.Contains(got.out, "No pool is unwell") {
		t.Errorf("At the end of the page something is left: %s%s", got.out, got.err)
	}
	wantAddresses(t, s.ask("db.example.org.", dns.TypeA), "127.0.2.20")
}
