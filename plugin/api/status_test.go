package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/override"
)

// fake is a Source with some pools. A decision about a member with the address 192.0.2.1 would leave a pool bare, and
// there is none with the address 192.0.2.99.
type fake struct {
	refusals []Refusal
	pools    []Pool

	mu      sync.Mutex // guards all below
	asked   Query
	decided []string // what has come to it
	over    []override.Override
	warned  []Warning
}

// noon is when everything in a fake has happened.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// full is a pool with something in each field.
func full(name string) Pool {
	o := override.Override{Target: override.Target{Pool: name, Member: "192.0.2.1:443"}, Action: override.Drain, Reason: "new disks", Author: "alice", Since: noon, Until: noon.Add(time.Hour)}
	return Pool{
		ID: name + "@dns://example.org.:53", Name: name, Names: []string{name}, Block: "example.org.", View: "inside", Overlay: true, Unwell: true,
		Answer: Answer{Tier: "0", Text: "192.0.2.2", Addresses: []string{"192.0.2.2"}, TTL: 5, Since: noon, Turns: true},
		Tiers: []Tier{{Usable: true, Need: 1, Members: []Member{{
			Member: "fra1 192.0.2.1:443", Address: "192.0.2.1:443", Label: "fra1", Status: "down", Since: noon, Why: "status 503, want 200-399",
			Answered: true, Held: noon, Waiting: true, Next: noon, Override: &o, Probed: "up",
			Probes: []Probe{{Probe: "http://:80/", Status: "up", Since: noon, Why: "it passed", Against: 1, Needed: 3, Due: noon,
				Last: &Result{At: noon, Passed: true, Took: 0.001, Error: "none"}, Trail: []float64{0.001, -2}}},
		}}}},
		Fallback: "all", Failback: "auto", Order: "fixed", Hold: 1, Interval: 5, Recheck: 1, Timeout: 2, Fall: 3, Window: 10, Rise: 2,
		Require: 1, MinTTL: 5, MaxTTL: 60,
	}
}

func newFake(names ...string) *fake {
	f := new(fake)
	for _, name := range names {
		f.pools = append(f.pools, full(name))
	}
	return f
}

func (f *fake) Pools(q Query) (iter.Seq[Pool], int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = q
	from := min(q.Offset, len(f.pools))
	return slices.Values(f.pools[from:min(from+q.Limit, len(f.pools))]), len(f.pools)
}

func (f *fake) PoolsOf(name string) (some []Pool) {
	for _, p := range f.pools {
		if p.Name == name || slices.Contains(p.Names, name) {
			some = append(some, p)
		}
	}
	return some
}

func (f *fake) PoolByID(id string) (Pool, bool) {
	for _, p := range f.pools {
		if p.ID == id {
			return p, true
		}
	}
	return Pool{}, false
}

func (f *fake) Summary() Summary { return Summary{Pools: len(f.pools), Members: len(f.pools)} }

func (f *fake) Process() Process {
	return Process{Version: "0.1.0", Host: "ns1", Started: noon, Now: noon}
}

func (f *fake) Warnings() []Warning {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.warned)
}

// warn sets the warnings.
func (f *fake) warn(all ...Warning) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.warned = all
}

func (f *fake) Refused(r Refusal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusals = append(f.refusals, r)
}

func (f *fake) Overrides() []override.Override {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.over)
}

func (f *fake) Override(o override.Override, how How) (Outcome, error) {
	if err := o.Check(); err != nil {
		return Outcome{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	outcome, err := f.decide(o.Target, how, fmt.Sprintf("%s: %s", o.Target, &o))
	outcome.Override = &o
	if err == nil && !how.DryRun {
		f.mu.Lock()
		f.over = append(f.over, o)
		f.mu.Unlock()
	}
	return outcome, err
}

func (f *fake) Clear(t override.Target, by By, how How) (Outcome, error) {
	return f.decide(t, how, fmt.Sprintf("%s: cleared%s", t, by))
}

func (f *fake) decide(t override.Target, how How, words string) (Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.Member == "192.0.2.99" {
		return Outcome{}, fmt.Errorf("%w: no member %q", ErrNotFound, t)
	}
	bare := t.Member == "192.0.2.1"
	o := Outcome{DryRun: how.DryRun, Pools: 1, Warnings: []string{}, Effects: []Effect{{PoolID: "a@b", Pool: "www.example.org.", View: "inside", Member: "192.0.2.1:443", Members: []string{"192.0.2.1:443"},
		Before: Answer{Tier: "0", Text: "192.0.2.1", Addresses: []string{"192.0.2.1"}, TTL: 5, Since: noon},
		After:  Answer{Tier: "fallback", Text: "NODATA", Addresses: []string{}, TTL: 5}, Bare: bare}}}
	if bare {
		o.Warnings = append(o.Warnings, "www.example.org. would be left without a usable tier")
		if !how.DryRun && !how.Force {
			return o, ErrBare
		}
	}
	f.decided = append(f.decided, fmt.Sprintf("%s dry=%t force=%t", words, how.DryRun, how.Force))
	return o, nil
}

// last is what has been decided last.
func (f *fake) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.decided) == 0 {
		return ""
	}
	return f.decided[len(f.decided)-1]
}

// token is what the token files of these tests have in them.
const token = "correct horse battery staple"

func file(t *testing.T, name, content string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// front is a server without a socket: requests are handed to it.
type front struct {
	t *testing.T
	*fake
	*Journal
	server  *Server
	handler http.Handler
	at      *listening
}

// newFront returns one that is reached as l says.
func newFront(t *testing.T, l Listen) *front {
	t.Helper()
	f := &front{t: t, fake: newFake("a.example.org.", "b.example.org."), Journal: new(Journal), at: &listening{closing: make(chan struct{})}}
	f.Keep(true)
	f.at.options.Store(&l)
	f.server = NewServer(f.fake, f.Journal)
	f.handler = f.server.handler()
	return f
}

// withToken is one that takes the token.
func withToken(t *testing.T) *front {
	return newFront(t, Listen{Address: "127.0.0.1:9054", Token: file(t, "token", token+"\n")})
}

// do sends a request, with the token and as JSON unless headers (NAME, VALUE ...) say otherwise; an empty value is no header.
func (f *front) do(method, target, body string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "localhost:9054"
	r.Header.Set("Authorization", "Bearer "+token)
	if method == "PUT" {
		r.Header.Set("Content-Type", "application/json")
	}
	for h := range slices.Chunk(headers, 2) {
		switch {
		case h[0] == "Host":
			r.Host = h[1]
		case h[1] == "":
			r.Header.Del(h[0])
		default:
			r.Header.Set(h[0], h[1])
		}
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), listenKey{}, f.at)))
	return w.Result()
}

// problemOf is the problem in an answer, after it has been looked at as one.
func (f *front) problemOf(resp *http.Response, code int) (p Problem) {
	f.t.Helper()
	data, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != code || resp.Header.Get("Content-Type") != "application/problem+json" {
		f.t.Errorf("%d %s %s, want the problem %d", resp.StatusCode, resp.Header.Get("Content-Type"), data, code)
		return p
	}
	if err := json.Unmarshal(data, &p); err != nil || p.Status != code || p.Title == "" || p.Type == "" {
		f.t.Errorf("%s (%v), want a problem with the status %d", data, err, code)
	}
	return p
}

// read is the JSON of an answer.
func read[T any](t *testing.T, resp *http.Response) (v T) {
	t.Helper()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s %s (%v), want JSON", resp.StatusCode, resp.Header.Get("Content-Type"), data, err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}
