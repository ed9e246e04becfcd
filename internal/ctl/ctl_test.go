package ctl

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

// golden compares what was printed with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
}

// The sites that vote are shown, and what each says.
func TestSites(t *testing.T) {
	d := document()
	d.Server.Sites = []api.Site{{Name: "fra", Ours: true, Fresh: true}, {Name: "iad", Fresh: true}, {Name: "nrt"}}
	var b bytes.Buffer
	p := &printer{w: &b, zone: time.UTC}
	p.server(d)
	probe := d.Pools[0].Tiers[0].Members[0].Probes[0]
	probe.Votes = []api.Vote{{Site: "fra", Status: "down", Why: "3 failures: timeout"}, {Site: "iad", Status: "up"}}
	p.probe(&d.Pools[0], &probe, false, d.Server.Now)
	for _, want := range []string{"\nsites: fra (this one), iad, nrt (not heard of)\n", "        fra says down: 3 failures: timeout\n        iad says up\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("There is no %q in\n%s", want, b.String())
		}
	}
}

// A warning of the server itself is above the pools, and is in the exit status and in the JSON.
func TestServerWarnings(t *testing.T) {
	f := serve(t)
	f.document.Warnings = []api.Warning{
		{Kind: "state", Text: "the state file s cannot be written: read-only file system", Since: before(5 * time.Minute)},
		{Kind: "status", Text: "status 127.0.0.1:9054: open t: no such file or directory"},
	}
	got := run(t, "-server", f.URL, "status", "-unwell")
	for _, want := range []string{
		"\nwarning: the state file s cannot be written: read-only file system (for 5m)\n",
		"\nwarning: status 127.0.0.1:9054: open t: no such file or directory\nPOOL ",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("There is no %q in\n%s", want, got.out)
		}
	}
	if got.status != no || !strings.Contains(got.err, "the server has 2 warnings") {
		t.Errorf("The status is %d, and it says %q, want %d and how many warnings there are", got.status, got.err, no)
	}
	got = run(t, "-server", f.URL, "status", "-o", "json")
	var d api.Document
	if err := json.Unmarshal([]byte(got.out), &d); err != nil || len(d.Warnings) != 2 || got.status != no {
		t.Errorf("As JSON: status %d, %v, %s", got.status, err, got.out)
	}
}

func TestOutput(t *testing.T) {
	f := serve(t)
	for name, args := range map[string][]string{
		"status.txt":  {"status"},
		"unwell.txt":  {"status", "-unwell", "api"},
		"nothing.txt": {"status", "nothing"},
		"www.txt":     {"explain", "WWW.example.org"},
		"db.txt":      {"explain", "db.example.org."},
		"api.txt":     {"explain", "api.example.org"},
		"help.txt":    {"help"},
		"drain.txt":   {"drain", "-h"},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, append([]string{"-server", f.URL}, args...)...)
			if got.status != good || got.err != "" {
				t.Errorf("failoverctl %q has the status %d, and says %q", args, got.status, got.err)
			}
			golden(t, name, got.out)
		})
	}
}

func TestJSON(t *testing.T) {
	f := serve(t)
	for _, c := range []struct {
		args  []string
		pools int
	}{{[]string{"status"}, 3}, {[]string{"status", "-unwell"}, 2}, {[]string{"explain", "www.example.org"}, 1}} {
		got := run(t, append([]string{"$FAILOVER_SERVER=" + f.URL, "-o", "json"}, c.args...)...)
		var d api.Document
		if err := json.Unmarshal([]byte(got.out), &d); err != nil || got.status != good {
			t.Fatalf("%q: %v, status %d, %s", c.args, err, got.status, got.err)
		}
		if len(d.Pools) != c.pools || d.Server.Host != "ns1" {
			t.Errorf("%q has %d pools of %q, want %d of ns1", c.args, len(d.Pools), d.Server.Host, c.pools)
		}
	}
}

// Colours are for terminals, and for those who want them.
func TestColours(t *testing.T) {
	f := serve(t)
	for _, c := range []struct {
		terminal bool
		env      string
		want     bool
	}{{true, "$TERM=xterm", true}, {false, "$TERM=xterm", false}, {true, "$NO_COLOR=1", false}, {true, "$TERM=dumb", false}} {
		got := runIn(t, World{Terminal: c.terminal}, c.env, "-server", f.URL, "status")
		if is := strings.Contains(got.out, "\x1b["); is != c.want {
			t.Errorf("On a terminal: %v, with %s: colours: %v", c.terminal, c.env, is)
		}
	}
}

// What a server says cannot do anything to a terminal.
func TestLegible(t *testing.T) {
	var b strings.Builder
	p := &printer{w: &b}
	p.printf("%s %s\n", "a\x1b[31m\u202e", styled(red, "\x9b2J"))
	p.table(table{{plain("\x1b]0;title\a")}})
	if strings.ContainsFunc(b.String(), func(r rune) bool { return r == 0x1b || r == 0x9b || r == '\a' || r == '\u202e' }) {
		t.Errorf("This is written: %q", b.String())
	}
}

