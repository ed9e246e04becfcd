package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
)

// get is what a server says at a URL.
func get(t testing.TB, c *http.Client, url string, into any) {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(r.Body)
		t.Fatalf("%s: %s: %s", url, r.Status, body)
	}
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

// decide asks for an override, and is the status code and what is said.
func decide(t testing.TB, c *http.Client, url, token, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(said)
}

// overSocket is a client for the server at a unix socket.
func overSocket(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

// watching are the directives of two pools that are shown at an address and a socket.
func watching(address, socket, token string, hosts []*host) string {
	return fmt.Sprintf("failover {\n status %s token %s\n status unix://%s\n interval 200ms\n recheck 50ms\n}\n"+
		"failover www.example.org %s {\n probe http://\n backup %s\n}\nfailover other.example.org %s", address, token, socket, hosts[0], hosts[1], hosts[1])
}

func TestStatus(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	token := write(t, "token", "sesame, open the gate\n")
	address, socket := home+":"+freePort(t), filepath.Join(t.TempDir(), "socket")
	s := start(t, block(watching(address, socket, token, hosts)))
	baseURL := "http://" + address + "/api/v1"

	var d api.Document
	get(t, http.DefaultClient, baseURL+"/pools", &d)
	if d.Summary.Pools != 2 || d.Summary.Members != 3 || d.Server.Changes != "token" || len(d.Pools) != 2 || d.Pools[1].Name != "www.example.org." {
		t.Errorf("It shows %+v", d)
	}
	get(t, overSocket(socket), "http://failover/api/v1/pools/www.example.org", &d)
	if d.Server.Changes != "socket" || len(d.Pools) != 1 || d.Pools[0].Answer.Text != "127.0.0.2" {
		t.Errorf("The socket shows %+v", d)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("The socket is %v, %v, want mode 0600", info, err)
	}

	const drain = `{"action":"drain","author":"alice","for":"1h"}`
	member := baseURL + "/overrides/pools/www.example.org/members/" + hosts[0].String()
	for _, try := range []struct {
		token string
		url   string
		want  int
	}{
		{"", member, http.StatusUnauthorized},
		{"sesame", member, http.StatusUnauthorized},
		{"sesame, open the gate", baseURL + "/overrides/members/192.0.2.1", http.StatusNotFound},
		{"sesame, open the gate", baseURL + "/overrides/members/127.0.0.3", http.StatusConflict},
		{"sesame, open the gate", member, http.StatusOK},
	} {
		if code, said := decide(t, http.DefaultClient, try.url, try.token, drain); code != try.want {
			t.Errorf("PUT %s with %q: %d, want %d: %s", try.url, try.token, code, try.want, said)
		}
	}
	wantAddresses(t, s.ask("www.example.org.", 1), "127.0.0.3")
	if code, said := decide(t, overSocket(socket), "http://failover/api/v1/overrides/members/127.0.0.3?force=true", "", drain); code != http.StatusOK {
		t.Errorf("PUT over the socket: %d: %s", code, said)
	}
	wantAddresses(t, s.ask("www.example.org.", 1), "127.0.0.2", "127.0.0.3")
	if code, said := decide(t, http.DefaultClient, baseURL+"/pools", "sesame, open the gate", drain); code != http.StatusMethodNotAllowed {
		t.Errorf("PUT of the pools: %d: %s", code, said)
	}

	s.stop()
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("The socket is there after the end: %v", err)
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("Somebody listens after the end")
	}
}

