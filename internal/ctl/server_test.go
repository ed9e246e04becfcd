package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns-failover/failover/internal/directives"
	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/override"

	_ "github.com/coredns/coredns/core/plugin" // check reads whole Corefiles.
)

func TestMain(m *testing.M) {
	if err := directives.Insert(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// noon is the present of all documents.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// before is so long ago.
func before(d time.Duration) time.Time { return noon.Add(-d) }

// up and down are members as the server tells of them.
func up(member, address, label string) api.Member {
	return api.Member{
		Member: member, Address: address, Label: label, Status: "up", Since: before(72 * time.Hour), Why: "1 pass", Next: noon.Add(7 * time.Second),
		Probes: []api.Probe{{
			Probe: "http://:8080/healthz", Status: "up", Since: before(72 * time.Hour), Needed: 3, Due: noon.Add(2 * time.Second),
			Last: &api.Result{At: before(3 * time.Second), Passed: true, Took: 0.0123},
		}},
	}
}

func down(member, address, label string) api.Member {
	m := up(member, address, label)
	m.Status, m.Since, m.Why, m.Next = "down", before(5*time.Minute), "3 failures: connection refused", noon.Add(6*time.Second)
	m.Probes[0].Status, m.Probes[0].Needed = "down", 2
	m.Probes[0].Last = &api.Result{At: before(time.Second), Took: 0.0005, Error: "connection refused"}
	return m
}

// answered is a member that is in the answer.
func answered(m api.Member) api.Member {
	m.Answered = true
	return m
}

// document is a server with a pool that is well, one on its backup, and one in fallback.
func document() *api.Document {
	pool := func(name string, answer api.Answer, tiers ...api.Tier) api.Pool {
		answer.Since = before(5 * time.Minute)
		return api.Pool{
			ID: name, Name: name, Names: []string{name}, Block: "example.org.", Unwell: answer.Tier != "0", Answer: answer, Tiers: tiers,
			Fallback: "all", Failback: "auto", Order: "fixed", Interval: 5, Recheck: 1, Timeout: 2, Fall: 3, Rise: 2, Require: 1, MinTTL: 5, MaxTTL: 60,
		}
	}
	drained := up("db2 192.0.2.21:5432", "192.0.2.21:5432", "db2")
	drained.Override = &override.Override{
		Target: override.Target{Pool: "db.example.org.", Member: "192.0.2.21:5432"}, Action: override.Drain,
		Reason: "new disks", Author: "alice@ns1", Since: before(time.Hour), Until: noon.Add(2 * time.Hour),
	}
	drained.Probed = "up"
	return &api.Document{
		Server:  api.Process{Version: "0.1.0", Host: "ns1", Started: before(76 * time.Hour), Now: noon, Changes: "token"},
		Summary: api.Summary{Pools: 3, Fallback: 1, Backup: 1, Unwell: 2, Members: 6, Up: 4, Down: 2, Overrides: 1},
		Pools: []api.Pool{
			pool("api.example.org.", api.Answer{Tier: "fallback", Text: "192.0.2.40 (fallback all)", Addresses: []string{"192.0.2.40"}, TTL: 6},
				api.Tier{Need: 1, Members: []api.Member{answered(down("192.0.2.40:443", "192.0.2.40:443", ""))}}),
			pool("db.example.org.", api.Answer{Tier: "1", Text: "192.0.2.22", Addresses: []string{"192.0.2.22"}, TTL: 6},
				api.Tier{Need: 1, Members: []api.Member{down("db1 192.0.2.20:5432", "192.0.2.20:5432", "db1"), drained}},
				api.Tier{Usable: true, Need: 1, Members: []api.Member{answered(up("192.0.2.22:5432", "192.0.2.22:5432", ""))}}),
			pool("www.example.org.", api.Answer{Tier: "0", Text: "192.0.2.10 198.51.100.10", Addresses: []string{"192.0.2.10", "198.51.100.10"}, TTL: 7},
				api.Tier{Usable: true, Need: 1, Members: []api.Member{
					answered(up("fra 192.0.2.10:443", "192.0.2.10:443", "fra")), answered(up("nyc 198.51.100.10:443", "198.51.100.10:443", "nyc")),
				}}),
		},
		Total: 3,
	}
}

// fake is a server of the test's own.
type fake struct {
	*httptest.Server
	mux      *http.ServeMux
	document *api.Document // what it says; not to be written to after the first request

	mu       sync.Mutex // guards requests
	requests []string   // "PUT /api/v1/... {body}"
}

// serve starts a server that has the document, and whatever the test puts into its mux besides.
func serve(t *testing.T) *fake {
	t.Helper()
	f := &fake{mux: http.NewServeMux()}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		body.ReadFrom(r.Body)
		f.mu.Lock()
		f.requests = append(f.requests, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+body.String()))
		f.mu.Unlock()
		f.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	d := document()
	f.document = d
	f.mux.HandleFunc("GET /api/v1/pools", func(w http.ResponseWriter, r *http.Request) {
		found := *d
		found.Pools = nil
		for _, p := range d.Pools {
			if text, _ := json.Marshal(p); strings.Contains(string(text), r.FormValue("q")) && (p.Unwell || r.FormValue("unwell") != "true") {
				found.Pools = append(found.Pools, p)
			}
		}
		found.Total = len(found.Pools)
		var offset int
		fmt.Sscan(r.FormValue("offset"), &offset)
		found.Pools = found.Pools[min(offset, found.Total):]
		limit := 2 // in pages
		fmt.Sscan(r.FormValue("limit"), &limit)
		found.Pools = found.Pools[:min(limit, len(found.Pools))]
		answer(w, found)
	})
	f.mux.HandleFunc("GET /api/v1/pools/{name}", func(w http.ResponseWriter, r *http.Request) {
		for _, p := range d.Pools {
			if p.Name == r.PathValue("name") {
				answer(w, api.Document{Server: d.Server, Pools: []api.Pool{p}, Total: 1})
				return
			}
		}
		problemOf(w, api.Problem{Title: "Not Found", Status: 404, Detail: fmt.Sprintf("no pool answers for %q", r.PathValue("name"))})
	})
	return f
}

// asked are the requests so far.
func (f *fake) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	json.NewEncoder(w).Encode(v)
}

func problemOf(w http.ResponseWriter, p api.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// ran is what has come of a run.
type ran struct {
	status   int
	out, err string
}

// run runs failoverctl. Words that begin with a $, as in $USER=alice, are its environment.
func run(t *testing.T, args ...string) ran {
	t.Helper()
	return runIn(t, World{}, args...)
}

// runIn is run in a world, or what of it there is.
func runIn(t *testing.T, w World, args ...string) ran {
	t.Helper()
	env := map[string]string{"USER": "alice"}
	for len(args) > 0 && strings.HasPrefix(args[0], "$") {
		name, value, _ := strings.Cut(args[0][1:], "=")
		env[name], args = value, args[1:]
	}
	var out, errs bytes.Buffer
	w.Out, w.Err, w.Zone = &out, &errs, time.UTC
	w.Getenv = func(name string) string { return env[name] }
	if w.In == nil {
		w.In = strings.NewReader("")
	}
	got := Main(t.Context(), args, w)
	return ran{got, out.String(), errs.String()}
}
