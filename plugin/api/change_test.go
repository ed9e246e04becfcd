package api

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/override"
)

const (
	drain   = `{"action":"drain"}`
	another = "/api/v1/overrides/members/192.0.2.2"
)

func TestToken(t *testing.T) {
	f := withToken(t)
	name := f.at.options.Load().Token
	for _, test := range []struct {
		name, header string
		code         int
	}{
		{"right", "Bearer " + token, 200},
		{"in other letters", "bearer  " + token + " ", 200},
		{"none", "", 401},
		{"wrong", "Bearer wrong horse battery staple", 401},
		{"part", "Bearer " + token[:len(token)-1], 401},
		{"more", "Bearer " + token + "s", 401},
		{"empty", "Bearer ", 401},
		{"without a scheme", token, 401},
		{"another scheme", "Basic " + token, 401},
	} {
		for _, method := range []string{"PUT", "DELETE"} {
			resp := f.do(method, another, drain, "Authorization", test.header)
			if resp.StatusCode != test.code {
				t.Errorf("%s: %s is %s, want %d", test.name, method, resp.Status, test.code)
			}
			if test.code == 401 && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s: WWW-Authenticate is %q, want Bearer", test.name, resp.Header.Get("WWW-Authenticate"))
			}
		}
	}

	// A new one holds at once, and the one before does not any more.
	if err := os.WriteFile(name, []byte("another horse battery staple\r\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.problemOf(f.do("PUT", another, drain), 401)
	if resp := f.do("PUT", another, drain, "Authorization", "Bearer another horse battery staple"); resp.StatusCode != 200 {
		t.Errorf("the new token: %s, want 200", resp.Status)
	}
}

// TestTokenFile has files that cannot be used: they let nobody in, and nothing about them goes out.
func TestTokenFile(t *testing.T) {
	for name, prepare := range map[string]func(name string) error{
		"short": func(name string) error { return os.WriteFile(name, []byte("fifteen letters\n"), 0o600) },
		"empty": func(name string) error { return os.WriteFile(name, nil, 0o600) },
		"gone":  os.Remove,
		"a directory": func(name string) error {
			if err := os.Remove(name); err != nil {
				return err
			}
			return os.Mkdir(name, 0o700)
		},
	} {
		f := withToken(t)
		file := f.at.options.Load().Token
		if err := prepare(file); err != nil {
			t.Fatal(err)
		}
		for _, header := range []string{"Bearer " + token, "Bearer fifteen letters", "Bearer ", ""} {
			p := f.problemOf(f.do("PUT", another, drain, "Authorization", header), 403)
			if strings.Contains(p.Detail, filepath.Dir(file)) {
				t.Errorf("%s: %q says where the file is", name, p.Detail)
			}
		}
		if f.last() != "" {
			t.Errorf("%s: %q was done", name, f.last())
		}
		if err := f.at.options.Load().Check(); err == nil {
			t.Errorf("%s: Check takes it", name)
		}
	}
}

// TestWhoMayChange has a server without a token, and a socket.
func TestWhoMayChange(t *testing.T) {
	closed, socket := newFront(t, Listen{Address: "127.0.0.1:9054"}), newFront(t, Listen{Address: "unix:///run/failover.sock"})
	closed.problemOf(closed.do("PUT", another, drain), 403)
	closed.problemOf(closed.do("DELETE", another, ""), 403)
	if resp := socket.do("PUT", another, drain, "Authorization", "", "Host", "failover"); resp.StatusCode != 200 {
		t.Errorf("over the socket: %s, want 200", resp.Status)
	}
	for f, want := range map[*front]string{closed: "none", socket: "socket", withToken(t): "token"} {
		if got := read[Document](t, f.do("GET", "/api/v1/pools", "")).Server.Changes; got != want {
			t.Errorf("changes is %q, want %q", got, want)
		}
	}
}

func TestBody(t *testing.T) {
	f := withToken(t)
	for _, test := range []struct {
		name, body string
		code       int
	}{
		{"least", drain, 200},
		{"white space", " \n" + drain + "\n\n", 200},
		{"nothing", "", 400},
		{"no JSON", "action=drain", 400},
		{"part", `{"action":"drain"`, 400},
		{"unknown field", `{"action":"drain","untill":"2026-11-24T15:04:05Z"}`, 400},
		{"wrong type", `{"action":true}`, 400},
		{"a list", `["drain"]`, 400},
		{"something behind", drain + "{}", 400},
		{"a bracket behind", drain + "}", 400},
		{"no time", `{"action":"drain","until":"tomorrow"}`, 400},
		{"deep", strings.Repeat("[", 20_000), 400},
		{"nothing in it", `{}`, 422},
		{"null", `null`, 422},
		{"unknown action", `{"action":"stop"}`, 422},
		{"for no duration", `{"action":"drain","for":"1 day"}`, 422},
		{"for less than nothing", `{"action":"drain","for":"-1m"}`, 422},
		{"for and until", `{"action":"drain","for":"1m","until":"2126-11-24T15:04:05Z"}`, 422},
		{"over", `{"action":"drain","until":"2006-01-02T15:04:05Z"}`, 422},
		{"second line", `{"action":"drain","reason":"a\nb"}`, 422},
		{"large", `{"action":"drain","reason":"` + strings.Repeat("x", maxBody) + `"}`, 413},
		{"large behind", drain + strings.Repeat(" ", maxBody), 413},
	} {
		resp := f.do("PUT", another, test.body)
		if test.code != 200 {
			f.problemOf(resp, test.code)
		} else if resp.StatusCode != 200 {
			t.Errorf("%s: %s, want 200", test.name, resp.Status)
		}
	}
	for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json; charset"} {
		f.problemOf(f.do("PUT", another, drain, "Content-Type", media), 415)
	}
	if resp := f.do("PUT", another, drain, "Content-Type", "Application/JSON; charset=utf-8"); resp.StatusCode != 200 {
		t.Errorf("with a character set: %s, want 200", resp.Status)
	}
}

