package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Two server blocks of one zone, each for its own clients and with its own order.
func TestView(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	pool := "failover www.example.org %s {\n backup %s\n interval 400ms\n recheck 20ms\n}"
	s := start(t, block("view inside {\n expr incidr(client_ip(), '127.0.0.66/32')\n}", fmt.Sprintf(pool, hosts[0], hosts[1]))+
		block("prometheus 127.0.0.1:0", fmt.Sprintf(pool, hosts[1], hosts[0])))
	inside := func() *dns.Msg { return askFrom(t, s, "127.0.0.66", "www.example.org.", dns.TypeA) }
	outside := func() *dns.Msg { return s.ask("www.example.org.", dns.TypeA) }
	wantAddresses(t, inside(), "127.0.0.2")
	wantAddresses(t, outside(), "127.0.0.3")

	hosts[0].stop()
	eventually(t, bound, "both blocks know", func() bool { return len(lines(hosts[0].addr+": up -> down")) == 2 })
	for view, answer := range map[string]string{" (view inside)": "127.0.0.3", "": "127.0.0.3"} {
		want := fmt.Sprintf("plugin/failover: www.example.org.%s %s: up -> down (3 failures: connection refused); now answering %s", view, hosts[0], answer)
		if got := lines(want); len(got) != 1 {
			t.Errorf("The log has %q %d times, want once", want, len(got))
		}
	}
	wantAddresses(t, inside(), "127.0.0.3")
	wantAddresses(t, outside(), "127.0.0.3")
}

// What two views ask of the same member is asked once for both.
func TestViewShares(t *testing.T) {
	h := member(t, "127.0.0.2")
	probes := func() float64 {
		n, _ := metric(t, "coredns_failover_probes_total", "kind=tcp")
		return n
	}
	before := probes()
	pool := "failover www.example.org " + h.addr
	start(t, block("view inside {\n expr incidr(client_ip(), '127.0.0.66/32')\n}", pool)+block(pool))
	if n := probes() - before; n != 1 {
		t.Errorf("The member has been probed %v times at start, want once for both blocks", n)
	}
}

// geoDatabase is the database that CoreDNS tests its geoip plugin with: 81.2.69.142 is in Cambridge.
func geoDatabase(t testing.TB) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns").Output()
	if err != nil {
		t.Fatalf("The module of CoreDNS cannot be found: %v", err)
	}
	path := filepath.Join(strings.TrimSpace(string(dir)), "plugin", "geoip", "testdata", "GeoLite2-City.mmdb")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// geoCorefile steers clients to what is near them, and to the other place when that is down. Each
// server block is one place's order.
const geoCorefile = `example.org:0 {
    bind 127.0.0.1
    view europe {
        expr metadata('geoip/continent/code') == 'EU'
    }
    metadata
    geoip %[1]s {
        edns-subnet
    }
    failover www.example.org {
        primary  %[2]s
        backup   %[3]s
        interval 400ms
        recheck  20ms
    }
}

example.org:0 {
    bind 127.0.0.1
    failover www.example.org {
        primary  %[3]s
        backup   %[2]s
        interval 400ms
        recheck  20ms
    }
}
`

func TestGeo(t *testing.T) {
	lines := record(t)
	europe, america := member(t, "127.0.0.2"), member(t, "127.0.0.3")
	s := start(t, fmt.Sprintf(geoCorefile, geoDatabase(t), europe, america))
	from := func(subnet string) *dns.Msg {
		query := question("www.example.org.", dns.TypeA).SetEdns0(1232, false)
		query.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{
			Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 32, Address: net.ParseIP(subnet).To4()}}
		return exchange(t, s.udp(), "udp", query)
	}
	const cambridge, elsewhere = "81.2.69.142", "192.0.2.1"
	wantAddresses(t, from(cambridge), "127.0.0.2")
	wantAddresses(t, from(elsewhere), "127.0.0.3")
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.3")

	europe.stop()
	eventually(t, bound, "both blocks know", func() bool { return len(lines(europe.addr+": up -> down")) == 2 })
	wantAddresses(t, from(cambridge), "127.0.0.3")
	wantAddresses(t, from(elsewhere), "127.0.0.3")

	europe.start()
	eventually(t, bound, "both blocks know", func() bool { return len(lines(europe.addr+": down -> up")) == 2 })
	wantAddresses(t, from(cambridge), "127.0.0.2")
}