func TestRefuses(t *testing.T) {
	f := serve(t)
	for want, args := range map[string][]string{
		`no command, want one of status, explain`:                                                           {},
		`unknown command "stauts", want one of status`:                                                      {"stauts"},
		`status: flag provided but not defined: -nonsense`:                                                  {"status", "-nonsense"},
		`status with "b", want failoverctl status [TEXT]`:                                                   {"status", "a", "b"},
		`explain without NAME, want failoverctl explain NAME`:                                               {"explain"},
		`invalid value "" for flag -pool: want a name`:                                                      {"drain", "192.0.2.1", "-pool", ""},
		`explain "", want failoverctl explain NAME`:                                                         {"explain", ""},
		`watch "", want failoverctl watch [NAME]`:                                                           {"watch", ""},
		`clear "", want failoverctl clear MEMBER`:                                                           {"clear", "-label", ""},
		`no pool answers for "."`:                                                                           {"explain", "."},
		`no pool answers for ".."`:                                                                          {"explain", ".."},
		`-o "yaml", want text or json`:                                                                      {"-o", "yaml", "status"},
		`server "127.0.0.1:9054", want a URL`:                                                               {"-server", "127.0.0.1:9054", "status"},
		`server "ftp://a", want a URL`:                                                                      {"-server", "ftp://a", "status"},
		`server "unix://run/a", want a URL`:                                                                 {"-server", "unix://run/a", "status"},
		`cannot reach http://127.0.0.1:1: connection refused; want the ADDRESS of a status line`:            {"-server", "http://127.0.0.1:1", "status"},
		`cannot reach unix:///nowhere/sock: no such file or directory; want the ADDRESS`:                    {"-server", "unix:///nowhere/sock", "status"},
		`answers 404 Not Found with text/plain, want JSON: is this the status ADDRESS`:                      {"-server", f.URL + "/elsewhere", "status"},
		`no pool answers for "nobody.example.org."`:                                                         {"explain", "nobody.example.org"},
		`member "fra1", want an address such as 192.0.2.10 or 192.0.2.10:443; with -label`:                  {"drain", "fra1"},
		`-label beside -pool, want -pool only`:                                                              {"drain", "-label", "-pool", "a", "fra1"},
		`-label "192.0.2.1", want a label`:                                                                  {"drain", "-label", "192.0.2.1"},
		`-for beside -until, want one of them`:                                                              {"down", "192.0.2.1", "-for", "1h", "-until", "17:30"},
		`-for "soon", want a duration`:                                                                      {"up", "192.0.2.1", "-for", "soon"},
		`-for "-1h", want a duration`:                                                                       {"up", "192.0.2.1", "-for=-1h"},
		`-until "5 pm", want a time`:                                                                        {"up", "192.0.2.1", "-until", "5 pm"},
		`clear: flag provided but not defined: -for`:                                                        {"clear", "192.0.2.1", "-for", "1h"},
		`token: open /nowhere: no such file`:                                                                {"drain", "192.0.2.1", "-token", "/nowhere"},
		`completion "tcsh", want bash, zsh or fish`:                                                         {"completion", "tcsh"},
		`unknown command "stauts", want one of status, explain, watch, events, drain, down, up, clear`:      {"help", "stauts"},
		`open /nowhere/Corefile: no such file or directory`:                                                 {"check", "/nowhere/Corefile"},
		`answers 404 Not Found with text/plain, want JSON: is this the status ADDRESS of a CoreDNS with fa`: {"events"},
	} {
		got := run(t, append([]string{"$FAILOVER_SERVER=" + f.URL}, args...)...)
		if got.status != refused || got.out != "" || !strings.HasPrefix(got.err, "failoverctl: ") || !strings.Contains(got.err, want) {
			t.Errorf("failoverctl %q has the status %d, prints %q and says %q, want %q", args, got.status, got.out, got.err, want)
		}
	}
}

// Flags may stand anywhere, and -- ends them.
func TestFlags(t *testing.T) {
	f := serve(t)
	for _, args := range [][]string{
		{"-server", f.URL, "status", "-unwell", "api"},
		{"status", "api", "-unwell", "--server=" + f.URL},
		{"-server", "http://127.0.0.1:1", "status", "-server", f.URL, "-unwell", "--", "api"},
	} {
		if got := run(t, args...); got.status != good {
			t.Errorf("failoverctl %q has the status %d, and says %s", args, got.status, got.err)
		}
	}
	if got := run(t, "-server", f.URL, "status", "--", "-unwell"); got.status != good {
		t.Errorf("The text -unwell has the status %d, and says %s", got.status, got.err)
	}
	want := []string{
		"GET /api/v1/pools?offset=0&q=api&unwell=true",
		"GET /api/v1/pools?offset=0&q=api&unwell=true",
		"GET /api/v1/pools?offset=0&q=api&unwell=true",
		"GET /api/v1/pools?offset=0&q=-unwell",
	}
	if got := f.asked(); !slices.Equal(got, want) {
		t.Errorf("The server was asked %q, want %q", got, want)
	}
}
