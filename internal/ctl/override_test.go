package ctl

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/override"
)

// overrides has a server take overrides. Those of 192.0.2.40 leave a pool bare.
func overrides(f *fake) {
	f.mux.HandleFunc("/api/v1/overrides/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			problemOf(w, api.Problem{Title: "Unauthorized", Status: 401, Detail: "no token"})
			return
		}
		bare := strings.Contains(r.URL.Path, "192.0.2.40")
		o := api.Outcome{DryRun: r.FormValue("dry-run") == "true", Pools: 3, Warnings: []string{}, Effects: []api.Effect{
			{
				Pool: "www.example.org.", Member: "fra 192.0.2.10:443",
				Before: api.Answer{Tier: "0", Text: "192.0.2.10 198.51.100.10"}, After: api.Answer{Tier: "1", Text: "198.51.100.10"},
			},
			{
				Pool: "api.example.org.", View: "europe", Member: "192.0.2.40:443", Bare: bare,
				Before: api.Answer{Tier: "0", Text: "192.0.2.40"}, After: api.Answer{Tier: "0", Text: "192.0.2.40"},
			},
		}}
		if bare {
			o.Effects[1].After = api.Answer{Tier: "fallback", Text: "192.0.2.40 (fallback all)"}
			o.Warnings = []string{"api.example.org. would be left without a usable tier, and answer 192.0.2.40 (fallback all)"}
		}
		if r.Method == http.MethodDelete && !bare {
			o.Warnings = []string{"this decision does not survive a restart of the server: the disk is full"}
			o.Notes = []string{"there is no state"}
		}
		if r.Method == http.MethodPut {
			o.Override = &override.Override{Target: override.Target{Member: "192.0.2.10"}, Action: override.Drain, Author: "alice@ns1", Until: noon, Reason: "new disks"}
		}
		if bare && r.FormValue("force") != "true" && !o.DryRun {
			problemOf(w, api.Problem{Type: "#last-usable", Title: "Conflict", Status: 409, Detail: "api.example.org. would be left without a usable tier", Outcome: &o})
			return
		}
		answer(w, o)
	})
}

// A word of dots is no step in the path, and one with a slash is one segment of it.
func TestSegments(t *testing.T) {
	f := serve(t)
	overrides(f)
	for _, args := range [][]string{
		{"drain", "fra", "-pool", "."}, {"clear", "fra", "-pool", "0/25.2.0.192.in-addr.arpa"}, {"clear", "-label", ".."}, {"explain", "."},
	} {
		run(t, append([]string{withToken(t, "secret"), "$FAILOVER_SERVER=" + f.URL}, args...)...)
	}
	var got []string
	for _, r := range f.asked() {
		path, _, _ := strings.Cut(strings.Fields(r)[1], "?")
		got = append(got, path)
	}
	want := []string{
		"/api/v1/overrides/pools/%2E/members/fra",
		"/api/v1/overrides/pools/0%2F25.2.0.192.in-addr.arpa./members/fra",
		"/api/v1/overrides/labels/%2E%2E",
		"/api/v1/pools/%2E",
	}
	if !slices.Equal(got, want) {
		t.Errorf("The server was asked %q, want %q", got, want)
	}
}

// withToken is the file of a token.
func withToken(t *testing.T, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "$FAILOVER_TOKEN=" + path
}

