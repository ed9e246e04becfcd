package test

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// dug is what dig or kdig reads in an answer.
type dug struct {
	status, flags, question string
	answer, authority       []string // their records, with single blanks and without quotes
	ede                     string
}

// dig asks with a program that is not made with miekg/dns.
func dig(t testing.TB, program, addr string, args ...string) dug {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	out, err := exec.Command(program, append([]string{"@" + host, "-p", port, "+norecurse"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	var (
		d       dug
		section string
	)
	for line := range strings.Lines(string(out)) {
		line = strings.ReplaceAll(strings.Join(strings.Fields(line), " "), `"`, "") // which only some put around values
		upper := strings.ToUpper(line)
		_, status, hasStatus := strings.Cut(line, "status: ")
		_, flags, hasFlags := strings.Cut(strings.ToLower(line), ";; flags: ")
		switch {
		case strings.Contains(upper, "TRUNCATED REPLY"): // it asks again over TCP
		case strings.Contains(upper, "WARNING") || strings.Contains(upper, "MALFORMED") || strings.Contains(upper, "EXTRA BYTES"):
			t.Errorf("%s %q complains: %s", program, args, line)
		case strings.HasPrefix(upper, ";; QUESTION SECTION"), strings.HasPrefix(upper, ";; ANSWER SECTION"),
			strings.HasPrefix(upper, ";; AUTHORITY SECTION"), strings.HasPrefix(upper, ";; ADDITIONAL SECTION"):
			section = strings.Fields(upper)[1]
		case hasStatus:
			d.status, _, _ = strings.Cut(status, ";")
			d.status, _, _ = strings.Cut(d.status, ",")
		case hasFlags:
			d.flags, _, _ = strings.Cut(flags, ";")
		case strings.HasPrefix(line, "; EDE: "), strings.HasPrefix(line, ";; EDE: "):
			d.ede = strings.TrimLeft(line, "; ")
		case section == "QUESTION" && strings.HasPrefix(line, ";"):
			d.question, section = strings.TrimPrefix(strings.TrimPrefix(line, ";"), "; "), ""
		case line == "" || strings.HasPrefix(line, ";"):
		case section == "ANSWER":
			d.answer = append(d.answer, line)
		case section == "AUTHORITY":
			d.authority = append(d.authority, line)
		}
	}
	return d
}

// lines are records as dig shows them, without quotes.
func lines(rrs []dns.RR) []string {
	var all []string
	for _, rr := range rrs {
		all = append(all, strings.NewReplacer("\t", " ", `"`, "").Replace(rr.String()))
	}
	return all
}

// What failover says is the same to those who read it with other software.
func TestDig(t *testing.T) {
	v4 := from("192.0.2.1", 100)
	port := freePort(t) // the same for UDP and TCP
	s := start(t, strings.Replace(block("failover {\n ttl 30s\n}", upPool(t, "www.example.org", "*.apps.example.org", "a.b.example.org"),
		downPool(t, "gone.example.org", "fallback none"),
		downPool(t, "no.example.org", "fallback nxdomain"),
		downPool(t, "refused.example.org", "fallback refused"),
		downPool(t, "other.example.org", "fallback 192.0.2.66 2001:db8::66 192.0.2.65"),
		fmt.Sprintf("failover web.example.org {\n primary %s\n backup %s\n srv http\n https alpn=h2,h3\n}", member(t, "127.0.0.3"), member(t, "127.0.0.2")),
		downPool(t, "many.example.org", "fallback "+strings.Join(v4, " "))), ":0", ":"+port, 1))
	for _, program := range []string{"dig", "kdig"} {
		t.Run(program, func(t *testing.T) {
			needs(t, program)
			for _, name := range []string{"www", "wWw", "any.apps", "*.apps", "apps", "b", "a.b", "gone", "no", "refused", "other", "absent", "web", "_http._tcp.web", "127-0-0-2.web"} {
				name += ".example.org."
				if program == "kdig" {
					name = strings.ToLower(name) // as it would ask anyway
				}
				for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeSRV, dns.TypeHTTPS, dns.TypeANY} {
					for _, over := range []string{"+notcp", "+tcp"} {
						args := []string{over, "+noedns", "-q", name, "-t", dns.TypeToString[qtype]}
						got := dig(t, program, s.udp(), args...)
						want := exchange(t, s.udp(), "udp", question(name, qtype))
						if got.status != dns.RcodeToString[want.Rcode] || !strings.HasPrefix(got.flags, "qr aa") && want.Rcode != dns.RcodeRefused ||
							!slices.Equal(got.answer, lines(want.Answer)) || !slices.Equal(got.authority, lines(want.Ns)) ||
							got.question != name+" IN "+dns.TypeToString[qtype] {
							t.Errorf("%s %q reads\n%+v\nin\n%v", program, args, got, want)
						}
					}
				}
			}
			args := []string{"+edns=0", "-q", "other.example.org.", "-t", "A"}
			if got := dig(t, program, s.udp(), args...); !strings.HasPrefix(got.ede, "EDE: 0 (Other") || !strings.Contains(got.ede, "no tier is usable: fallback 192.0.2.66") {
				t.Errorf("%s reads the Extended DNS Error %q", program, got.ede)
			}
			// Over UDP there is only the front of the order: +ignore is content with it, and otherwise TCP has all.
			args = []string{"+noedns", "+ignore", "-q", "many.example.org.", "-t", "A"}
			got := dig(t, program, s.udp(), args...)
			if n := len(got.answer); n < 20 || n >= len(v4) || !strings.Contains(got.flags, "tc") {
				t.Errorf("%s reads %d records with the flags %q, want the front of them and tc", program, n, got.flags)
			}
			for i, line := range got.answer {
				if want := fmt.Sprintf("many.example.org. 30 IN A %s", v4[i]); line != want {
					t.Errorf("%s reads %q, want %q", program, line, want)
				}
			}
			args = []string{"+noedns", "-q", "many.example.org.", "-t", "A"}
			if got := dig(t, program, s.udp(), args...); len(got.answer) != len(v4) || strings.Contains(got.flags, "tc") {
				t.Errorf("%s reads %d records with the flags %q in the end, want all %d", program, len(got.answer), got.flags, len(v4))
			}
		})
	}
}
