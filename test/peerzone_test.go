package test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// peerRest is what a zone file has of example.org besides the addresses of the pools.
const peerRest = `$ORIGIN example.org.
@                300 IN SOA   ns.example.org. hostmaster.example.org. 2026110101 7200 1800 86400 300
                3600 IN NS    ns.example.org.
                3600 IN MX    10 mail.example.org.
                3600 IN TXT   "of the apex"
ns              3600 IN A     192.0.2.53
mail            3600 IN A     192.0.2.25
www             3600 IN TXT   "of the zone file"
www             3600 IN MX    10 mail.example.org.
www             3600 IN CAA   0 issue "ca.example.net"
_http._tcp.www  3600 IN SRV   1 2 80 beside.example.org.
db              3600 IN TXT   "beside the addresses"
six             3600 IN HTTPS 1 . alpn=h2
under.a.b.deep  3600 IN TXT   "below a pool's name"
beside          3600 IN A     192.0.2.1
beside          3600 IN A     192.0.2.2
beside          3600 IN AAAA  2001:db8::1
alias           3600 IN CNAME beside.example.org.
*.star          3600 IN TXT   "of the zone file's wildcard"
x.star          3600 IN A     192.0.2.70
lonely.empty    3600 IN A     192.0.2.71
cut             3600 IN NS    ns.cut.example.org.
ns.cut          3600 IN A     192.0.2.54
secure          3600 IN NS    ns.secure.example.org.
secure          3600 IN DS    12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.secure       3600 IN A     192.0.2.55
host.apps       3600 IN A     192.0.2.90
text.apps       3600 IN TXT   "only text"
x.inner.apps    3600 IN A     192.0.2.91
cut.apps        3600 IN NS    ns.cut.example.org.
`

// peerHidden is what the zone file has and a pool answers instead.
const peerHidden = `www             3600 IN A     192.0.2.80
pri             3600 IN AAAA  2001:db8::80
`

// peerTTL is the TTL of all pools, peerNobody the type that nobody asks for.
const peerTTL, peerNobody = 30, 65281

// poolState is what the pools answer while some members are down, as it would be written into a zone file.
type poolState struct {
	what string
	down []int // indices of peerMembers
	has  map[string]string
	none string // the pools of which no tier is usable
}

// peerMembers are the members of all pools: two primaries, one of the other family, a backup.
var peerMembers = []string{"127.0.0.3", "127.0.0.2", "::1", "127.0.0.4"}

// peerPools are their directives. Members are written as %[1]s and so on.
const peerPools = `
failover {
    interval 400ms
    recheck  20ms
    ttl      30s
}
failover www.example.org *.apps.example.org example.org {
    primary  %[1]s %[2]s %[3]s
    backup   %[4]s
}
failover db.example.org a.b.deep.example.org {
    primary  %[1]s
    backup   %[4]s %[2]s
    answer   1
    fallback none
}
failover fixed.example.org {
    primary  %[1]s %[3]s
    fallback 192.0.2.66 2001:db8::66 192.0.2.65
}
failover pri.example.org {
    primary  %[1]s %[2]s
    backup   %[4]s
    fallback primary
}
failover last.example.org {
    primary  %[1]s
    backup   %[3]s
    fallback last
}
failover six.example.org *.six.example.org {
    primary  %[3]s
    fallback none
}
failover pair.example.org {
    primary  %[1]s %[2]s
    backup   %[4]s
    min      60%%
}
failover no.example.org {
    primary  %[1]s
    fallback nxdomain
}
failover web.example.org {
    primary  a=%[1]s b=%[2]s a=%[3]s
    backup   %[4]s
    srv      http
    https    alpn=h2,h3
}
`

// peerStates are the states that the members go through, one after the other.
var peerStates = []poolState{
	{"all up", nil, map[string]string{
		"www":   "127.0.0.3 127.0.0.2 ::1",
		"web":   "127.0.0.3 127.0.0.2 ::1",
		"db":    "127.0.0.3",
		"fixed": "127.0.0.3 ::1",
		"pri":   "127.0.0.3 127.0.0.2",
		"last":  "127.0.0.3",
		"six":   "::1",
		"pair":  "127.0.0.3 127.0.0.2",
		"no":    "127.0.0.3",
	}, ""},
	{"one down", []int{0}, map[string]string{
		"www":   "127.0.0.2 ::1",
		"web":   "127.0.0.2 ::1",
		"db":    "127.0.0.4",
		"fixed": "::1",
		"pri":   "127.0.0.2",
		"last":  "::1",
		"six":   "::1",
		"pair":  "127.0.0.4",
	}, "no"},
	{"primary down", []int{0, 1, 2}, map[string]string{
		"www":   "127.0.0.4",
		"web":   "127.0.0.4",
		"db":    "127.0.0.4",
		"fixed": "192.0.2.66 192.0.2.65 2001:db8::66",
		"pri":   "127.0.0.4",
		"last":  "::1",
		"pair":  "127.0.0.4",
	}, "fixed last six no"},
	{"a family down", []int{2}, map[string]string{
		"www":   "127.0.0.3 127.0.0.2",
		"web":   "127.0.0.3 127.0.0.2",
		"db":    "127.0.0.3",
		"fixed": "127.0.0.3",
		"pri":   "127.0.0.3 127.0.0.2",
		"last":  "127.0.0.3",
		"pair":  "127.0.0.3 127.0.0.2",
		"no":    "127.0.0.3",
	}, "six"},
	{"all down", []int{0, 1, 2, 3}, map[string]string{
		"www":   "127.0.0.3 127.0.0.2 127.0.0.4 ::1",
		"web":   "127.0.0.3 127.0.0.2 127.0.0.4 ::1",
		"fixed": "192.0.2.66 192.0.2.65 2001:db8::66",
		"pri":   "127.0.0.3 127.0.0.2",
		"last":  "127.0.0.3",
		"pair":  "127.0.0.3 127.0.0.2 127.0.0.4",
	}, "www web db fixed pri last six pair no"},
	{"all back", nil, map[string]string{
		"www":   "127.0.0.3 127.0.0.2 ::1",
		"web":   "127.0.0.3 127.0.0.2 ::1",
		"db":    "127.0.0.3",
		"fixed": "127.0.0.3 ::1",
		"pri":   "127.0.0.3 127.0.0.2",
		"last":  "127.0.0.3",
		"six":   "::1",
		"pair":  "127.0.0.3 127.0.0.2",
		"no":    "127.0.0.3",
	}, ""},
}