// TestUntil has an end as it was asked for, in whole seconds, and none before it was asked for.
func TestUntil(t *testing.T) {
	f := withToken(t)
	for body, want := range map[string]time.Duration{
		`{"action":"drain","for":"90m"}`: 90 * time.Minute,
		`{"action":"drain","for":"1ms"}`: time.Millisecond,
	} {
		o := read[Outcome](t, f.do("PUT", another, body)).Override
		if got := o.Until.Sub(o.Since); got < want || got > want+time.Second || o.Until.Nanosecond() != 0 {
			t.Errorf("%s: from %s until %s, want %s later", body, o.Since, o.Until, want)
		}
	}
	o := read[Outcome](t, f.do("PUT", another, `{"action":"drain","until":"2126-11-24T16:04:05+01:00"}`)).Override
	if want := time.Date(2126, 11, 24, 15, 4, 5, 0, time.UTC); !o.Until.Equal(want) {
		t.Errorf("until %s, want %s", o.Until, want)
	}
	if o := read[Outcome](t, f.do("PUT", another, drain)).Override; !o.Until.IsZero() {
		t.Errorf("until %s, want no end", o.Until)
	}
}

// TestTarget has paths, and what they come to at the source.
func TestTarget(t *testing.T) {
	f := newFront(t, Listen{Address: "unix:///run/failover.sock"})
	for target, want := range map[string]override.Target{
		"members/192.0.2.2":                                        {Member: "192.0.2.2"},
		"members/192.0.2.2:443":                                    {Member: "192.0.2.2:443"},
		"members/[2001:db8::1]:443":                                {Member: "[2001:db8::1]:443"},
		"members/%5B2001%3Adb8%3A%3A1%5D%3A443":                    {Member: "[2001:db8::1]:443"},
		"members/..%2Flabels%2Ffra1":                               {Member: "../labels/fra1"},
		"labels/fra1":                                              {Label: "fra1"},
		"labels/a%2Fb%20c":                                         {Label: "a/b c"},
		"labels/%2E%2E":                                            {Label: ".."},
		"pools/www.example.org/members/fra1":                       {Pool: "www.example.org", Member: "fra1"},
		"pools/0%2F25.2.0.192.in-addr.arpa./members/192.0.2.2":     {Pool: "0/25.2.0.192.in-addr.arpa.", Member: "192.0.2.2"},
		"pools/www.example.org%2Fmembers%2F192.0.2.9/members/fra1": {Pool: "www.example.org/members/192.0.2.9", Member: "fra1"},
		"pools/*.example.org/members/%0d%0aX:%20y":                 {Pool: "*.example.org", Member: "\r\nX: y"},
	} {
		resp := f.do("DELETE", "/api/v1/overrides/"+target, "")
		if want := want.String() + ": cleared dry=false force=false"; resp.StatusCode != 200 || f.last() != want {
			t.Errorf("%s: %s, %q, want %q", target, resp.Status, f.last(), want)
		}
	}
	f.decided = nil
	for _, target := range []string{"members/", "members", "labels/", "members/192.0.2.2/", "pools//members/fra1", "members/../192.0.2.2", "pools/www.example.org/members/"} {
		if resp := f.do("DELETE", "/api/v1/overrides/"+target, ""); resp.StatusCode == 200 || f.last() != "" {
			t.Errorf("%s: %s, %q, want nothing done", target, resp.Status, f.last())
		}
	}
}

