package kubernetes

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Probes every 500 ms, and every 100 ms where something is about to change: a member that refuses them is down after
// 0.2 to 0.7 seconds.
const overlayCorefile = `
cluster.local:1053 {
    errors
    ready 127.0.0.1:8281
    prometheus 127.0.0.1:9253
    failover {
        from next
        probe tcp://:8080
        interval 500ms
        recheck 100ms
        timeout 400ms
        order sorted
    }
    kubernetes cluster.local {
        ttl 5
    }
}
example.org:1053 {
    ready 127.0.0.1:8281
    failover www.example.org 10.64.0.21:8080 10.64.0.22:8080 {
        interval 500ms
        recheck 100ms
        timeout 400ms
        startup 1s
    }
}
`

// detection is how long a change may take to be seen: what is promised, and time for a busy machine.
const detection = 5 * time.Second

// An overlay over Services and their EndpointSlices, read from a real API server by a service account as a pod's.
func TestOverlayOverKubernetes(t *testing.T) {
	c := startCluster(t)
	const namespace, server, metrics = "shop", "127.0.0.1:1053", "127.0.0.1:9253"
	c.namespace(t, namespace)
	account := c.account(t, namespace, "reader")
	c.allowed(t, namespace, "reader")

	const vip = "10.96.10.10"
	members := make(map[string]net.Listener)
	lives := func(addrs ...string) { // for all of the test, whichever part of it calls
		for _, addr := range addrs {
			members[addr] = listen(t, addr+":8080")
		}
	}
	for i := 11; i <= 14; i++ {
		addr := fmt.Sprintf("10.64.0.%d", i)
		put(t, addr)
		lives(addr)
	}
	put(t, vip, "10.64.0.15", "10.64.0.21", "10.64.0.22")
	lives(vip, "10.64.0.21")

	c.service(t, namespace, "web", "", 8080)
	c.service(t, namespace, "api", vip, 8080)
	c.endpoints(t, namespace, "web", "web-a", 8080, "10.64.0.11", "10.64.0.12")
	c.endpoints(t, namespace, "web", "web-b", 8080, "10.64.0.13")

	const web, api = "web.shop.svc.cluster.local.", "api.shop.svc.cluster.local."
	daemon := coredns(t, overlayCorefile, account)
	t.Logf("Ready after %v", within(t, 30*time.Second, "it is ready", func() bool { return get("127.0.0.1:8281", "/ready") == 200 }))
	want := func(t testing.TB, name string, addrs ...string) {
		t.Helper()
		t.Logf("%s is %v after %v", name, addrs, wantAnswers(t, detection, server, name, addrs...).Round(10*time.Millisecond))
	}

	t.Run("two slices in one order", func(t *testing.T) {
		want(t, web, "10.64.0.11", "10.64.0.12", "10.64.0.13")
		for range 50 {
			if got := answers(server, web); !slices.Equal(got, []string{"10.64.0.11", "10.64.0.12", "10.64.0.13"}) {
				t.Fatalf("The answer is %v", got)
			}
		}
	})
	t.Run("a member fails and returns", func(t *testing.T) {
		members["10.64.0.12"].Close()
		want(t, web, "10.64.0.11", "10.64.0.13")
		lives("10.64.0.12")
		want(t, web, "10.64.0.11", "10.64.0.12", "10.64.0.13")
	})
	t.Run("all members fail", func(t *testing.T) {
		for _, addr := range []string{"10.64.0.11", "10.64.0.12", "10.64.0.13"} {
			members[addr].Close()
		}
		// One after the other goes, and when there is none left the answer is what kubernetes says.
		within(t, detection, "there is a fallback", func() bool {
			n, ok := metric(t, metrics, `coredns_failover_members{pool="cluster.local.",status="down"}`)
			return ok && n == 3
		})
		got := answers(server, web)
		slices.Sort(got)
		if !slices.Equal(got, []string{"10.64.0.11", "10.64.0.12", "10.64.0.13"}) {
			t.Errorf("The fallback is %v", got)
		}
		lives("10.64.0.11", "10.64.0.12", "10.64.0.13")
		within(t, detection, "all are up", func() bool {
			n, ok := metric(t, metrics, `coredns_failover_members{pool="cluster.local.",status="down"}`)
			return ok && n == 0
		})
		want(t, web, "10.64.0.11", "10.64.0.12", "10.64.0.13")
	})
	t.Run("the slices change", func(t *testing.T) {
		c.endpoints(t, namespace, "web", "web-a", 8080, "10.64.0.12", "10.64.0.14")
		want(t, web, "10.64.0.12", "10.64.0.13", "10.64.0.14")
		// One that nobody listens at counts as up for as long as it takes to find out.
		c.endpoints(t, namespace, "web", "web-b", 8080, "10.64.0.13", "10.64.0.15")
		want(t, web, "10.64.0.12", "10.64.0.13", "10.64.0.14", "10.64.0.15")
		want(t, web, "10.64.0.12", "10.64.0.13", "10.64.0.14")
	})
	t.Run("a ClusterIP", func(t *testing.T) {
		want(t, api, vip)
		members[vip].Close()
		within(t, detection, "the address is down", func() bool {
			up, ok := metric(t, metrics, `coredns_failover_member_up{member="`+vip+`",pool="cluster.local."}`)
			return ok && up == 0
		})
		// There is no other, so it is still the answer.
		want(t, api, vip)
	})
	t.Run("other types and names", func(t *testing.T) {
		m, err := ask(server, "udp", "_http._tcp."+web, dns.TypeSRV)
		if err != nil || len(m.Answer) != 4 {
			t.Errorf("SRV is %v, %v; want all four", m, err)
		}
		for name, rcode := range map[string]int{"absent.shop.svc.cluster.local.": dns.RcodeNameError, web: dns.RcodeSuccess} {
			if m, err := ask(server, "udp", name, dns.TypeAAAA); err != nil || m.Rcode != rcode || len(m.Answer) > 0 || len(m.Ns) != 1 {
				t.Errorf("AAAA of %s is %v, %v", name, m, err)
			}
		}
		want(t, "www.example.org.", "10.64.0.21")
	})
	t.Run("the API server is frozen", func(t *testing.T) {
		c.api.Signal(syscall.SIGSTOP)
		defer c.api.Signal(syscall.SIGCONT)
		want(t, web, "10.64.0.12", "10.64.0.13", "10.64.0.14")
		members["10.64.0.13"].Close()
		want(t, web, "10.64.0.12", "10.64.0.14")
		lives("10.64.0.13")
		want(t, web, "10.64.0.12", "10.64.0.13", "10.64.0.14")
		if code := get("127.0.0.1:8281", "/ready"); code != 200 {
			t.Errorf("/ready is %d", code)
		}
		c.api.Signal(syscall.SIGCONT)
		c.endpoints(t, namespace, "web", "web-b", 8080, "10.64.0.13")
		c.endpoints(t, namespace, "web", "web-a", 8080, "10.64.0.11")
		want(t, web, "10.64.0.11", "10.64.0.13")
	})
	if said := daemon.Said(); strings.Contains(said, "panic") || strings.Contains(said, "[ERROR]") {
		t.Errorf("It says\n%s", said)
	}
}

