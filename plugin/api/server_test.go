package api

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHost has names that lead here: those that anybody can make do so get nothing.
func TestHost(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	f := withToken(t)
	for host, ok := range map[string]bool{
		"127.0.0.1:9054": true, "192.0.2.1": true, "[::1]:9054": true, "[::1]": true, "[fe80::1%25eth0]:9054": true,
		"localhost": true, "LOCALHOST:9054": true, "localhost.:9054": true, "failover.localhost": true,
		name: true, name + ":9054": true, strings.ToUpper(name): true,

		"": false, "www.example.net": false, "www.example.net:9054": false, "localhost.example.net": false, "notlocalhost": false,
		"127.0.0.1.example.net": false, "127.0.0.1.example.net:9054": false, "::1.example.net": false, ".": false, ":9054": false,
	} {
		for _, target := range []string{"/", "/api/v1/pools", "/none"} {
			resp := f.do("GET", target, "", "Host", host)
			if denied := resp.StatusCode == http.StatusForbidden; denied == ok {
				t.Errorf("%s with the host %q: %s", target, host, resp.Status)
			}
		}
		if !ok {
			f.problemOf(f.do("PUT", another, drain, "Host", host), 403)
		}
	}

	// A socket has no name, and with TLS it is the certificate that tells.
	socket := newFront(t, Listen{Address: "unix:///run/failover.sock"})
	if resp := socket.do("GET", "/", "", "Host", "www.example.net"); resp.StatusCode != 200 {
		t.Errorf("over a socket: %s, want 200", resp.Status)
	}
	secure := newFront(t, Listen{Address: "127.0.0.1:9054"})
	next := secure.handler
	secure.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.TLS = new(tls.ConnectionState)
		next.ServeHTTP(w, r)
	})
	if resp := secure.do("GET", "/", "", "Host", "status.example.org"); resp.StatusCode != 200 {
		t.Errorf("with TLS: %s, want 200", resp.Status)
	}
}

// TestRoot has the pool of the root, whose name alone in a path would be a step in it.
func TestRoot(t *testing.T) {
	f := newFront(t, Listen{Address: "unix:///run/failover.sock"})
	f.problemOf(f.do("GET", "/api/v1/pools/%2E", ""), 404)
	f.pools = append(f.pools, full("."))
	resp := f.do("GET", "/api/v1/pools/%2E", "")
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), `"names":["."]`) {
		t.Errorf("%s (%v): %.300s, want the pool of the root", resp.Status, err, body)
	}
	if resp := f.do("PUT", "/api/v1/overrides/pools/%2E/members/192.0.2.2", drain); resp.StatusCode != 200 || !strings.Contains(f.last(), "192.0.2.2 in .:") {
		t.Errorf("%s: decided is %q, want the member in the pool of the root", resp.Status, f.last())
	}
}

// TestForeignPage has requests as browsers send them for a page of this server, and for one from elsewhere.
func TestForeignPage(t *testing.T) {
	for _, f := range []*front{withToken(t), newFront(t, Listen{Address: "unix:///run/failover.sock"})} {
		for _, test := range []struct {
			headers []string
			ok      bool
		}{
			{nil, true}, // no browser
			{[]string{"Sec-Fetch-Site", "same-origin"}, true},
			{[]string{"Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:9054"}, true},
			{[]string{"Origin", "http://localhost:9054"}, true}, // one that does not know Sec-Fetch-Site
			{[]string{"Sec-Fetch-Site", "none"}, true},
			{[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://www.example.net"}, false},
			{[]string{"Sec-Fetch-Site", "same-site", "Origin", "http://localhost:8080"}, false},
			{[]string{"Origin", "https://www.example.net"}, false},
			{[]string{"Origin", "http://localhost:8080"}, false},
			{[]string{"Origin", "null"}, false},
		} {
			for _, method := range []string{"PUT", "DELETE"} {
				f.decided = nil
				resp := f.do(method, another, drain, test.headers...)
				if !test.ok {
					f.problemOf(resp, 403)
				}
				if done := f.last() != ""; done != test.ok {
					t.Errorf("%s with %q: %s, done: %t, want %t", method, test.headers, resp.Status, done, test.ok)
				}
			}
			if resp := f.do("GET", "/api/v1/pools", "", test.headers...); resp.StatusCode != 200 || resp.Header.Get("Access-Control-Allow-Origin") != "" ||
				resp.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
				t.Errorf("GET with %q: %s, %v", test.headers, resp.Status, resp.Header)
			}
		}
	}
}

func TestMethods(t *testing.T) {
	f := withToken(t)
	for target, allow := range map[string]string{
		"/": "GET, HEAD", "/api/v1/pools": "GET, HEAD", "/api/v1/pools/www.example.org": "GET, HEAD", "/api/v1/events": "GET, HEAD",
		"/api/v1/overrides": "GET, HEAD", "/api/v1/openapi.yaml": "GET, HEAD", another: "PUT, DELETE",
		"/api/v1/overrides/labels/fra1": "PUT, DELETE", "/api/v1/overrides/pools/a/members/b": "PUT, DELETE",
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "OPTIONS", "TRACE"} {
			if slices.Contains(strings.Split(allow, ", "), method) {
				continue
			}
			resp := f.do(method, target, "")
			if got := resp.Header.Get("Allow"); got != allow {
				t.Errorf("%s %s: Allow %q, want %q", method, target, got, allow)
			}
			f.problemOf(resp, 405)
		}
	}
	for _, target := range []string{"/x", "/api", "/api/v1", "/api/v1/", "/api/v2/pools", "/api/v1/overrides/x/y", "/openapi.yaml", "/%2e%2e/etc/passwd"} {
		if resp := f.do("GET", target, ""); resp.StatusCode != http.StatusTemporaryRedirect && resp.StatusCode != http.StatusMovedPermanently {
			f.problemOf(resp, 404)
		}
	}
	if resp := f.do("HEAD", "/api/v1/pools", ""); resp.StatusCode != 200 {
		t.Errorf("HEAD: %s, want 200", resp.Status)
	}
}