// A listener, and those who follow the events over it, live through reloads and those that fail.
func TestStatusOverReloads(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	token := write(t, "token", "sesame, open the gate\n")
	address, socket, other := home+":"+freePort(t), filepath.Join(t.TempDir(), "socket"), home+":"+freePort(t)
	corefile := block(watching(address, socket, token, hosts))
	s := start(t, corefile)
	baseURL := "http://" + address + "/api/v1"

	r, err := http.NewRequest(http.MethodGet, baseURL+"/events?pools=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	kinds := make(chan string, 1000)
	go func() {
		kind := ""
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if k, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				kind = k
			} else if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				kinds <- kind + " " + data
			}
		}
		close(kinds)
	}()
	heard := func(want, to string) {
		t.Helper()
		eventually(t, bound, "there is an event "+want, func() bool {
			select {
			case kind, ok := <-kinds:
				if !ok {
					t.Fatalf("The stream has ended, want %s", want)
				}
				return strings.HasPrefix(kind, want) && (!strings.HasPrefix(kind, "transition") || strings.Contains(kind, to))
			default:
				return false
			}
		})
	}

	if err := s.reload(corefile + "\nbroken.example.org {\n nonsense\n}"); err == nil {
		t.Fatal("A broken Corefile is taken")
	}
	taken, err := net.Listen("tcp", other)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.reload(block(strings.Replace(watching(address, socket, token, hosts), "failover {", "failover {\n status "+other, 1))); err == nil ||
		!strings.Contains(err.Error(), "status "+other) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("An address that is taken: %v", err)
	}
	taken.Close()
	hosts[0].answer(http.StatusServiceUnavailable)
	heard("transition", `"to":"down"`)
	if err := s.reload(block(strings.Replace(watching(address, socket, token, hosts), "failover {", "failover {\n status "+other, 1))); err != nil {
		t.Fatal(err)
	}
	heard("reload", "")
	hosts[0].answer(http.StatusOK)
	heard("transition", `"from":"down","to":"up"`)
	var d api.Document
	get(t, http.DefaultClient, "http://"+other+"/api/v1/pools", &d)
	if d.Server.Changes != "none" {
		t.Errorf("Without a token changes are %q, want none", d.Server.Changes)
	}

	var all struct{ Events []api.Event }
	get(t, http.DefaultClient, baseURL+"/events?pool=www.example.org", &all)
	if len(all.Events) < 3 || !slices.ContainsFunc(all.Events, func(e api.Event) bool { return e.From == "up" && e.To == "down" && e.Answer == "127.0.0.3" }) {
		t.Errorf("The events before are %+v", all.Events)
	}
	for _, want := range []string{"started 2 pools: 3 members up, 0 down", "reloaded 2 pools: 2 members up, 1 down; 1 pool on backup"} {
		if !slices.ContainsFunc(all.Events, func(e api.Event) bool { return e.Kind == "server" && e.Change+" "+e.Why == want }) {
			t.Errorf("The events are %+v, want the summary %q among them", all.Events, want)
		}
	}

	if err := s.reload(block(strings.ReplaceAll(watching(address, socket, token, hosts), address, other))); err != nil {
		t.Fatal(err)
	}
	eventually(t, bound, "the address that is no longer there is closed", func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	eventually(t, bound, "the stream ends with it", func() bool {
		select {
		case _, ok := <-kinds:
			return !ok
		default:
			return false
		}
	})
	get(t, http.DefaultClient, "http://"+other+"/api/v1/pools", &d)
	if d.Server.Changes != "token" {
		t.Errorf("The options of the address are not the new ones: changes are %q", d.Server.Changes)
	}
}

// What is said of the process in several server blocks has to be the same.
func TestStatusSaidTwice(t *testing.T) {
	token, another := write(t, "token", "sesame, open the gate\n"), write(t, "another", "sesame, open the gate\n")
	address := home + ":" + freePort(t)
	two := func(first, second string) string {
		return fmt.Sprintf("a.example.org:0 {\n bind 127.0.0.1\n failover {\n%s\n}\n failover a.example.org 127.0.0.2:9\n}\n"+
			"b.example.org:0 {\n bind 127.0.0.1\n failover {\n%s\n}\n failover b.example.org 127.0.0.2:9\n}\n", first, second)
	}
	start(t, two("status "+address+" token "+token, "status "+address+" token "+token)).stop()
	for _, wrong := range [][2]string{
		{"status " + address + " token " + token, "status " + address + " token " + another},
		{"state " + token + ".state", "state " + another + ".state"},
	} {
		if _, err := attempt(t, two(wrong[0], wrong[1])); err == nil || !strings.Contains(err.Error(), "Corefile:4") {
			t.Errorf("%q and %q: %v, want an error that names the line of the first", wrong[0], wrong[1], err)
		}
	}
}