// A server that starts while the API server is frozen answers what does not need it, and the rest when it is back.
func TestStartsWithoutAPI(t *testing.T) {
	c := startCluster(t)
	const server = "127.0.0.1:1253"
	c.namespace(t, "early")
	account := c.account(t, "early", "reader")
	c.allowed(t, "early", "reader")
	c.service(t, "early", "web", "", 8080)
	c.endpoints(t, "early", "web", "web-a", 8080, "10.64.0.41", "10.64.0.42")
	put(t, "10.64.0.21", "10.64.0.41")
	listen(t, "10.64.0.21:8080")
	listen(t, "10.64.0.41:8080")
	c.api.Signal(syscall.SIGSTOP)
	defer c.api.Signal(syscall.SIGCONT)
	coredns(t, strings.NewReplacer(":1053", ":1253", ":8281", ":8481", ":9253", ":9453").Replace(overlayCorefile), account)
	t.Logf("The pool answers after %v", wantAnswers(t, 30*time.Second, server, "www.example.org.", "10.64.0.21").Round(100*time.Millisecond))
	if code := get("127.0.0.1:8481", "/ready"); code != 503 {
		t.Errorf("/ready is %d, want 503", code)
	}
	c.api.Signal(syscall.SIGCONT)
	t.Logf("The Service answers %v after the API server", wantAnswers(t, 2*time.Minute, server, "web.early.svc.cluster.local.", "10.64.0.41").Round(100*time.Millisecond))
}

// A service account that may not read: the names of the cluster cannot be answered, pools can, and when it is allowed
// nothing has to be started again.
func TestWithoutPermission(t *testing.T) {
	c := startCluster(t)
	const server = "127.0.0.1:1153"
	c.namespace(t, "denied")
	account := c.account(t, "denied", "stranger")
	c.service(t, "denied", "web", "", 8080)
	c.endpoints(t, "denied", "web", "web-a", 8080, "10.64.0.31", "10.64.0.32")
	put(t, "10.64.0.21", "10.64.0.31", "10.64.0.32")
	listen(t, "10.64.0.31:8080")
	if l, err := net.Listen("tcp", "10.64.0.21:8080"); err == nil {
		defer l.Close()
	}
	corefile := strings.NewReplacer(":1053", ":1153", ":8281", ":8381", ":9253", ":9353").Replace(overlayCorefile)
	daemon := coredns(t, corefile, account)
	const web = "web.denied.svc.cluster.local."
	within(t, 30*time.Second, "it starts without the API", func() bool { return slices.Equal(answers(server, web), []string{"SERVFAIL"}) })
	within(t, 10*time.Second, "the log says why", func() bool { return strings.Contains(daemon.Said(), "forbidden") })
	if code := get("127.0.0.1:8381", "/ready"); code != 503 {
		t.Errorf("/ready is %d, want 503", code)
	}
	wantAnswers(t, detection, server, "www.example.org.", "10.64.0.21")
	c.allowed(t, "denied", "stranger")
	t.Logf("It answers %v after it was allowed", wantAnswers(t, 2*time.Minute, server, web, "10.64.0.31").Round(time.Second))
	within(t, 10*time.Second, "it is ready", func() bool { return get("127.0.0.1:8381", "/ready") == 200 })
}