func TestQuery(t *testing.T) {
	f := withToken(t)
	for query, want := range map[string]Query{
		"":                             {Limit: 1000},
		"?q=FRA1":                      {Text: "fra1", Limit: 1000},
		"?q=b%C3%BCcher&unwell=true":   {Text: "bücher", Unwell: true, Limit: 1000},
		"?unwell=false&limit=0":        {},
		"?limit=5&offset=7":            {Limit: 5, Offset: 7},
		"?limit=10001":                 {Limit: 10_000},
		"?limit=9223372036854775807":   {Limit: 10_000},
		"?offset=9223372036854775807":  {Limit: 1000, Offset: 9223372036854775807},
		"?q=%00&offset=0&another=word": {Text: "\x00", Limit: 1000},
	} {
		d := read[Document](t, f.do("GET", "/api/v1/pools"+query, ""))
		if f.asked != want {
			t.Errorf("%s asks for %+v, want %+v", query, f.asked, want)
		}
		if left := max(0, min(len(f.pools)-want.Offset, want.Limit)); d.Total != 2 || d.Summary.Pools != 2 || len(d.Pools) != left || d.Pools == nil {
			t.Errorf("%s: %d of %d pools, want %d of 2", query, len(d.Pools), d.Total, left)
		}
	}
	for _, query := range []string{"limit=", "limit=x", "limit=-1", "limit=1.5", "offset=-1", "offset=9223372036854775808", "unwell=1", "unwell"} {
		f.problemOf(f.do("GET", "/api/v1/pools?"+query, ""), 422)
	}
	for name, want := range map[string]int{"a.example.org": 200, "A.EXAMPLE.ORG.": 200, "c.example.org": 404, "a.example.org%2Fx": 404, "..%2F..%2Fa.example.org": 404} {
		if resp := f.do("GET", "/api/v1/pools/"+name, ""); resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", name, resp.Status, want)
		}
	}
}

// TestDocument has what is written piece by piece the same as the whole.
func TestDocument(t *testing.T) {
	f := withToken(t)
	if all := read[map[string]any](t, f.do("GET", "/api/v1/pools", ""))["warnings"]; all == nil {
		t.Errorf("no warnings are null, want []")
	}
	f.warn(Warning{Kind: "state", Text: "the state file s cannot be written", Since: noon})
	d := read[Document](t, f.do("GET", "/api/v1/pools", ""))
	want := Document{Server: f.Process(), Summary: f.Summary(), Warnings: f.Warnings(), Pools: f.pools, Total: len(f.pools)}
	want.Server.Changes = "token"
	if got, want := fmt.Sprintf("%+v", d), fmt.Sprintf("%+v", want); len(got) != len(want) { // but for pointers
		t.Errorf("%s, want %s", got, want)
	}
	if all := read[map[string][]string](t, f.do("GET", "/api/v1/overrides", ""))["overrides"]; all == nil {
		t.Errorf("no overrides are null, want []")
	}
	events := read[struct {
		Since  time.Time
		Events []Event
	}](t, f.do("GET", "/api/v1/events", ""))
	if events.Events == nil || !events.Since.Equal(f.Since()) {
		t.Errorf("no events are %v since %v, want [] since %v", events.Events, events.Since, f.Since())
	}
	if resp := f.do("GET", "/api/v1/pools", ""); resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v, want no-store and nosniff", resp.Header)
	}
}

// TestContentPolicy checks that the page has no inline script or style, that the server has each file that the page
// loads, and that the policy allows nothing more.
func TestContentPolicy(t *testing.T) {
	f := withToken(t)
	read := func(path, contentType string) []byte {
		resp := f.do("GET", path, "")
		body, err := io.ReadAll(resp.Body)
		if h := resp.Header; err != nil || resp.StatusCode != http.StatusOK || len(body) == 0 || h.Get("Content-Type") != contentType || h.Get("Cache-Control") != "no-cache" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %s, %v (%v), want %s, no-cache and nosniff", path, resp.Status, h, err, contentType)
		}
		if got, want := resp.Header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"; got != want {
			t.Errorf("%s: the policy is %q, want %q", path, got, want)
		}
		return body
	}
	body := read("/", "text/html; charset=utf-8")
	loaded := 0
	for _, m := range regexp.MustCompile(`<script src="([^"]+)"></script>|<link rel="stylesheet" href="([^"]+)">`).FindAllSubmatch(body, -1) {
		loaded++
		if len(m[1]) > 0 {
			read("/"+string(m[1]), "text/javascript; charset=utf-8")
		} else {
			read("/"+string(m[2]), "text/css; charset=utf-8")
		}
	}
	files, err := pageFiles.ReadDir("page")
	if err != nil || loaded != len(files)-1 {
		t.Errorf("the page loads %d files, want %d: each in the folder, except itself (%v)", loaded, len(files)-1, err)
	}
	if refused := regexp.MustCompile(`(?i)<style|<script>|<[^>]*\s(style|on\w+)\s*=`).Find(body); refused != nil {
		t.Errorf("the page has %q, which a browser refuses by its policy", refused)
	}
	for _, path := range []string{"/page/", "/page/index.html", "/page/nosuch.js", "/page/..%2Fserver.go", "/page/..%2Fpage%2Fstate.js"} {
		if resp := f.do("GET", path, ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s, want 404", path, resp.Status)
		}
	}
}