func TestOverride(t *testing.T) {
	f := serve(t)
	overrides(f)
	token := withToken(t, "secret")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		person string // what is typed; "": nobody is there
		status int
		asks   []string
		out    string
	}{
		{
			args: []string{"drain", "192.0.2.10", "-reason", "new disks", "-for", "90m"},
			asks: []string{`PUT /api/v1/overrides/members/192.0.2.10? {"action":"drain","reason":"new disks","author":"alice@` + host + `","for":"90m"}`},
			out:  "www.example.org., fra 192.0.2.10:443: the answer becomes 198.51.100.10 (tier 1), from 192.0.2.10 198.51.100.10 (tier 0)\n",
		},
		{
			args: []string{"down", "[2001:db8::1]:443", "-pool", "*.Apps.example.org", "-author", "bob", "-until", "2026-11-24T17:30:00Z", "-dry-run"},
			asks: []string{`PUT /api/v1/overrides/pools/%2A.apps.example.org./members/%5B2001:db8::1%5D:443?dry-run=true {"action":"down","author":"bob","until":"2026-11-24T17:30:00Z"}`},
			out:  "the answer would become 198.51.100.10 (tier 1)",
		},
		{
			args: []string{"$SUDO_USER=carol", "up", "fra", "-label"},
			asks: []string{`PUT /api/v1/overrides/labels/fra? {"action":"up","author":"carol@` + host + `"}`},
			out:  "api.example.org. (view europe), 192.0.2.40:443: the answer stays 192.0.2.40 (tier 0)\n  and 1 further pool\n",
		},
		{
			args: []string{"clear", "fra1", "-pool", "www.example.org.", "-reason", "done", "-author", "bob"},
			asks: []string{`DELETE /api/v1/overrides/pools/www.example.org./members/fra1?author=bob&reason=done`},
			out:  "warning: this decision does not survive a restart of the server: the disk is full\nnote: there is no state\n",
		},
		{ // Nobody is there who could be asked.
			args: []string{"drain", "192.0.2.40", "-author", "bob"}, status: no,
			asks: []string{`PUT /api/v1/overrides/members/192.0.2.40? {"action":"drain","author":"bob"}`},
			out:  "the answer would become 192.0.2.40 (fallback all), from 192.0.2.40 (tier 0)\n  and 1 further pool\nwarning: api.example.org. would be left without a usable tier, and answer 192.0.2.40 (fallback all)\n",
		},
		{
			args: []string{"drain", "192.0.2.40", "-author", "bob", "-force"},
			asks: []string{`PUT /api/v1/overrides/members/192.0.2.40?force=true {"action":"drain","author":"bob"}`},
			out:  "the answer becomes 192.0.2.40 (fallback all)",
		},
		{
			args: []string{"drain", "192.0.2.40", "-author", "bob", "-dry-run"}, status: no, person: "y\n",
			asks: []string{`PUT /api/v1/overrides/members/192.0.2.40?dry-run=true {"action":"drain","author":"bob"}`},
			out:  "the answer would become 192.0.2.40 (fallback all)",
		},
		{
			args: []string{"drain", "192.0.2.40", "-author", "bob"}, person: "y\n",
			asks: []string{
				`PUT /api/v1/overrides/members/192.0.2.40? {"action":"drain","author":"bob"}`,
				`PUT /api/v1/overrides/members/192.0.2.40?force=true {"action":"drain","author":"bob"}`,
			},
			out: "the answer becomes 192.0.2.40 (fallback all)",
		},
		{
			args: []string{"drain", "192.0.2.40", "-author", "bob"}, person: "\n", status: no,
			asks: []string{`PUT /api/v1/overrides/members/192.0.2.40? {"action":"drain","author":"bob"}`},
			out:  "the answer would become 192.0.2.40 (fallback all)",
		},
	} {
		w := World{Person: c.person != "", In: strings.NewReader(c.person)}
		had := len(f.asked())
		got := runIn(t, w, append([]string{"$FAILOVER_SERVER=" + f.URL, token}, c.args...)...)
		if got.status != c.status || !strings.Contains(got.out, c.out) || (c.status == no) != strings.Contains(got.err, "failoverctl: ") {
			t.Errorf("failoverctl %q has the status %d, prints\n%sand says %q, want %d and\n%s", c.args, got.status, got.out, got.err, c.status, c.out)
		}
		asks := slices.Clone(f.asked()[had:])
		for i := range asks {
			asks[i] = strings.Replace(asks[i], " {", "? {", 1)
			if strings.Count(asks[i], "?") > 1 {
				asks[i] = strings.Replace(asks[i], "? {", " {", 1)
			}
		}
		if !slices.Equal(asks, c.asks) {
			t.Errorf("failoverctl %q asks\n%q, want\n%q", c.args, asks, c.asks)
		}
	}
}

func TestOverrideJSON(t *testing.T) {
	f := serve(t)
	overrides(f)
	var o api.Outcome
	got := run(t, withToken(t, "secret"), "-server", f.URL, "-o", "json", "drain", "192.0.2.10")
	if err := json.Unmarshal([]byte(got.out), &o); err != nil || got.status != good || len(o.Effects) != 2 {
		t.Errorf("drain -o json: %v, status %d, %s", err, got.status, got.out)
	}
	var p api.Problem
	got = runIn(t, World{Person: true}, withToken(t, "secret"), "-server", f.URL, "-o", "json", "drain", "192.0.2.40")
	if err := json.Unmarshal([]byte(got.out), &p); err != nil || got.status != no || p.Outcome == nil {
		t.Errorf("drain -o json of the last: %v, status %d, %s", err, got.status, got.out)
	}
	if want := "failoverctl: not done: a pool would be left without a usable tier; -force does it all the same\n"; got.err != want {
		t.Errorf("It says %q, want %q", got.err, want)
	}
}

// A token goes to nobody whom the server names.
func TestToken(t *testing.T) {
	f := serve(t)
	overrides(f)
	thief := serve(t)
	f.mux.HandleFunc("/api/v1/overrides/labels/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
	})
	for want, args := range map[string][]string{
		"wants a token for that: name its file with -token or FAILOVER_TOKEN, or go by the server's unix socket": {"drain", "192.0.2.10"},
		"does not take the token in ":          {withToken(t, "wrong"), "drain", "192.0.2.10"},
		"answers 307 Temporary Redirect with ": {withToken(t, "secret"), "drain", "fra", "-label"},
	} {
		got := run(t, append([]string{"$FAILOVER_SERVER=" + f.URL}, args...)...)
		if got.status != refused || !strings.Contains(got.err, want) {
			t.Errorf("failoverctl %q has the status %d, and says %q, want %q", args, got.status, got.err, want)
		}
	}
	if got := thief.asked(); len(got) > 0 {
		t.Errorf("Somebody else was asked %q", got)
	}
}

func TestParseTime(t *testing.T) {
	berlin := time.FixedZone("", 3600)
	now := noon.In(berlin) // 13:00
	for word, want := range map[string]string{
		"17:30":                     "2026-11-24T17:30:00+01:00",
		"13:00":                     "2026-11-25T13:00:00+01:00",
		"2026-12-01 08:00":          "2026-12-01T08:00:00+01:00",
		"2026-12-01 08:00:30":       "2026-12-01T08:00:30+01:00",
		"2026-12-01T08:00":          "2026-12-01T08:00:00+01:00",
		"2026-12-01T08:00:00Z":      "2026-12-01T08:00:00Z",
		"2026-12-01T08:00:00-05:00": "2026-12-01T08:00:00-05:00",
		"25:00":                     "",
		"tomorrow":                  "",
		"":                          "",
	} {
		got := ""
		if at, ok := parseTime(word, now); ok {
			got = at.Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q is %q, want %q", word, got, want)
		}
	}
}
