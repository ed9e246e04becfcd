package test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// as53 is where programs that know no other port than 53 find a name server.
const as53 = "127.0.0.78"

// behind runs a program whose resolver is the one at as53, which takes a resolv.conf of its own, and returns
// what it prints.
func behind(t testing.TB, program ...string) string {
	t.Helper()
	conf := write(t, "resolv.conf", "nameserver "+as53+"\n")
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec timeout 60 "$@"`, conf}, program...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()} // without proxies
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(program, " "), err, out, said.String())
	}
	return string(out)
}

// onlyRoot skips a test that takes the rights of root, but where everything has to run.
func onlyRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("This is not root, who may bind port 53 and change resolv.conf")
	}
	t.Skip("Needs root, to bind port 53 and to change resolv.conf")
}

// onPort53 is a server block for example.org, and one that denies all other names.
func onPort53(plugins string) string {
	return "example.org:53 {\n bind " + as53 + "\n" + plugins + "\n}\n.:53 {\n bind " + as53 + "\n template ANY ANY {\n rcode NXDOMAIN\n }\n}\n"
}

// Debian's apt honours SRV records: it gets a file from a port that only they know.
func TestAptFollowsSRV(t *testing.T) {
	onlyRoot(t)
	for _, program := range []string{"unshare", "apt-get"} {
		needs(t, program)
	}
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	start(t, onPort53(ranked(hosts)))
	ask := func(name string, qtype uint16) *dns.Msg {
		return exchange(t, net.JoinHostPort(as53, "53"), "udp", question(name, qtype))
	}
	// The first two are the primaries.
	for _, stopped := range []*host{nil, hosts[0], hosts[1]} {
		if stopped != nil {
			stopped.stop()
		}
		eventually(t, bound, "who is stopped is left out", func() bool {
			for _, rr := range ask("_http._tcp.www.example.org.", dns.TypeSRV).Answer {
				if stopped != nil && strings.HasSuffix(stopped.String(), fmt.Sprintf(":%d", rr.(*dns.SRV).Port)) {
					return false
				}
			}
			return true
		})
		file := filepath.Join(t.TempDir(), "file")
		before := make(map[*host]int64)
		for _, h := range hosts {
			before[h] = h.asked.Load()
		}
		behind(t, "/usr/lib/apt/apt-helper", "-o", "Acquire::http::Proxy=DIRECT", "-o", "Acquire::Retries=0", "-o", "APT::Sandbox::User=root",
			"download-file", "http://www.example.org/file", file)
		got := -1
		for i, h := range hosts {
			if h.asked.Load() > before[h] {
				got = i
			}
		}
		if want := map[*host]string{nil: "0 1", hosts[0]: "1", hosts[1]: "2"}[stopped]; !strings.Contains(want, fmt.Sprint(got)) {
			t.Errorf("Apt asks member %d, want one of %s", got, want)
		}
	}
}

// Chromium goes to https because there is an HTTPS record, though it is told to use http, where nobody listens;
// and to another member when the first is down.
func TestChromium(t *testing.T) {
	onlyRoot(t)
	for _, program := range []string{"unshare", "chromium"} {
		needs(t, program)
	}
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s of %v", r.Proto, r.Host, r.Context().Value(http.LocalAddrContextKey))
	})
	var sites []*httptest.Server
	for _, addr := range []string{"127.0.0.2:443", "127.0.0.3:443"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		site := httptest.NewUnstartedServer(page)
		site.Listener.Close()
		site.Listener, site.EnableHTTP2 = l, true
		site.Config.ErrorLog = log.New(io.Discard, "", 0)
		site.StartTLS()
		t.Cleanup(site.Close)
		sites = append(sites, site)
	}
	start(t, onPort53("failover www.example.org 127.0.0.2:443 127.0.0.3:443 {\n https alpn=h2\n interval 400ms\n recheck 20ms\n answer 1\n}"))
	browse := func() string {
		return behind(t, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--ignore-certificate-errors", "--disable-background-networking",
			"--enable-features=AsyncDns", "--user-data-dir="+t.TempDir(), "--dump-dom", "http://www.example.org/")
	}
	if got, want := browse(), "HTTP/2.0 www.example.org of 127.0.0.2:443"; !strings.Contains(got, want) {
		t.Errorf("The page is %s, want %s", got, want)
	}
	sites[0].Close()
	eventually(t, bound, "the second is what is left", func() bool {
		m := exchange(t, net.JoinHostPort(as53, "53"), "udp", question("www.example.org.", dns.TypeHTTPS))
		return len(m.Answer) == 1 && strings.Contains(m.Answer[0].String(), `ipv4hint="127.0.0.3"`)
	})
	if got, want := browse(), "HTTP/2.0 www.example.org of 127.0.0.3:443"; !strings.Contains(got, want) {
		t.Errorf("The page is %s, want %s", got, want)
	}
}
