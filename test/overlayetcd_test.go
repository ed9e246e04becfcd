package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// store is an etcd that ends with the test. It returns its URL.
func store(t testing.TB) string {
	t.Helper()
	needs(t, "etcd")
	url, peer := "http://127.0.0.1:"+freePort(t), "http://127.0.0.1:"+freePort(t)
	d := beside(t, "etcd", "--name", "one", "--data-dir", t.TempDir(), "--unsafe-no-fsync",
		"--listen-client-urls", url, "--advertise-client-urls", url,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "one="+peer)
	eventually(t, 20*time.Second, "etcd answers", func() bool {
		if d.hasEnded() {
			t.Fatalf("etcd has ended:\n%s", d.said)
		}
		return put(url, "ready", nil) == nil
	})
	return url
}

// put stores a value in etcd, as JSON.
func put(url, key string, value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	request, err := json.Marshal(map[string][]byte{"key": []byte(key), "value": content})
	if err != nil {
		return err
	}
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Post(url+"/v3/kv/put", "application/json", bytes.NewReader(request))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if said, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", r.Status, said)
	}
	return nil
}

// The services in etcd are members as long as they are there, and answered as long as they are up.
func TestOverlayEtcd(t *testing.T) {
	url := store(t)
	service := func(key string, service map[string]any) {
		t.Helper()
		if err := put(url, "/skydns/org/example/"+key, service); err != nil {
			t.Fatal(err)
		}
	}
	for i, addr := range []string{"127.0.0.3", "127.0.0.2"} {
		service(fmt.Sprintf("www/x%d", i), map[string]any{"host": addr, "ttl": 60, "port": 80})
	}
	service("text", map[string]any{"text": "of etcd", "ttl": 60})
	hosts := threeKin(t)
	below := "etcd example.org {\n path /skydns\n endpoint " + url + "\n}"
	s := start(t, block(over(hosts, "order sorted", "fallback none"), below)+blockOn(beneath, below))
	taken(t, s, "example.org.", "up", 2, "www.example.org.")
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2", "127.0.0.3")
	service("www/x2", map[string]any{"host": "127.0.0.4", "ttl": 60, "port": 80})
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2", "127.0.0.3", "127.0.0.4")
	taken(t, s, "example.org.", "up", 3)
	for _, name := range []string{"text.example.org.", "absent.example.org."} {
		wantSame(t, s, question(name, dns.TypeTXT), asIs)
	}
	dies(t, hosts[0])
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.2", "127.0.0.4")
	srv := s.ask("www.example.org.", dns.TypeSRV)
	extra := addresses(&dns.Msg{Answer: srv.Extra})
	slices.Sort(extra)
	if !slices.Equal(extra, []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}) || len(srv.Answer) != 3 {
		t.Errorf("The answer to %s is\n%v\nwant all, for each has a name of its own that is never left without an address", title(srv), srv)
	}
	dies(t, hosts[1:]...)
	m := s.ask("www.example.org.", dns.TypeA)
	if len(m.Answer) > 0 || len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA || m.Ns[0].Header().Ttl > overlayTTL {
		t.Errorf("The answer with all down is\n%v\nwant NODATA with the SOA of etcd", m)
	}
	returns(t, hosts[0])
	wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.3")
}
