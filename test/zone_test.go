package test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// zoneFile is example.org as a zone file below failover has it. It has more to say of the pools' names,
// names of its own beside them and a zone cut.
const zoneFile = `$ORIGIN example.org.
@              3600 IN SOA   ns.example.org. hostmaster.example.org. 2026110101 7200 1800 86400 300
               3600 IN NS    ns.example.org.
ns             3600 IN A     192.0.2.53
www            3600 IN A     192.0.2.80
www            3600 IN TXT   "of the zone file"
www            3600 IN MX    10 mail.example.org.
mail           3600 IN A     192.0.2.25
beside         3600 IN A     192.0.2.1
beside         3600 IN A     192.0.2.2
alias          3600 IN CNAME beside.example.org.
*.star         3600 IN TXT   "of the zone file's wildcard"
cut            3600 IN NS    ns.cut.example.org.
ns.cut         3600 IN A     192.0.2.54
host.wild      3600 IN A     192.0.2.90
text.wild      3600 IN TXT   "only text"
x.deep.wild    3600 IN A     192.0.2.91
cut.wild       3600 IN NS    ns.cut.example.org.
`

// block is a server block for example.org that listens on home.
func block(lines ...string) string { return blockOn(home, lines...) }

// blockOn is a server block for example.org that listens on another address.
func blockOn(host string, lines ...string) string {
	return "example.org:0 {\n    bind " + host + "\n    " + strings.Join(lines, "\n    ") + "\n}\n"
}

// file is the directive of the zone file.
func file(t testing.TB) string {
	t.Helper()
	return "file " + write(t, "db.example.org", zoneFile) + " example.org"
}

// usual are the addresses of the pools that upPool makes, in order.
var usual = []string{"127.0.0.3", "127.0.0.2"}

// upPool is the directive of a pool of two members that are up, whose order is not that of their
// addresses.
func upPool(t testing.TB, names ...string) string {
	t.Helper()
	hosts := members(t, usual...)
	return fmt.Sprintf("failover %s %s %s", strings.Join(names, " "), hosts[0], hosts[1])
}

// six starts a member on ::1, and skips a test where there is no IPv6, but where everything has to run.
func six(t testing.TB) *host {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	switch {
	case err == nil:
		l.Close()
	case os.Getenv("CI") != "":
		t.Fatalf("There is no IPv6 loopback: %v", err)
	default:
		t.Skipf("There is no IPv6 loopback: %v", err)
	}
	return member(t, "::1")
}

// downPool is the directive of a pool whose one member, 127.0.0.2, is down from the beginning.
func downPool(t testing.TB, name string, properties ...string) string {
	t.Helper()
	h := member(t, "127.0.0.2")
	h.stop()
	return fmt.Sprintf("failover %s %s {\n        fall 1\n        %s\n    }", name, h, strings.Join(properties, "\n        "))
}