// A refused change is told with its reason, and neither a token nor a change is in what is told.
func TestRefusals(t *testing.T) {
	f := withToken(t)
	for _, test := range []struct {
		reason string
		header []string
	}{
		{"no-token", []string{"Authorization", ""}},
		{"wrong-token", []string{"Authorization", "Bearer wrong horse battery staple"}},
		{"foreign-origin", []string{"Sec-Fetch-Site", "cross-site"}},
		{"foreign-host", []string{"Host", "dns.example.net"}},
	} {
		f.refusals = nil
		f.do("PUT", another, drain, test.header...)
		if len(f.refusals) != 1 || f.refusals[0].Reason != test.reason || f.refusals[0].Request != "PUT "+another || f.refusals[0].Client == "" || !slices.Contains(Refusals, test.reason) {
			t.Errorf("%q: the refusals are %+v, want one: %s", test.header, f.refusals, test.reason)
		}
	}
	f.refusals = nil
	f.do("GET", "/api/v1/pools", "", "Host", "dns.example.net") // it is not a change
	if len(f.refusals) > 0 {
		t.Errorf("The refusals are %+v, want none", f.refusals)
	}
	name := filepath.Join(t.TempDir(), "token")
	short := newFront(t, Listen{Address: "127.0.0.1:9054", Token: name})
	for content, want := range map[string]string{
		"":      "nothing can be changed now: the token file cannot be read: no such file or directory",
		"short": "nothing can be changed now: the token in the token file has 5 characters, want 16 or more",
	} {
		if content != "" {
			if err := os.WriteFile(name, []byte(content+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if p := short.problemOf(short.do("PUT", another, drain), 403); p.Detail != want {
			t.Errorf("%q: %q, want %q", content, p.Detail, want)
		}
	}
}

func TestHow(t *testing.T) {
	f := withToken(t)
	const at = "192.0.2.2: cleared"
	for query, want := range map[string]string{ // "": nothing is done
		"":                                    at + " dry=false force=false",
		"?dry-run=true":                       at + " dry=true force=false",
		"?dry-run=false&force=true":           at + " dry=false force=true",
		"?author=alice&reason=it+is+7":        at + " by alice: it is 7 dry=false force=false",
		"?dry-run=1":                          "",
		"?dry-run":                            "",
		"?dryrun=true":                        "",
		"?force=yes":                          "",
		"?author=a%0ab":                       "",
		"?reason=a%ff":                        "",
		"?reason=" + strings.Repeat("x", 501): "",
	} {
		f.decided = nil
		if resp := f.do("DELETE", another+query, ""); want == "" {
			f.problemOf(resp, http.StatusUnprocessableEntity)
		}
		if f.last() != want {
			t.Errorf("%s: %q, want %q", query, f.last(), want)
		}
	}
	f.decided = nil
	f.problemOf(f.do("PUT", another+"?author=alice", drain), 422) // it belongs into the body
	f.problemOf(f.do("PUT", another+"?dry_run=true", drain), 422)
	if f.last() != "" {
		t.Errorf("%q was done", f.last())
	}
}

// TestBare has a decision that is too much, and its outcome.
func TestBare(t *testing.T) {
	const last = "/api/v1/overrides/members/192.0.2.1"
	f := withToken(t)
	p := f.problemOf(f.do("PUT", last, drain), 409)
	if p.Type != "#last-usable" || p.Outcome == nil || len(p.Outcome.Effects) != 1 || !p.Outcome.Effects[0].Bare || p.Outcome.Override == nil {
		t.Errorf("%+v, want #last-usable with the outcome", p)
	}
	if f.last() != "" {
		t.Errorf("%q was done", f.last())
	}
	if o := read[Outcome](t, f.do("PUT", last+"?dry-run=true", drain)); !o.DryRun || len(o.Warnings) != 1 {
		t.Errorf("%+v, want what would be, with a warning", o)
	}
	if o := read[Outcome](t, f.do("PUT", last+"?force=true", drain)); o.DryRun {
		t.Errorf("%+v, want it done", o)
	}
	if all := read[struct{ Overrides []override.Override }](t, f.do("GET", "/api/v1/overrides", "")).Overrides; len(all) != 1 || all[0].Member != "192.0.2.1" {
		t.Errorf("%v are in force, want one", all)
	}
}

// FuzzBody reads arbitrary bodies: what is taken is an override that can be, and nothing panics.
func FuzzBody(f *testing.F) {
	for _, s := range []string{drain, drain + "{}", `{"action":"up","for":"90m","reason":"x","author":"y"}`, `{"action":"down","until":"2126-11-24T16:04:05+01:00"}`,
		`{"action":"down","until":"9999-12-31T23:59:59.9Z"}`, "null", "[", `{"ACTION":"up"}`} {
		f.Add(s, "192.0.2.2", "")
	}
	f.Add(drain, "a/b", "dry-run=true&force=false")
	f.Fuzz(func(t *testing.T, body, member, query string) {
		server := newFront(t, Listen{Address: "unix:///run/failover.sock"})
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		resp := server.do("PUT", "/api/v1/overrides/members/"+url.PathEscape(member)+"?"+q.Encode(), body)
		switch resp.StatusCode {
		case 200:
			o := read[Outcome](t, resp)
			if err := o.Override.Check(); err != nil || server.last() == "" {
				t.Fatalf("%q for %q: %v, %q", body, member, err, server.last())
			}
		case 301, 307:
		default:
			if p := server.problemOf(resp, resp.StatusCode); resp.StatusCode >= 500 || server.last() != "" {
				t.Fatalf("%q for %q: %+v, %q", body, member, p, server.last())
			}
		}
	})
}