// peerNames are the names of each pool, by the one that poolState has.
var peerNames = map[string][]string{
	"www":   {"www.example.org.", "*.apps.example.org.", "example.org."},
	"db":    {"db.example.org.", "a.b.deep.example.org."},
	"fixed": {"fixed.example.org."},
	"pri":   {"pri.example.org."},
	"last":  {"last.example.org."},
	"six":   {"six.example.org.", "*.six.example.org."},
	"pair":  {"pair.example.org."},
	"web":   {"web.example.org."},
	"no":    {"no.example.org."},
}

// addressesOf are the addresses of one family that a name of a pool has in a state, in order.
func (s poolState) addressesOf(name string, qtype uint16) []string {
	found := []string{}
	for addr := range strings.FieldsSeq(s.has[poolOf(name)]) {
		if strings.Contains(addr, ":") == (qtype == dns.TypeAAAA) {
			found = append(found, addr)
		}
	}
	return found
}

// peerServices are the names that its SRV records give to one of the pools: what is above them, and the targets
// with the members they are.
const peerServices = ".web.example.org."

var peerTargets = []string{"a", "b", "a", "127-0-0-4"}

// poolOf is the pool that answers for a name, one that a wildcard covers or that SRV records make, too; "" when
// there is none.
func poolOf(name string) string {
	if strings.HasSuffix(name, peerServices) {
		return "web"
	}
	for pool, names := range peerNames {
		for _, n := range names {
			if below, ok := strings.CutPrefix(n, "*"); n == name || ok && strings.HasSuffix(name, below) {
				return pool
			}
		}
	}
	return ""
}

// inFallback says whether no tier of the pool of a name is usable.
func (s poolState) inFallback(name string) bool {
	return slices.Contains(strings.Fields(s.none), poolOf(name))
}

// static is the state as the records of a zone file. Of a type that nobody asks for each name has a record,
// because it exists, but for the one whose fallback is NXDOMAIN.
func (s poolState) static(hosts []*host) string {
	var text strings.Builder
	for pool, names := range peerNames {
		for _, name := range names {
			if pool != "no" {
				fmt.Fprintf(&text, "%s %d IN TYPE%d \\# 0\n", name, peerTTL, peerNobody)
			}
			for addr := range strings.FieldsSeq(s.has[pool]) {
				rtype := "A"
				if strings.Contains(addr, ":") {
					rtype = "AAAA"
				}
				fmt.Fprintf(&text, "%s %d IN %s %s\n", name, peerTTL, rtype, addr)
			}
		}
	}
	all := len(s.down) == len(hosts)
	for i, h := range hosts {
		at, tier, rtype, hint := netip.MustParseAddrPort(h.addr), 0, "A", "ipv4hint"
		if at.Addr().Is6() {
			rtype, hint = "AAAA", "ipv6hint"
		}
		if i == len(hosts)-1 {
			tier = 1
		}
		fmt.Fprintf(&text, "%s%s %d IN %s %s\n", peerTargets[i], peerServices, peerTTL, rtype, at.Addr())
		if all || !slices.Contains(s.down, i) {
			fmt.Fprintf(&text, "_http._tcp%s %d IN SRV %d 1 %d %s%[1]s\n", peerServices, peerTTL, tier, at.Port(), peerTargets[i])
			target := peerTargets[i] + peerServices // their ports differ
			if tier == 1 && len(s.down) == len(hosts)-1 {
				target = "." // it is alone in the tier in use
			}
			fmt.Fprintf(&text, "%s %d IN HTTPS %d %s alpn=h2,h3 port=%d %s=%s\n", peerNames["web"][0], peerTTL, tier+1, target, at.Port(), hint, at.Addr())
		}
	}
	return text.String()
}

// answersAs says whether a server answers for all pools as the state has it. SRV records show the status of
// those members, too, that are in no answer.
func (s poolState) answersAs(t testing.TB, addr string) bool {
	t.Helper()
	services := len(peerMembers) - len(s.down)
	if services == 0 { // fallback all
		services = len(peerMembers)
	}
	if len(exchange(t, addr, "udp", question("_http._tcp"+peerServices, dns.TypeSRV)).Answer) != services {
		return false
	}
	for _, names := range peerNames {
		for _, name := range names {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				if !slices.Equal(addresses(exchange(t, addr, "udp", question(name, qtype))), s.addressesOf(name, qtype)) {
					return false
				}
			}
		}
	}
	return true
}
