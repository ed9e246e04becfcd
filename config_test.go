package failover

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/tsig"
)

// configured reads the failover directives of one server block. Their first line is line 1.
func configured(directives string, keys ...string) ([]*config, error) {
	c := caddy.NewTestController("dns", directives)
	c.ServerBlockKeys = keys
	return configuredBy(c)
}

func configuredBy(c *caddy.Controller) ([]*config, error) {
	d, err := parse(c)
	if err != nil {
		return nil, err
	}
	return configure(d, plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys), "")
}

// configuredFrom reads a whole Corefile the way CoreDNS does it, with snippets, imported files and
// variables, and returns what its server blocks come to.
func configuredFrom(file, corefile string) ([]*config, error) {
	blocks, err := caddyfile.Parse(file, strings.NewReader(corefile), dnsserver.Directives)
	if err != nil {
		return nil, err
	}
	var all []*config
	for _, b := range blocks {
		tokens := b.Tokens["failover"]
		if tokens == nil {
			continue
		}
		c := caddy.NewTestController("dns", "")
		c.Dispenser = caddyfile.NewDispenserTokens(file, tokens)
		c.ServerBlockKeys = b.Keys
		configs, err := configuredBy(c)
		if err != nil {
			return nil, err
		}
		all = append(all, configs...)
	}
	return all, nil
}

// told is what a config comes to: names, tiers and probes, and what is not as it is by default.
func told(c *config) string {
	var tiers []string
	for _, t := range c.Tiers {
		var members []string
		for _, m := range t {
			members = append(members, m.String())
		}
		tiers = append(tiers, strings.Join(members, ", "))
	}
	said := []string{strings.Join(c.names, " ") + " = " + strings.Join(tiers, " | ")}
	for _, spec := range c.specs {
		port := ""
		if spec.Port != 0 {
			port = fmt.Sprintf(" port %d", spec.Port)
		}
		said = append(said, spec.String()+port)
	}
	d := defaults()
	for _, v := range []struct {
		word      string
		got, want any
	}{
		{"interval", c.settings.Interval, d.settings.Interval},
		{"recheck", c.settings.Recheck, d.settings.Recheck},
		{"timeout", c.settings.Timeout, d.settings.Timeout},
		{"fall", c.settings.Fall, d.settings.Fall},
		{"window", c.settings.Window, d.settings.Window},
		{"rise", c.settings.Rise, d.settings.Rise},
		{"hold", c.Hold, d.Hold},
		{"min", c.Min, d.Min},
		{"answer", c.Answer, d.Answer},
		{"order", []string{"fixed", "sorted", "cyclic", "random"}[c.Order], "fixed"},
		{"prefer", fmt.Sprint(c.Prefer), "[]"},
		{"fallback", c.Fallback.Word, d.Fallback.Word},
		{"ttl from", c.MinTTL, d.MinTTL},
		{"ttl to", c.MaxTTL, d.MaxTTL},
		{"startup", c.startup, d.startup},
		{"from", c.from, d.from},
		{"allow", fmt.Sprint(c.allow), "[]"},
		{"limit", c.limit, d.limit},
		{"updates", toldUpdates(c.updates), ""},
	} {
		if v.got != v.want {
			said = append(said, fmt.Sprintf("%s %v", v.word, v.got))
		}
	}
	return strings.Join(said, "; ")
}

// toldUpdates is what update lines come to.
func toldUpdates(updates []update) string {
	var said []string
	for _, u := range updates {
		line := u.server.String() + " " + u.zone
		if u.key != "" {
			line += " " + u.key + " " + u.algorithm
		}
		said = append(said, line)
	}
	return strings.Join(said, ", ")
}

// text is the configs one to a line.
func text(configs []*config) string {
	var lines []string
	for _, c := range configs {
		lines = append(lines, told(c))
	}
	return strings.Join(lines, "\n")
}

const (
	www  = "failover www.example.org 192.0.2.10:443" // a directive without a block
	made = "www.example.org. = 192.0.2.10:443; tcp://"
)

// inBlock is the directive with one property.
func inBlock(property string) string { return www + " {\n" + property + "\n}" }

// into is the directive with an update in the defaults.
func into(update string) string { return defaulting("update " + update) }

// defaulting is the directive with one property in the defaults.
func defaulting(property string) string { return "failover {\n" + property + "\n}\n" + www }

// over is an overlay with more properties.
func over(properties string) string { return "failover {\nprobe tcp://:443\n" + properties + "\n}" }

func TestConfigRight(t *testing.T) {
	tests := []struct {
		name       string
		keys       []string // of the server block; nil: example.org
		directives string
		want       string
	}{
		{name: "the shortest", directives: www, want: made},
		{
			name:       "an overlay over all zones",
			keys:       []string{"example.org", "example.net:1053", "tls://example.org", "0/25.2.0.192.in-addr.arpa"},
			directives: over("from next"),
			want:       "example.org. example.net. 0/25.2.0.192.in-addr.arpa. = ; tcp:// port 443; fallback next; from true",
		},
		{
			name:       "an overlay over the root",
			keys:       []string{"."},
			directives: over("from next"),
			want:       ". = ; tcp:// port 443; fallback next; from true",
		},
		{
			name:       "an overlay with names, beside a pool in it and one at its apex",
			directives: "failover Apps.example.org {\nfrom next\nprobe http:///healthz\nprobe https://:8443\nlimit 5\nallow 10.0.0.0/8\nfallback none\n}\nfailover apps.example.org www.apps.example.org 192.0.2.10:443",
			want: "apps.example.org. = ; http://apps.example.org/healthz status 200-399; https://apps.example.org/ status 200-399 port 8443; fallback none; from true; allow [10.0.0.0/8]; limit 5\n" +
				"apps.example.org. www.apps.example.org. = 192.0.2.10:443; tcp://",
		},
		{
			name:       "an overlay by the defaults",
			directives: "failover {\nfallback servfail\nprobe tcp://:80\nallow 10.0.0.0/8\nlimit 7\n}\nfailover {\nfrom next\n}",
			want:       "example.org. = ; tcp:// port 80; fallback servfail; from true; allow [10.0.0.0/8]; limit 7",
		},
		{
			name:       "one tier on the line",
			directives: "failover www.example.org 192.0.2.10:443 198.51.100.10:443",
			want:       "www.example.org. = 192.0.2.10:443, 198.51.100.10:443; tcp://",
		},
		{
			name:       "the same with primary",
			directives: "failover www.example.org {\nprimary 192.0.2.10:443 198.51.100.10:443\n}",
			want:       "www.example.org. = 192.0.2.10:443, 198.51.100.10:443; tcp://",
		},
		{
			name:       "a tier for each backup line",
			directives: www + " {\nbackup 192.0.2.20:443 192.0.2.21:443\nbackup 192.0.2.30:443\n}",
			want:       "www.example.org. = 192.0.2.10:443 | 192.0.2.20:443, 192.0.2.21:443 | 192.0.2.30:443; tcp://",
		},
		{
			name:       "primary after backup",
			directives: "failover www.example.org {\nbackup 192.0.2.20:443\nprimary 192.0.2.10:443\nbackup 192.0.2.30:443\n}",
			want:       "www.example.org. = 192.0.2.10:443 | 192.0.2.20:443 | 192.0.2.30:443; tcp://",
		},
		{
			name:       "every way to write an address",
			directives: "failover www.example.org 192.0.2.10 192.0.2.11:80 2001:db8::10 [2001:db8::11] [2001:db8::12]:80 east=192.0.2.13 West-1=[2001:DB8::13]:80 {\nprobe tcp://:80\n}",
			want:       "www.example.org. = 192.0.2.10, 192.0.2.11:80, 2001:db8::10, 2001:db8::11, [2001:db8::12]:80, east 192.0.2.13, West-1 [2001:db8::13]:80; tcp:// port 80",
		},
		{
			name:       "the limits of an address",
			directives: "failover www.example.org 1.0.0.0:1 223.255.255.255:65535 127.0.0.1:1 240.0.0.1:1 ::1 {\nprobe tcp://:1\n}",
			want:       "www.example.org. = 1.0.0.0:1, 223.255.255.255:65535, 127.0.0.1:1, 240.0.0.1:1, ::1; tcp:// port 1",
		},
		{name: "a block with nothing in it", directives: www + " {\n}", want: made},
		{name: "comments", directives: "failover www.example.org 192.0.2.10:443 { # here\n# and here\n}", want: made},

		// Names.
		{name: "a dot at the end", directives: "failover www.example.org. 192.0.2.10:443", want: made},
		{name: "any case", directives: "failover WWW.Example.ORG 192.0.2.10:443", want: made},
		{name: "the zone itself", directives: "failover example.org 192.0.2.10:443", want: "example.org. = 192.0.2.10:443; tcp://"},
		{
			name:       "several names",
			directives: "failover www.example.org example.org *.app.example.org 192.0.2.10:443",
			want:       "www.example.org. example.org. *.app.example.org. = 192.0.2.10:443; tcp://",
		},
		{name: "a wildcard", directives: "failover *.example.org 192.0.2.10:443", want: "*.example.org. = 192.0.2.10:443; tcp://"},
		{name: "an asterisk that is part of a label", directives: "failover a*.example.org 192.0.2.10:443", want: "a*.example.org. = 192.0.2.10:443; tcp://"},
		{name: "underscores", directives: "failover _dns.example.org 192.0.2.10:443", want: "_dns.example.org. = 192.0.2.10:443; tcp://"},
		{name: "international", directives: "failover bücher.example.org 192.0.2.10:443", want: "xn--bcher-kva.example.org. = 192.0.2.10:443; tcp://"},
		{name: "international and big", directives: "failover BÜCHER.Example.org 192.0.2.10:443", want: "xn--bcher-kva.example.org. = 192.0.2.10:443; tcp://"},
		{name: "international wildcard", directives: "failover *.bücher.example.org 192.0.2.10:443", want: "*.xn--bcher-kva.example.org. = 192.0.2.10:443; tcp://"},
		{name: "its ASCII form", directives: "failover xn--bcher-kva.example.org 192.0.2.10:443", want: "xn--bcher-kva.example.org. = 192.0.2.10:443; tcp://"},
		{name: "escapes that need not be", directives: `failover w\119w.example.org 192.0.2.10:443`, want: made},
		{name: "escapes that need be", directives: `failover a\.b\032c.example.org 192.0.2.10:443`, want: `a\.b\ c.example.org. = 192.0.2.10:443; tcp://`},
		{name: "numbers in a name", directives: "failover 10.example.org 192.0.2.10:443", want: "10.example.org. = 192.0.2.10:443; tcp://"},
		{name: "a reverse zone", keys: []string{"192.0.2.0/24"}, directives: "failover 10.2.0.192.in-addr.arpa 192.0.2.10:443", want: "10.2.0.192.in-addr.arpa. = 192.0.2.10:443; tcp://"},
		{
			name:       "names in several zones",
			keys:       []string{"dns://example.org.:53", "dns://EXAMPLE.net.:53"},
			directives: "failover www.example.org www.example.net 192.0.2.10:443",
			want:       "www.example.org. www.example.net. = 192.0.2.10:443; tcp://",
		},
		{name: "a classless reverse zone", keys: []string{"2.0.192.in-addr.arpa"}, directives: "failover 0/25.2.0.192.in-addr.arpa 1.0/25.2.0.192.in-addr.arpa 192.0.2.10:443", want: "0/25.2.0.192.in-addr.arpa. 1.0/25.2.0.192.in-addr.arpa. = 192.0.2.10:443; tcp://"},
		{name: "an equals sign in a name", directives: "failover k=v.example.org east=192.0.2.10:443", want: "k=v.example.org. = east 192.0.2.10:443; tcp://"},
		{name: "an equals sign in a further name", directives: `failover www.example.org k\061v.example.org 192.0.2.10:443`, want: "www.example.org. k=v.example.org. = 192.0.2.10:443; tcp://"},
		{name: "escapes", directives: `failover \255\.\a\\.example.org 192.0.2.10:443`, want: `\255\.a\\.example.org. = 192.0.2.10:443; tcp://`},
		{name: "the root zone", keys: []string{"."}, directives: "failover www.example.org . 192.0.2.10:443", want: "www.example.org. . = 192.0.2.10:443; tcp://"},
		{name: "the wildcard of the root", keys: []string{"."}, directives: "failover * 192.0.2.10:443", want: "*. = 192.0.2.10:443; tcp://"},

		// Words in quotes are words like any other, and may hold blanks.
		{name: "quoted words", directives: `failover "www.example.org" "192.0.2.10:443"`, want: made},
		{
			name:       "blanks and quotes in a word",
			directives: inBlock(`probe tcp://:25 expect "^250 say \"ok\""`),
			want:       `www.example.org. = 192.0.2.10:443; tcp:// expect "^250 say \"ok\"" port 25`,
		},

		// Probes.
		{name: "the pool's name is the host", directives: inBlock("probe http://:8080/healthz"), want: "www.example.org. = 192.0.2.10:443; http://www.example.org/healthz status 200-399 port 8080"},
		{name: "the first name is", directives: "failover www.example.org example.org 192.0.2.10 {\nprobe https://\n}", want: "www.example.org. example.org. = 192.0.2.10; https://www.example.org/ status 200-399"},
		{name: "an international name is", directives: "failover bücher.example.org 192.0.2.10 {\nprobe tls://:443\n}", want: "xn--bcher-kva.example.org. = 192.0.2.10; tls://xn--bcher-kva.example.org port 443"},
		{name: "a host of its own", directives: inBlock("probe tls://other.example.net"), want: "www.example.org. = 192.0.2.10:443; tls://other.example.net"},
		{name: "a wildcard with a host", directives: "failover *.example.org 192.0.2.10 {\nprobe http://www.example.org\n}", want: "*.example.org. = 192.0.2.10; http://www.example.org/ status 200-399"},
		{name: "a name server", directives: "failover ns.example.org 192.0.2.10 {\nprobe dns:///Example.org?type=SOA answer ^ns\n}", want: `ns.example.org. = 192.0.2.10; dns:///example.org.?type=SOA rcode NOERROR answer "^ns"`},
		{name: "a health service", directives: inBlock("probe grpc://:9090/my.pkg.Service"), want: "www.example.org. = 192.0.2.10:443; grpc://www.example.org/my.pkg.Service port 9090"},
		{name: "a program without a port", directives: "failover www.example.org 192.0.2.10 {\nprobe exec:///bin/true\n}", want: `www.example.org. = 192.0.2.10; exec:///bin/true name "www.example.org"`},
		{name: "a program of a wildcard", directives: "failover *.example.org 192.0.2.10 {\nprobe exec:///bin/true\n}", want: `*.example.org. = 192.0.2.10; exec:///bin/true name ""`},
		{name: "a program of an overlay", directives: "failover {\nfrom next\nprobe exec:///bin/true\n}", want: `example.org. = ; exec:///bin/true name "example.org"; fallback next; from true`},
		{name: "several", directives: inBlock("probe tcp://\nprobe tcp://:80"), want: made + "; tcp:// port 80"},

		// Properties.
		{name: "interval", directives: inBlock("interval 10s"), want: made + "; interval 10s"},
		{name: "a bare number is seconds", directives: inBlock("interval 10"), want: made + "; interval 10s"},
		{name: "a short interval shortens the rest", directives: inBlock("interval 100ms"), want: made + "; interval 100ms; recheck 100ms; timeout 100ms"},
		{name: "a day", directives: inBlock("interval 24h"), want: made + "; interval 24h0m0s"},
		{name: "recheck and timeout as long as the interval", directives: inBlock("interval 4s\nrecheck 4s\ntimeout 4s"), want: made + "; interval 4s; recheck 4s; timeout 4s"},
		{name: "the interval last", directives: inBlock("timeout 9s\ninterval 10s"), want: made + "; interval 10s; timeout 9s"},
		{name: "fall", directives: inBlock("fall 1"), want: made + "; fall 1"},
		{name: "fall in a window", directives: inBlock("fall 3 10"), want: made + "; window 10"},
		{name: "the widest window", directives: inBlock("fall 64 64"), want: made + "; fall 64; window 64"},
		{name: "rise", directives: inBlock("rise 100"), want: made + "; rise 100"},
		{name: "hold", directives: inBlock("hold 1m30s"), want: made + "; hold 1m30s"},
		{name: "no hold", directives: inBlock("hold 0"), want: made},
		{name: "min", directives: inBlock("min 1"), want: made},
		{name: "min in percent", directives: inBlock("min 100%"), want: made + "; min {100 true}"},
		{name: "answer", directives: inBlock("answer 1"), want: made + "; answer 1"},
		{name: "answer all", directives: inBlock("answer all"), want: made},
		{name: "order", directives: inBlock("order cyclic"), want: made + "; order cyclic"},
		{name: "prefer", directives: inBlock("prefer 192.0.2.0/24 2001:db8::/32"), want: made + "; prefer [192.0.2.0/24 2001:db8::/32]"},
		{name: "prefer a host's network", directives: inBlock("prefer 192.0.2.10/24"), want: made + "; prefer [192.0.2.0/24]"},
		{name: "fallback", directives: inBlock("fallback servfail"), want: made + "; fallback servfail"},
		{name: "fallback to others", directives: inBlock("fallback 203.0.113.1 2001:db8::1"), want: made + "; fallback 203.0.113.1 2001:db8::1"},
		{name: "fallback to a member", directives: inBlock("fallback 192.0.2.10"), want: made + "; fallback 192.0.2.10"},
		{name: "ttl", directives: inBlock("ttl 1s 168h"), want: made + "; ttl from 1s; ttl to 168h0m0s"},
		{name: "one ttl", directives: inBlock("ttl 30"), want: made + "; ttl from 30s; ttl to 30s"},
		{name: "startup", directives: inBlock("startup 10m"), want: made + "; startup 10m0s"},
		{name: "no startup", directives: inBlock("startup 0s"), want: made + "; startup 0s"},
		{name: "min that all tiers can reach", directives: "failover www.example.org 192.0.2.10:443 192.0.2.11:443 {\nbackup 192.0.2.20:443 192.0.2.21:443\nmin 2\n}",
			want: "www.example.org. = 192.0.2.10:443, 192.0.2.11:443 | 192.0.2.20:443, 192.0.2.21:443; tcp://; min {2 false}"},

		// Several directives.
		{
			name:       "two pools",
			directives: "failover a.example.org 192.0.2.10:443\nfailover b.example.org 192.0.2.10:443 {\nrise 1\n}",
			want:       "a.example.org. = 192.0.2.10:443; tcp://\nb.example.org. = 192.0.2.10:443; tcp://; rise 1",
		},
		{
			name:       "a name and the wildcard below it",
			directives: "failover example.org 192.0.2.10:443\nfailover *.example.org 192.0.2.11:443",
			want:       "example.org. = 192.0.2.10:443; tcp://\n*.example.org. = 192.0.2.11:443; tcp://",
		},
		{
			name:       "defaults for all, wherever they stand",
			directives: "failover a.example.org 192.0.2.10\nfailover {\nrise 1\nprobe tcp://:80\nfall 3 10\n}\nfailover b.example.org 192.0.2.11",
			want:       "a.example.org. = 192.0.2.10; tcp:// port 80; window 10; rise 1\nb.example.org. = 192.0.2.11; tcp:// port 80; window 10; rise 1",
		},
		{
			name:       "a pool's own words go before the defaults",
			directives: "failover {\nrise 1\nprobe tcp://:80\nprobe tcp://:81\nfall 3 10\nprefer 192.0.2.0/24\nfallback 203.0.113.1\nttl 1s 2s\nanswer 1\n}\nfailover a.example.org 192.0.2.10 {\nrise 2\nprobe tcp://:82\nfall 3\nprefer 198.51.100.0/24\nfallback all\nttl 5s 60s\nanswer all\n}\nfailover b.example.org 192.0.2.11",
			want: "a.example.org. = 192.0.2.10; tcp:// port 82; prefer [198.51.100.0/24]\n" +
				"b.example.org. = 192.0.2.11; tcp:// port 80; tcp:// port 81; window 10; rise 1; answer 1; prefer [192.0.2.0/24]; fallback 203.0.113.1; ttl from 1s; ttl to 2s",
		},
		{
			name:       "a default gives way to a pool's short interval",
			directives: "failover {\ntimeout 5s\nrecheck 5s\n}\nfailover a.example.org 192.0.2.10:443 {\ninterval 1s\n}\nfailover b.example.org 192.0.2.11:443",
			want:       "a.example.org. = 192.0.2.10:443; tcp://; interval 1s; timeout 1s\nb.example.org. = 192.0.2.11:443; tcp://; recheck 5s; timeout 5s",
		},
		{
			name:       "updates",
			directives: "failover {\nupdate 192.0.2.53 Example.ORG\nupdate 192.0.2.53:5353 org Key.example.org\nupdate [2001:db8::53]:53 www.example.org k HMAC-SHA512\nupdate 2001:db8::54 example.org\n}\n" + www,
			want: made + "; updates 192.0.2.53:53 example.org., 192.0.2.53:5353 org. key.example.org. hmac-sha256., " +
				"[2001:db8::53]:53 www.example.org. k. hmac-sha512., [2001:db8::54]:53 example.org.",
		},
		{
			name:       "updates of a zone and of one in it",
			directives: "failover {\nupdate 192.0.2.53 example.org\nupdate 192.0.2.53 apps.example.org\n}\n" + www + "\nfailover *.apps.example.org 192.0.2.10:443",
			want: made + "; updates 192.0.2.53:53 example.org., 192.0.2.53:53 apps.example.org.\n" +
				"*.apps.example.org. = 192.0.2.10:443; tcp://; updates 192.0.2.53:53 example.org., 192.0.2.53:53 apps.example.org.",
		},
		{
			name:       "a short default interval leaves alone a pool that has a longer one",
			directives: "failover {\ninterval 500ms\n}\nfailover a.example.org 192.0.2.10:443 {\ninterval 10s\n}",
			want:       "a.example.org. = 192.0.2.10:443; tcp://; interval 10s",
		},
		{
			name:       "defaults use each pool's own name",
			directives: "failover {\nprobe http://:80\n}\nfailover a.example.org 192.0.2.10\nfailover b.example.org 192.0.2.11",
			want:       "a.example.org. = 192.0.2.10; http://a.example.org/ status 200-399 port 80\nb.example.org. = 192.0.2.11; http://b.example.org/ status 200-399 port 80",
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if tc.keys == nil {
				tc.keys = []string{"dns://example.org.:53"}
			}
			configs, err := configured(tc.directives, tc.keys...)
			if err != nil {
				t.Fatalf("Refused: %v\n%s", err, tc.directives)
			}
			if got := text(configs); got != tc.want {
				t.Errorf("Got\n%s\nwant\n%s\nfrom\n%s", got, tc.want, tc.directives)
			}
		})
	}
}

// A pool's config must not share what its directive changes with the defaults or another pool.
func TestConfigsApart(t *testing.T) {
	const own = "\nfailover %c.example.org 192.0.2.%d {\nprobe tcp://:8%d\nprefer 198.51.100.%d/32\nfallback 203.0.113.%d\n}"
	directives := "failover {\nprobe tcp://:80\nprobe tcp://:81\nprobe tcp://:82\nprefer 192.0.2.0/24 192.0.3.0/24 192.0.4.0/24\nfallback 192.0.2.1 192.0.2.2 192.0.2.3\n}"
	for i := range 5 {
		directives += fmt.Sprintf(own, 'a'+i, i+1, i, i, i)
	}
	configs, err := configured(directives, "example.org.")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range configs {
		want := fmt.Sprintf("%c.example.org. = 192.0.2.%d; tcp:// port 8%d; prefer [198.51.100.%d/32]; fallback 203.0.113.%d", 'a'+i, i+1, i, i, i)
		if got := told(c); got != want {
			t.Errorf("Got %s, want %s", got, want)
		}
	}
}

func TestWholeCorefile(t *testing.T) {
	dir := t.TempDir()
	imported := filepath.Join(dir, "pools")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(imported, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("FAILOVER_TEST_ADDRESS", "192.0.2.10:443")
	corefile := filepath.Join(dir, "Corefile")

	write("failover www.example.org 192.0.2.10:443 {\nimport fast\n}\nfailover b.example.org 192.0.2.11:443\n")
	right := []struct{ name, corefile, want string }{
		{
			"a snippet in the block", "(fast) {\nfall 1\nrise 1\n}\nexample.org {\nfailover www.example.org 192.0.2.10:443 {\nimport fast\n}\n}",
			made + "; fall 1; rise 1",
		},
		{
			"a snippet with the defaults", "(fast) {\nfailover {\nfall 1\n}\n}\nexample.org {\nimport fast\n" + www + "\n}\nexample.net {\nimport fast\nfailover example.net 192.0.2.10:443\n}",
			made + "; fall 1\nexample.net. = 192.0.2.10:443; tcp://; fall 1",
		},
		{
			"a snippet with a directive on one line", "(one) {\n" + www + "\n}\nexample.org {\nimport one\nfailover b.example.org 192.0.2.11:443\n}",
			made + "\nb.example.org. = 192.0.2.11:443; tcp://",
		},
		{
			"an imported file with a snippet in it", "(fast) {\nfall 1\n}\nexample.org {\nimport pools\n}",
			made + "; fall 1\nb.example.org. = 192.0.2.11:443; tcp://",
		},
		{"a variable", "example.org {\nfailover www.example.org {$FAILOVER_TEST_ADDRESS}\n}", made},
		{"several keys", "example.org example.net:5353 {\nfailover www.example.org www.example.net 192.0.2.10:443\n}", "www.example.org. www.example.net. = 192.0.2.10:443; tcp://"},
		{"other plugins in between", "example.org {\n" + www + "\nerrors\nfailover b.example.org 192.0.2.11:443\n}", made + "\nb.example.org. = 192.0.2.11:443; tcp://"},
		{"no braces around the server block", "example.org\n" + www, made},
	}
	withFailover(t)
	for _, tc := range right {
		t.Run(tc.name, func(t *testing.T) {
			configs, err := configuredFrom(corefile, tc.corefile)
			if err != nil {
				t.Fatalf("Refused: %v\n%s", err, tc.corefile)
			}
			if got := text(configs); got != tc.want {
				t.Errorf("Got\n%s\nwant\n%s\nfrom\n%s", got, tc.want, tc.corefile)
			}
		})
	}

	write("# pools\nfailover www.example.org 192.0.2.10:443 {\n\n    rise zero\n}\n")
	wrong := []struct{ name, corefile, want string }{
		{
			"in an imported file", "example.org {\nimport pools\n}",
			imported + `:4 - Error during parsing: rise "zero", want a number from 1 to 100`,
		},
		{
			"in a snippet: where it is written", "(slow) {\ninterval 1ms\n}\nexample.org {\n" + www + " {\nimport slow\n}\n}",
			corefile + `:2 - Error during parsing: interval "1ms", want a duration from 100ms to 24h`,
		},
		{
			"behind the brace that ends the block", "example.org {\n" + www + " {\n} rise 1\n}",
			corefile + `:3 - Error during parsing: unexpected "rise" after "}", want nothing there`,
		},
		{
			"in the second server block", "example.net {\nfailover example.net 192.0.2.1:443\n}\nexample.org {\nfailover example.net 192.0.2.1:443\n}",
			corefile + `:5 - Error during parsing: name "example.net" is outside of the server block, want a name in example.org.`,
		},
	}
	for _, tc := range wrong {
		t.Run(tc.name, func(t *testing.T) {
			_, err := configuredFrom(corefile, tc.corefile)
			if err == nil {
				t.Fatalf("Accepted, want %s\n%s", tc.want, tc.corefile)
			}
			if err.Error() != tc.want {
				t.Errorf("Got\n%s\nwant\n%s", err, tc.want)
			}
		})
	}
}

// withFailover has failover among CoreDNS's directives until the test ends.
func withFailover(t *testing.T) {
	t.Helper()
	stock := dnsserver.Directives
	t.Cleanup(func() { dnsserver.Directives = stock })
	i := slices.Index(stock, "template")
	if err := dnsserver.SetDirectives(slices.Insert(slices.Clone(stock), i, "failover")); err != nil {
		t.Fatal(err)
	}
}

func TestSetupErrors(t *testing.T) {
	withFailover(t)
	const position = "plugin/failover: Corefile:2 - Error during parsing: "
	const key = "plugin/failover: Corefile:3 - Error during parsing: "
	deep := strings.Repeat("a23456789.", 23) + "b123456.example.org"
	tests := []struct{ corefile, want string }{
		{"example.org:0 {\n    failover example.net 192.0.2.1:443\n}", position + `name "example.net" is outside of the server block, want a name in example.org.`},
		{"example.org:0 {\n    " + into("127.0.0.1:1 example.org key.example.org") + "\n}", key + `update with the key "key.example.org", want one that tsig has in the same server block: it has none`},
		{"example.org:0 {\n    " + into("127.0.0.1:1 example.org key.example.org") + "\n    tsig {\n    secret other c2VjcmV0\n    }\n}", key + `update with the key "key.example.org", want one that tsig has in the same server block: other.`},
		{"example.org:0 {\n    " + into("127.0.0.1:1 example.org key.example.org") + "\n    tsig {\n    secret key.example.org \"\"\n    }\n}", key + `update with the key "key.example.org", whose secret is empty, want one`},
		{"example.org:0 {\n    " + into("127.0.0.1:1 example.org key.example.org") + "\n    tsig {\n    secret key.example.org !\n    }\n}", key + `update with the key "key.example.org", whose secret is not base64: illegal base64 data at input byte 0`},
		{"example.org:0 www.example.org:0 {\n    " + into("127.0.0.1:1 example.org") + "\n}\nwww.example.org:53001 {\n" + into("127.0.0.1:1 example.org") + "\n}", "plugin/failover: Corefile:9 - Error during parsing: " + `update of "www.example.org." at 127.0.0.1:1, which that of Corefile:3 writes already, want it written once`},
		{"example.org:0 {\n    failover {\n    update 127.0.0.1:1 example.org\n    }\n    failover " + deep + " 127.0.0.1:443\n}", key + `update of "` + deep + `.", whose marker "_failover.` + deep + `." is too long a name`},
		{"example.org:0 {\n    " + defaulting("status :53054\nstatus 127.0.0.1:53054") + "\n}", "plugin/failover: Corefile:4 - Error during parsing: " + `status 127.0.0.1:53054 beside :53054 of Corefile:3, which has it already, want one of them, or another port`},
		{"example.org:0 {\n    " + defaulting("status [2001:db8::1]:53054") + "\n}\nexample.net:0 {\nfailover {\nstatus 0.0.0.0:53054\n}\nfailover example.net 192.0.2.1:443\n}", "plugin/failover: Corefile:9 - Error during parsing: " + `status 0.0.0.0:53054 beside [2001:db8::1]:53054 of Corefile:3, which has it already, want one of them, or another port`},
		{"example.org:0 {\n    " + defaulting("status 127.0.0.1:53054\nstatus localhost:053054") + "\n}", "plugin/failover: Corefile:4 - Error during parsing: " + `status localhost:053054 beside 127.0.0.1:53054 of Corefile:3, which has it already, want one of them, or another port`},
		{"example.org:0 {\n    failover www.example.org 127.0.0.1:443\n    loadbalance\n}", position + `loadbalance in the same server block would shuffle the answers, want a server block of their own for the names, or no loadbalance`},
	}
	for _, tc := range tests {
		instance, err := caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(tc.corefile), ServerTypeName: "dns"})
		if err == nil {
			instance.ShutdownCallbacks()
			instance.Stop()
			t.Errorf("Started, want %s\n%s", tc.want, tc.corefile)
			continue
		}
		if err.Error() != tc.want {
			t.Errorf("Got\n%s\nwant\n%s", err, tc.want)
		}
	}
	process.mu.Lock()
	defer process.mu.Unlock()
	if n := len(process.generations); n != 0 {
		t.Errorf("%d generations go on after a start that failed, want none", n)
	}
}

func TestConfigWrong(t *testing.T) {
	const namesFirst = "want failover NAME... ADDRESS..."
	const (
		addr     = "want one such as 192.0.2.10, 192.0.2.10:443 or [2001:db8::10]:443"
		words    = "want one of allow, answer, backup, failback, fall, fallback, from, hold, https, interval, limit, min, ns, order, prefer, primary, probe, quorum, recheck, require, rise, share, soa, srv, startup, state, status, timeout, ttl, update"
		kinds    = "want one of dns, exec, grpc, grpcs, http, https, icmp, tcp, tls"
		unicast  = "is not the address of one host, want a unicast address"
		label    = "want a host name label: letters, digits and hyphens"
		port     = "want a number from 1 to 65535"
		noPort   = "no port for 192.0.2.10, want one with the address, as in 192.0.2.10:443, or in the probe's URL"
		from100  = "want a duration from 100ms to 24h"
		from10   = "want a duration from 10ms to 24h"
		from0    = "want a duration from 0s to 24h"
		to100    = "want a number from 1 to 100"
		seconds  = "want whole seconds from 1s to 168h"
		network  = "want a network such as 192.0.2.0/24"
		replies  = "want one of all, last, next, none, nxdomain, primary, refused, servfail, or IP addresses without a port"
		noName   = "a pool without a NAME, " + namesFirst
		before   = "a pool without a NAME before "
		escape   = "want three digits up to 255 behind the backslash"
		url      = "is not a URL, want one such as tcp://:443 or http://:8080/healthz"
		nothing  = "want nothing there"
		noMember = `pool "www.example.org." has no primary member, want at least one IP address, or from next`
		second   = "primary \"192.0.2.11:443\" beside the addresses of Testfile:1, want all of them in one place"
	)
	long := strings.Repeat("a", 64)
	tests := []struct {
		directives string
		line       int
		want       string
	}{
		// Words that are no property, among them those that may be one some day.
		{inBlock("primery 192.0.2.1"), 2, `unknown property "primery", ` + words},
		{inBlock("Rise 2"), 2, `unknown property "Rise", ` + words},
		{inBlock(`"" 2`), 2, `unknown property "", ` + words},
		{inBlock("from next"), 2, `from "next" beside the addresses of Testfile:1, want one or the other`},
		{"failover www.example.org {\nfrom next\nbackup 192.0.2.1\n}", 2, `from "next" beside the addresses of Testfile:3, want one or the other`},
		{into("192.0.2.53"), 2, `update "192.0.2.53" without a zone, want update SERVER ZONE [KEY [ALGORITHM]]`},
		{into(""), 2, `update without a value, want update SERVER ZONE [KEY [ALGORITHM]]`},
		{into("ns.example.org example.org"), 2, `update: "ns.example.org" is no IP address, ` + addr},
		{into("east=192.0.2.53 example.org"), 2, `update "east=192.0.2.53", want an address without a label`},
		{into("192.0.2.53:0 example.org"), 2, `update: port "0" in "192.0.2.53:0", ` + port},
		{into("224.0.0.1 example.org"), 2, `update: "224.0.0.1" ` + unicast},
		{into("192.0.2.53 " + long), 2, `update: "` + long + `" is no domain name`},
		{into("192.0.2.53 example.org " + long), 2, `update: key "` + long + `" is no domain name`},
		{into("192.0.2.53 example.org key hmac-md5"), 2, `update with the algorithm "hmac-md5", want one of hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384, hmac-sha512`},
		{into("192.0.2.53 *.example.org"), 2, `update of "*.example.org", want the zone that the name lies in`},
		{into("192.0.2.53 example.org hmac-sha256:key:c2VjcmV0"), 2, `update with a colon in its key, want the name of a key that tsig has in the same server block`},
		{into("192.0.2.53 example.org HMAC-SHA256 key"), 2, `update with the algorithm "HMAC-SHA256" before the key, want update SERVER ZONE KEY ALGORITHM`},
		{into("192.0.2.53 example.org key hmac-sha256 more"), 2, `update has "more" after its value, ` + nothing},
		{into("192.0.2.53 example.org\nupdate 192.0.2.53:53 example.org. key"), 3, `update "192.0.2.53:53" "example.org." stands here twice, first in line 2`},
		{into("192.0.2.53 example.net"), 2, `update of zone "example.net.", in which no pool of this server block has a name, want a zone with one`},
		{into("192.0.2.53 example.org\nupdate 192.0.2.53 www.example.org"), 2, `update of zone "example.org.", in which no pool of this server block has a name, want a zone with one`},
		{inBlock("update 192.0.2.53 example.org"), 2, `update in the directive of a pool or an overlay, want it with the defaults of the server block, in a directive without NAME, ADDRESS and from next`},
		{over("from next\nupdate 192.0.2.53 example.org"), 4, `update of an overlay, which is not written, want it with the defaults of the server block, for a pool with members`},
		{"failover {\nfrom next\nupdate 192.0.2.53 example.org\n}", 3, `update of an overlay, which is not written, want it with the defaults of the server block, for a pool with members`},
		{"failover {\nupdate 192.0.2.53 example.org\n}\nfailover {\nfrom next\nprobe tcp://:443\n}", 2, `update beside overlays only, which are not written, want a pool with a NAME and members`},
		{inBlock("allow 192.0.2.0/24"), 2, `allow "192.0.2.0/24" in a pool with addresses of its own, want it beside from next`},
		{inBlock("limit 100"), 2, `limit "100" in a pool with addresses of its own, want it beside from next`},
		{over("from file"), 3, `from "file", want next`},
		{over("from next next"), 3, `from has "next" after its value, want nothing there`},
		{over("from"), 3, `from without a value, want from next`},
		{"failover {\nfrom next\n}", 1, `probe "tcp://" has no port, and neither have the next plugin's answers, want one such as tcp://:443`},
		{over("from next\nprobe tls://"), 4, `probe "tls://" has no port, and neither have the next plugin's answers, want one such as tcp://:443`},
		{over("from next\nallow"), 4, `allow without a value, want allow CIDR...`},
		{over("from next\nallow 192.0.2.1"), 4, `allow "192.0.2.1", want a network such as 192.0.2.0/24`},
		{over("from next\nallow ::ffff:192.0.2.0/120"), 4, `allow "::ffff:192.0.2.0/120", want a network such as 192.0.2.0/24`},
		{over("from next\nallow 192.0.2.0/24 192.0.2.1/24"), 4, `allow "192.0.2.1/24" stands here twice`},
		{over("from next\nlimit 0"), 4, `limit "0", want a number from 1 to 100000`},
		{over("from next\nlimit 100001"), 4, `limit "100001", want a number from 1 to 100000`},
		{over("from next\nlimit 1 2"), 4, `limit has "2" after its value, want nothing there`},
		{over("from next") + "\n" + over("from next"), 5, `zone "example.org." is already in the overlay of Testfile:1, want each name once`},
		{over("from next") + "\nfailover example.org {\nfrom next\n}", 5, `name "example.org" is already in the pool of Testfile:1, want each name once`},
		{"failover *.example.org {\nfrom next\nprobe tcp://:80\n}", 1, `wildcard "*.example.org" with from next, want "example.org.": it is for all names at and below that`},
		{"failover www.example.com {\nfrom next\nprobe tcp://:80\n}", 1, `name "www.example.com" is outside of the server block, want a name in example.org.`},
		{"failover 192.0.2.1 {\nfrom next\nprobe tcp://:80\n}", 1, before + `"192.0.2.1", ` + namesFirst},
		{inBlock("srv"), 2, `srv without a value, want srv SERVICE...`},
		{inBlock("srv _http"), 2, `srv "_http", want a service without underscores, such as http or sip/udp`},
		{inBlock("srv http/sctp"), 2, `srv "http/sctp" has the protocol "sctp", want tcp or udp`},
		{inBlock("srv http/"), 2, `srv "http/" has the protocol "", want tcp or udp`},
		{inBlock("srv 80"), 2, `srv "80", want a service without underscores, such as http or sip/udp`},
		{inBlock("srv " + strings.Repeat("a", 63)), 2, `srv "` + strings.Repeat("a", 63) + `", want a service without underscores, such as http or sip/udp`},
		{inBlock("https no-default-alpn"), 2, `https with no-default-alpn, want alpn, too`},
		{inBlock("https mandatory=alpn"), 2, `https with "mandatory=alpn", want each key once, and with a parameter here: alpn`},
		{inBlock("https alpn=h2 mandatory=alpn,port"), 2, `https with "mandatory=alpn,port", want each key once, and with a parameter here: port`},
		{inBlock("https alpn="), 2, `https with "alpn", want a value`},
		{inBlock("https alpn=h2 mandatory=alpn,alpn"), 2, `https with "mandatory=alpn,alpn", want each key once, and with a parameter here: alpn`},
		{"failover www.example.org 192-0-2-7=192.0.2.1:1 {\nhttps\nfallback 192.0.2.7\n}", 1, `fallback "192.0.2.7" of pool "www.example.org." has the name "192-0-2-7" in SRV and HTTPS records, which is that of "192-0-2-7 192.0.2.1:1", want another label`},
		{inBlock("https ech=@@"), 2, `https "ech=@@", want parameters such as alpn=h2,h3: "ech=@@"`},
		{"failover www.example.org [fe80::1]:443", 1, `"[fe80::1]:443" is a link-local address, want one that means the same everywhere`},
		{inBlock("srv http HTTP/tcp"), 2, `srv "HTTP/tcp" stands here twice`},
		{inBlock("https port=443"), 2, `https "port=443", want it with the members: it is written by the pool`},
		{inBlock("https KEY4=192.0.2.1"), 2, `https "KEY4=192.0.2.1", want it with the members: it is written by the pool`},
		{inBlock("https h2"), 2, `https "h2", want parameters such as alpn=h2,h3: bad SVCB key: "h2"`},
		{inBlock("https alpn=h2\nhttps alpn=h2"), 3, `property "https" stands here twice, first in line 2`},
		{inBlock(`https "alpn=h2 port=1"`), 2, `https "alpn=h2 port=1", want a parameter such as alpn=h2,h3`},
		{over("from next\nsrv http"), 4, `srv beside from next, want it in a pool with addresses of its own`},
		{over("from next\nhttps"), 4, `https beside from next, want it in a pool with addresses of its own`},
		{"failover www.example.org 192.0.2.1 {\nsrv http\nprobe http://\n}", 1, `member "192.0.2.1" of pool "www.example.org." has no port, want one for its SRV records`},
		{"failover www.example.org {\nprimary a=192.0.2.1:1\nbackup A=192.0.2.2:1\nsrv http\n}", 3, `label "a" of member "A 192.0.2.2:1" of pool "www.example.org." is that of "a 192.0.2.1:1", want another: it is a name in SRV and HTTPS records, of one host`},
		{"failover www.example.org a=192.0.2.1:1 a=192.0.2.2:1 {\nhttps\n}", 1, `label "a" of member "a 192.0.2.2:1" of pool "www.example.org." is that of "a 192.0.2.1:1", want another: it is a name in SRV and HTTPS records, of one host`},
		{"failover www.example.org a=192.0.2.1:1 {\nsrv http\n}\nfailover a.www.example.org 192.0.2.1:1", 1, `pool "www.example.org." has the name "a.www.example.org.", too, which is that of the pool of Testfile:4, want another label or name`},
		{"failover www.example.org 192.0.2.1:1 {\nsrv http\n}\nfailover _http._tcp.www.example.org 192.0.2.1:1", 1, `pool "www.example.org." has the name "_http._tcp.www.example.org.", too, which is that of the pool of Testfile:4, want another label or name`},
		{"failover " + strings.Repeat("a.", 117) + "example.org 192.0.2.1:1 {\nsrv http\n}", 1, `pool "` + strings.Repeat("a.", 117) + `example.org." has the name "_http._tcp.` + strings.Repeat("a.", 117) + `example.org.", too, which is too long`},
		{inBlock("failback never"), 2, `failback "never", want auto or manual`},
		{inBlock("failback manual auto"), 2, `failback has "auto" after its value, want nothing there`},
		{inBlock("quorum most"), 2, `quorum "most", want majority, any, all, own or a number of sites from 1 to 99`},
		{inBlock("quorum 2 3"), 2, `quorum has "3" after its value, want nothing there`},
		{inBlock("require 0"), 2, `require "0", want all, any or a number of probes`},
		{inBlock("require most"), 2, `require "most", want all, any or a number of probes`},
		{inBlock("require 1 2"), 2, `require has "2" after its value, want nothing there`},
		{inBlock("require 2"), 2, `require "2" of the probes of "www.example.org.", of which there are 1, want as many at most`},
		{inBlock("probe tcp://\nprobe tcp://:80\nrequire 3"), 4, `require "3" of the probes of "www.example.org.", of which there are 2, want as many at most`},
		{"failover {\nrequire 2\n}\nfailover www.example.org 192.0.2.10:443", 4, `require "2" of the probes of "www.example.org.", of which there are 1, want as many at most`},
		{inBlock("status 127.0.0.1:9054"), 2, `status in the directive of a pool or an overlay, want it with the defaults of the server block, in a directive without NAME, ADDRESS and from next`},
		{inBlock("state /var/lib/failover"), 2, `state in the directive of a pool or an overlay, want it with the defaults of the server block, in a directive without NAME, ADDRESS and from next`},
		{inBlock("share etcd http://127.0.0.1:2379"), 2, `share in the directive of a pool or an overlay, want it with the defaults of the server block, in a directive without NAME, ADDRESS and from next`},
		{inBlock("watch"), 2, `unknown property "watch", ` + words},
		{inBlock("192.0.2.11:443"), 2, `unknown property "192.0.2.11:443", ` + words},
		{inBlock("rise 2\n\n# and\nriser 2"), 5, `unknown property "riser", ` + words},

		// The directive's own line.
		{"failover", 1, "no pool in this server block, want failover NAME... ADDRESS..., or from next"},
		{"failover {\nrise 2\n}", 1, "no pool in this server block, want failover NAME... ADDRESS..., or from next"},
		{"failover 192.0.2.10:443", 1, before + `"192.0.2.10:443", ` + namesFirst},
		{"failover 0/25 192.0.2.10:443", 1, before + `"0/25", ` + namesFirst},
		{"failover east=192.0.2.10 www.example.org", 1, before + `"east=192.0.2.10", ` + namesFirst},
		{"failover http://www.example.org 192.0.2.10:443", 1, before + `"http://www.example.org", ` + namesFirst},
		{"failover www.example.org 192.0.2.0/24", 1, `"192.0.2.0/24" is no IP address, ` + addr},
		{"failover www.example.org east=backend.example.org 192.0.2.10", 1, `"east=backend.example.org" is no IP address, ` + addr},
		{"failover www/x.example.net 192.0.2.10:443", 1, `name "www/x.example.net" is outside of the server block, want a name in example.org.`},

		// Escapes in names.
		{`failover \256.example.org 192.0.2.10:443`, 1, `"\\256.example.org" is no domain name: "\\256", ` + escape},
		{`failover \12.example.org 192.0.2.10:443`, 1, `"\\12.example.org" is no domain name: "\\12.", ` + escape},
		{`failover a.example.org\0 192.0.2.10:443`, 1, `"a.example.org\\0" is no domain name: "\\0", ` + escape},
		{`failover www.example.org\ 192.0.2.10:443`, 1, `"www.example.org\\" is no domain name: nothing stands behind the last backslash`},
		{defaulting(`soa ns1.example.org \999.example.org`), 2, `soa: "\\999.example.org" is no domain name: "\\999", ` + escape},
		{defaulting(`ns ns1.example.org\`), 2, `ns: "ns1.example.org\\" is no domain name: nothing stands behind the last backslash`},
		{into(`192.0.2.53 \300.example.org`), 2, `update: "\\300.example.org" is no domain name: "\\300", ` + escape},
		{into(`192.0.2.53 example.org \300`), 2, `update: key "\\300" is no domain name: "\\300", ` + escape},

		// The operation of the process.
		{defaulting("status 127.0.0.1:9054 token a token b"), 2, `status 127.0.0.1:9054: option "token" twice, want it once`},
		{defaulting("status unix:///run/failover.sock mode 0600 mode 0660"), 2, `status unix:///run/failover.sock: option "mode" twice, want it once`},
		{defaulting("status unix:///"), 2, `status "unix:///", want the path of a socket from the root, as in unix:///run/failover.sock`},
		{defaulting("status unix:///run/.."), 2, `status "unix:///run/..", want the path of a socket from the root, as in unix:///run/failover.sock`},
		{defaulting("status unix:///dev"), 2, `status unix:///dev: /dev is there and is no socket`},
		{defaulting("status 127.0.0.256:9054"), 2, `status "127.0.0.256:9054", want an address to listen at, as in 127.0.0.1:9054`},
		{defaulting(`state ""`), 2, `state "", want a file, such as /var/lib/failover/state`},
		{defaulting("share etcd http://192.0.2.7:2379 site a site b"), 2, `share: option "site" twice, want it once`},
		{defaulting("share etcd http://192.0.2.7:2379 etcd http://192.0.2.8:2379"), 2, `share: option "etcd" twice, want it once`},
		{defaulting("share etcd http://192.0.2.7:2379 http://192.0.2.8:2379 http://192.0.2.7:2379/ site a"), 2, `share: endpoint "http://192.0.2.7:2379/" stands here twice`},
		{"failover {\nprimary 192.0.2.10:443\n}", 1, noName},
		{"failover {\nbackup 192.0.2.10:443\n}", 1, noName},
		{`failover "" 192.0.2.10:443`, 1, before + `"", ` + namesFirst},
		{"failover www.example.org", 1, noMember},
		{"failover www.example.org {\n}", 1, noMember},
		{"failover www.example.org {\nbackup 192.0.2.10:443\n}", 1, noMember},
		{"failover www.example.net 192.0.2.10:443", 1, `name "www.example.net" is outside of the server block, want a name in example.org.`},
		{"failover www 192.0.2.10:443", 1, `name "www" is outside of the server block, want a name in example.org.`},
		{"failover badexample.org 192.0.2.10:443", 1, `name "badexample.org" is outside of the server block, want a name in example.org.`},
		{`failover bad\.example.org 192.0.2.10:443`, 1, `name "bad\\.example.org" is outside of the server block, want a name in example.org.`},
		{"failover org 192.0.2.10:443", 1, `name "org" is outside of the server block, want a name in example.org.`},
		{"failover *.org 192.0.2.10:443", 1, `name "*.org" is outside of the server block, want a name in example.org.`},
		{"failover . 192.0.2.10:443", 1, `name "." is outside of the server block, want a name in example.org.`},
		{"failover www.*.example.org 192.0.2.10:443", 1, `"www.*.example.org" has an asterisk inside, want it as the first label only`},
		{"failover *.*.example.org 192.0.2.10:443", 1, `"*.*.example.org" has an asterisk inside, want it as the first label only`},
		{"failover www..example.org 192.0.2.10:443", 1, `"www..example.org" is no domain name`},
		{"failover .example.org 192.0.2.10:443", 1, `".example.org" is no domain name`},
		{"failover " + long + ".example.org 192.0.2.10:443", 1, `"` + long + `.example.org" is no domain name`},
		{"failover " + strings.Repeat("abcdefg.", 32) + "example.org 192.0.2.10:443", 1, `"` + strings.Repeat("abcdefg.", 32) + `example.org" is no domain name`},
		{"failover a\u200d.example.org 192.0.2.10:443", 1, "\"a\\u200d.example.org\" is no domain name: idna: invalid label \"a\\u200d\""},
		{"failover www.example.org WWW.example.org. 192.0.2.10:443", 1, `name "WWW.example.org." is already in the pool of Testfile:1, want each name once`},
		{"failover www.example.org 192.0.2.10:443 other.example.org", 1, `"other.example.org" is no IP address, ` + addr},
		{www + "\nfailover a.example.org www.example.org 192.0.2.11:443", 2, `name "www.example.org" is already in the pool of Testfile:1, want each name once`},
		{"failover {\nrise 1\n}\nfailover {\nfall 1\n}\n" + www, 4, "second failover without NAME, want the defaults of a server block in one place, line 1"},

		// Addresses.
		{"failover www.example.org 192.0.2.256:443", 1, `"192.0.2.256:443" is no IP address, ` + addr},
		{"failover www.example.org 192.0.2.010", 1, `"192.0.2.010" is no IP address, ` + addr},
		{"failover www.example.org 192.0.2", 1, `"192.0.2" is no IP address, ` + addr},
		{"failover www.example.org 192.0.2.0/24", 1, `"192.0.2.0/24" is no IP address, ` + addr},
		{"failover www.example.org host:443", 1, `"host:443" is no IP address, ` + addr},
		{"failover www.example.org east=host", 1, `"east=host" is no IP address, ` + addr},
		{"failover www.example.org [2001:db8::1", 1, `"[2001:db8::1" is no IP address, ` + addr},
		{"failover www.example.org [2001:db8::1]443", 1, `"[2001:db8::1]443" is no IP address, ` + addr},
		{"failover www.example.org 2001:db8::1::2", 1, `"2001:db8::1::2" is no IP address, ` + addr},
		{"failover www.example.org tcp://192.0.2.1", 1, `"tcp://192.0.2.1" is no IP address, ` + addr},
		{inBlock("backup b.example.org"), 2, `"b.example.org" is no IP address, ` + addr},
		{inBlock(`backup ""`), 2, `"" is no IP address, ` + addr},
		{inBlock("backup none"), 2, `"none" is no IP address, ` + addr},
		{"failover www.example.org {\nprimary 192.0.2.1:443 east\n}", 2, `"east" is no IP address, ` + addr},
		{"failover www.example.org {\nbackup 192.0.2.2:443\nprimary east\n}", 3, `"east" is no IP address, ` + addr},
		{"failover www.example.org 0.0.0.0:443", 1, `"0.0.0.0:443" ` + unicast},
		{"failover www.example.org [::]:443", 1, `"[::]:443" ` + unicast},
		{"failover www.example.org 224.0.0.1:443", 1, `"224.0.0.1:443" ` + unicast},
		{"failover www.example.org ff02::1", 1, `"ff02::1" ` + unicast},
		{"failover www.example.org 255.255.255.255", 1, `"255.255.255.255" ` + unicast},
		{"failover www.example.org fe80::1%eth0", 1, `"fe80::1%eth0" has a zone, want an address that means the same everywhere`},
		{"failover www.example.org ::ffff:192.0.2.1", 1, `"::ffff:192.0.2.1" is an IPv4 address in IPv6 notation, want 192.0.2.1`},
		{"failover www.example.org 192.0.2.10:0", 1, `port "0" in "192.0.2.10:0", ` + port},
		{"failover www.example.org 192.0.2.10:65536", 1, `port "65536" in "192.0.2.10:65536", ` + port},
		{"failover www.example.org 192.0.2.10:-1", 1, `port "-1" in "192.0.2.10:-1", ` + port},
		{"failover www.example.org 192.0.2.10:", 1, `port "" in "192.0.2.10:", ` + port},
		{"failover www.example.org 192.0.2.10:https", 1, `port "https" in "192.0.2.10:https", ` + port},
		{"failover www.example.org [2001:db8::1]:99999", 1, `port "99999" in "[2001:db8::1]:99999", ` + port},
		{"failover www.example.org =192.0.2.10", 1, `label "" in "=192.0.2.10", ` + label},
		{"failover www.example.org -east=192.0.2.10", 1, `label "-east" in "-east=192.0.2.10", ` + label},
		{"failover www.example.org east-=192.0.2.10", 1, `label "east-" in "east-=192.0.2.10", ` + label},
		{"failover www.example.org ea.st=192.0.2.10", 1, `label "ea.st" in "ea.st=192.0.2.10", ` + label},
		{"failover www.example.org öst=192.0.2.10", 1, `label "öst" in "öst=192.0.2.10", ` + label},
		{"failover www.example.org " + long + "=192.0.2.10", 1, `label "` + long + `" in "` + long + `=192.0.2.10", ` + label},
		{"failover www.example.org 192.0.2.10:443 192.0.2.11:443 east=192.0.2.10:80", 1, `address "192.0.2.10" is in pool "www.example.org." twice, want each address once`},
		{inBlock("backup 192.0.2.10:443"), 2, `address "192.0.2.10" is in pool "www.example.org." twice, want each address once`},
		{"failover www.example.org 2001:db8::1 2001:DB8:0::1 {\nprobe tcp://:1\n}", 1, `address "2001:db8::1" is in pool "www.example.org." twice, want each address once`},
		{"failover www.example.org 192.0.2.10", 1, `member "192.0.2.10" of pool "www.example.org.": ` + noPort},
		{"failover www.example.org 192.0.2.10 {\nprobe http://\nprobe tls://\n}", 1, `member "192.0.2.10" of pool "www.example.org.": ` + noPort},
		{"failover www.example.org 192.0.2.11:443 {\nbackup east=192.0.2.10\n}", 2, `member "east 192.0.2.10" of pool "www.example.org.": ` + noPort},

		// Properties without a value, with too many, and said again.
		{inBlock("rise"), 2, `rise without a value, want rise COUNT`},
		{inBlock("backup"), 2, `backup without a value, want backup ADDRESS...`},
		{inBlock("probe"), 2, `probe without a value, want probe URL [OPTION...]`},
		{inBlock("rise 2 3"), 2, `rise has "3" after its value, ` + nothing},
		{inBlock("interval 2 s"), 2, `interval has "s" after its value, ` + nothing},
		{inBlock("fall 2 3 4"), 2, `fall has "4" after its value, ` + nothing},
		{inBlock("min 1 %"), 2, `min has "%" after its value, ` + nothing},
		{inBlock("answer 1 2"), 2, `answer has "2" after its value, ` + nothing},
		{inBlock("order fixed sorted"), 2, `order has "sorted" after its value, ` + nothing},
		{inBlock("fallback all none"), 2, `fallback has "none" after its value, ` + nothing},
		{inBlock("ttl 1 2 3"), 2, `ttl has "3" after its value, ` + nothing},
		{inBlock("rise 2\nfall 2\nrise 2"), 4, `property "rise" stands here twice, first in line 2`},
		{inBlock("order fixed\norder random"), 3, `property "order" stands here twice, first in line 2`},
		{"failover www.example.org {\nprimary 192.0.2.1:1\nprimary 192.0.2.2:1\n}", 3, `property "primary" stands here twice, first in line 2`},
		{inBlock("primary 192.0.2.11:443"), 2, second},

		// Durations.
		{inBlock("interval 99ms"), 2, `interval "99ms", ` + from100},
		{inBlock("interval 0"), 2, `interval "0", ` + from100},
		{inBlock("interval -5s"), 2, `interval "-5s", ` + from100},
		{inBlock("interval 25h"), 2, `interval "25h", ` + from100},
		{inBlock("interval 1d"), 2, `interval "1d", ` + from100},
		{inBlock("interval soon"), 2, `interval "soon", ` + from100},
		{inBlock("interval 99999999999999999999"), 2, `interval "99999999999999999999", ` + from100},
		{inBlock(`interval ""`), 2, `interval "", ` + from100},
		{inBlock("recheck 1ms"), 2, `recheck "1ms", ` + from10},
		{inBlock("recheck -1s"), 2, `recheck "-1s", ` + from10},
		{inBlock("timeout 9ms"), 2, `timeout "9ms", ` + from10},
		{inBlock("timeout 1e3s"), 2, `timeout "1e3s", ` + from10},
		{inBlock("hold -1s"), 2, `hold "-1s", ` + from0},
		{inBlock("hold 24h1s"), 2, `hold "24h1s", ` + from0},
		{inBlock("startup 11m"), 2, `startup "11m", want a duration from 0s to 10m`},
		{inBlock("startup -1"), 2, `startup "-1", want a duration from 0s to 10m`},
		{inBlock("timeout 6s"), 2, `timeout "6s" is longer than the interval of 5s, want no more than that`},
		{inBlock("recheck 6s"), 2, `recheck "6s" is longer than the interval of 5s, want no more than that`},
		{inBlock("timeout 2s\ninterval 1s"), 2, `timeout "2s" is longer than the interval of 1s, want no more than that`},
		{inBlock("interval 90s\nrecheck 2m"), 3, `recheck "2m" is longer than the interval of 1m30s, want no more than that`},
		{inBlock("interval 70m\nrecheck 2h"), 3, `recheck "2h" is longer than the interval of 1h10m, want no more than that`},
		{"failover {\ninterval 1s\n}\n" + inBlock("timeout 2s"), 5, `timeout "2s" is longer than the interval of 1s, want no more than that`},
		{"failover {\ntimeout 6s\n}\n" + www, 2, `timeout "6s" is longer than the interval of 5s, want no more than that`},

		// Counts.
		{inBlock("rise 0"), 2, `rise "0", ` + to100},
		{inBlock("rise -1"), 2, `rise "-1", ` + to100},
		{inBlock("rise 101"), 2, `rise "101", ` + to100},
		{inBlock("rise 1.5"), 2, `rise "1.5", ` + to100},
		{inBlock("rise two"), 2, `rise "two", ` + to100},
		{inBlock("fall 0"), 2, `fall "0", ` + to100},
		{inBlock("fall 3 0"), 2, `fall "0", want a number from 1 to 64`},
		{inBlock("fall 3 65"), 2, `fall "65", want a number from 1 to 64`},
		{inBlock("fall 3 x"), 2, `fall "x", want a number from 1 to 64`},
		{inBlock("fall 4 3"), 2, `fall "4" can never be reached in a window of "3", want a window of 4 results or more`},
		{inBlock("min 0"), 2, `min "0", want a number of members from 1, or a share such as 50%`},
		{inBlock("min -1"), 2, `min "-1", want a number of members from 1, or a share such as 50%`},
		{inBlock("min half"), 2, `min "half", want a number of members from 1, or a share such as 50%`},
		{inBlock("min 0%"), 2, `min "0%", want a share from 1% to 100%`},
		{inBlock("min 101%"), 2, `min "101%", want a share from 1% to 100%`},
		{inBlock("min %"), 2, `min "%", want a share from 1% to 100%`},
		{inBlock("min 33.3%"), 2, `min "33.3%", want a share from 1% to 100%`},
		{inBlock("min 2"), 2, `min "2" can never be reached in tier 0 of pool "www.example.org.", want 1 or less`},
		{"failover www.example.org 192.0.2.1:1 192.0.2.2:1 {\nbackup 192.0.2.3:1\nmin 2\n}", 3, `min "2" can never be reached in tier 1 of pool "www.example.org.", want 1 or less`},
		{"failover {\nmin 2\n}\n" + www, 4, `min "2" can never be reached in tier 0 of pool "www.example.org.", want 1 or less`},
		{inBlock("answer 0"), 2, `answer "0", want all or a number of addresses from 1`},
		{inBlock("answer -1"), 2, `answer "-1", want all or a number of addresses from 1`},
		{inBlock("answer some"), 2, `answer "some", want all or a number of addresses from 1`},

		// Words from a list.
		{inBlock("order roundrobin"), 2, `order "roundrobin", want one of fixed, sorted, cyclic, random`},
		{inBlock("order Fixed"), 2, `order "Fixed", want one of fixed, sorted, cyclic, random`},
		{inBlock(`order ""`), 2, `order "", want one of fixed, sorted, cyclic, random`},
		{inBlock("fallback panic"), 2, `fallback "panic", ` + replies},
		{inBlock("fallback 203.0.113.1:443"), 2, `fallback "203.0.113.1:443", ` + replies},
		{inBlock("fallback 0.0.0.0"), 2, `fallback "0.0.0.0", ` + replies},
		{inBlock("fallback 203.0.113.1 all"), 2, `fallback "all" beside addresses, want one or the other`},
		{"failover www.example.org\n{\nprimary 192.0.2.1:1\n}", 2, `unexpected "{", want it at the end of the line of failover`},
		{"failover www.example.org primary 192.0.2.1:1", 1, `"primary" behind a name, want it on a line of its own between braces`},
		{inBlock("failover api.example.org 192.0.2.1:1"), 2, `"failover" inside of the pool of line 1, want a "}" before it`},
		{inBlock("prefer ::ffff:192.0.2.0/120"), 2, `prefer "::ffff:192.0.2.0/120", want a network such as 192.0.2.0/24`},
		{"failover www.example.org [192.0.2.1]:80", 1, `"[192.0.2.1]:80" has brackets, want them around IPv6 addresses only`},
		{inBlock("fallback 203.0.113.1 203.0.113.1"), 2, `fallback "203.0.113.1" stands here twice`},
		{inBlock("prefer 192.0.2.1"), 2, `prefer "192.0.2.1", ` + network},
		{inBlock("prefer 192.0.2.0/33"), 2, `prefer "192.0.2.0/33", ` + network},
		{inBlock("prefer east"), 2, `prefer "east", ` + network},
		{inBlock("prefer 192.0.2.1/24 192.0.2.0/24"), 2, `prefer "192.0.2.0/24" stands here twice`},
		{inBlock("prefer 192.0.2.0/24 192.0.2.1/24"), 2, `prefer "192.0.2.1/24" stands here twice`},

		// TTLs.
		{inBlock("ttl 0"), 2, `ttl "0", ` + seconds},
		{inBlock("ttl 1500ms"), 2, `ttl "1500ms", ` + seconds},
		{inBlock("ttl -1"), 2, `ttl "-1", ` + seconds},
		{inBlock("ttl 169h"), 2, `ttl "169h", ` + seconds},
		{inBlock("ttl 1w"), 2, `ttl "1w", ` + seconds},
		{inBlock("ttl 5 forever"), 2, `ttl "forever", ` + seconds},
		{inBlock("ttl 60s 5s"), 2, `ttl "60s" "5s", want the smaller one first`},

		// Probes: the words are package probe's, the line is ours.
		{inBlock("probe tcp"), 2, `probe: "tcp" ` + url},
		{inBlock(`probe ""`), 2, `probe: "" ` + url},
		{inBlock("probe tpc://"), 2, `probe: unknown kind of probe "tpc", ` + kinds},
		{inBlock("probe dns:// rcode MAYBE"), 2, `probe: rcode "MAYBE", want one such as NOERROR or REFUSED`},
		{inBlock("probe dns://ns.example.org"), 2, `probe: host "ns.example.org" means nothing to dns, want dns://:PORT/NAME or dns:///NAME`},
		{"failover *.example.org 192.0.2.1 {\nprobe dns://\n}", 2, `probe: no name in URL "dns://", and a wildcard is none, want one as in dns:///www.example.org`},
		{inBlock("probe grpc:// insecure"), 2, `probe: unknown option "insecure" for grpc, want one of watch`},
		{inBlock("probe grpcs:// ca nowhere.pem"), 2, `probe: ca "nowhere.pem": stat nowhere.pem: no such file or directory`},
		{"failover www.example.org 192.0.2.10 {\nprobe grpc://\n}", 1, `member "192.0.2.10" of pool "www.example.org.": ` + noPort},
		{inBlock("probe icmp://:7"), 2, `probe: port "7" in URL "icmp://:7" means nothing to icmp, want icmp://`},
		{inBlock("probe exec:///no/such/check -v"), 2, `probe: program "/no/such/check": no such file or directory, want one that can be run`},
		{inBlock("probe exec://bin/true"), 2, `probe: host "bin" means nothing to exec, want exec:///PATH`},
		{inBlock("probe dns:// watch"), 2, `probe: unknown option "watch" for dns, want one of answer, rcode`},
		{inBlock("probe http:// satus 200"), 2, `probe: unknown option "satus" for http, want one of body, header, method, status, watch`},
		{inBlock("probe http:// status 200 status 201"), 2, `probe: option "status" twice, want it once`},
		{inBlock("probe http:// status 2xx"), 2, `probe: status "2xx", want codes from 100 to 599, such as 200-299,301`},
		{inBlock("probe http:// body ["), 2, "probe: body \"[\": error parsing regexp: missing closing ]: `[`"},
		{inBlock("probe http:// header X"), 2, `probe: option "header" takes 2 words, want header NAME VALUE`},
		{inBlock("probe tcp:// expect ("), 2, "probe: expect \"(\": error parsing regexp: missing closing ): `(`"},
		{inBlock(`probe tcp:// expect ""`), 2, `probe: expect "", want a regular expression`},
		{inBlock(`probe tcp:// send \q`), 2, `probe: send "\\q" has a wrong escape at "\\q", want one of \r \n \t \\ \xNN`},
		{inBlock("probe tcp://:70000"), 2, `probe: port "70000" in URL "tcp://:70000", want 1-65535`},
		{inBlock("probe tls:// ca nowhere.pem"), 2, `probe: ca "nowhere.pem": stat nowhere.pem: no such file or directory`},
		{inBlock("probe tls:// ca ."), 2, `probe: ca ".": not a regular file`},
		{inBlock("probe tls:// ca config.go"), 2, `probe: ca "config.go": no certificate in it, want PEM`},
		{inBlock("probe tls:// cert nowhere.pem key.pem"), 2, `probe: cert "nowhere.pem": stat nowhere.pem: no such file or directory`},
		{inBlock("probe tls:// expires never"), 2, `probe: expires "never", want a duration such as 72h`},
		{inBlock("probe tls:// ca config.go insecure ca"), 2, `probe: ca "config.go": no certificate in it, want PEM`},
		{inBlock("probe tcp://\nprobe tcp://x"), 3, `probe: host "x" means nothing to tcp, want tcp://:PORT or tcp://`},
		{"failover {\nprobe tpc://\n}\n" + www, 2, `probe: unknown kind of probe "tpc", ` + kinds},
		{"failover {\nprobe https://\n}\nfailover *.example.org 192.0.2.1", 2, `probe: no host in URL "https://", and a wildcard is none, want one as in https://www.example.org`},
		{"failover a_b%.example.org 192.0.2.1 {\nprobe https://\n}", 2, `probe: "a_b%.example.org" cannot be a host, want a name of letters, digits, hyphens and dots in the URL`},

		// Braces.
		{inBlock("rise 2 {\nfall 3\n}"), 2, `unexpected "{" after "rise", want one property on each line`},
		{inBlock("{\nfall 3\n}"), 2, `unexpected "{" after "{", want one property on each line`},
		{www + " { rise 2 }", 1, `unexpected "}" after "rise", want it on a line of its own`},
		{inBlock("rise 2 }"), 2, `unexpected "}" after "rise", want it on a line of its own`},
		{inBlock("rise 2") + " fall 2", 3, `unexpected "fall" after "}", want nothing there`},
		{inBlock("rise 2") + " fall", 3, `unexpected "fall" after "}", want nothing there`},
		{www + " {\n} www.example.org 192.0.2.1:443", 2, `unexpected "www.example.org" after "}", want nothing there`},
	}
	for _, tc := range tests {
		configs, err := configured(tc.directives, "dns://example.org.:53")
		if err == nil {
			t.Errorf("Accepted as %s, want line %d: %s\n%s", text(configs), tc.line, tc.want, tc.directives)
			continue
		}
		if want := fmt.Sprintf("Testfile:%d - Error during parsing: %s", tc.line, tc.want); err.Error() != want {
			t.Errorf("Got\n%s\nwant\n%s\nfrom\n%s", err, want, tc.directives)
		}
	}
}

// Names are inside a zone by their labels, not by their letters, and of nested zones the longest
// counts.
func TestConfigZones(t *testing.T) {
	tests := []struct {
		keys  []string
		names string
		wrong string // "": none
	}{
		{[]string{"example.org"}, "example.org a.example.org a.b.example.org", ""},
		{[]string{"example.org", "example.net"}, "a.example.net a.example.org", ""},
		{[]string{"example.org", "example.net"}, "a.example.net a.example.com", "a.example.com"},
		{[]string{"ample.org"}, "ex.ample.org example.org", "example.org"},
		{[]string{"example.org"}, "example.org.net", "example.org.net"},
		{[]string{"org"}, "example.org *.org org", ""},
		{[]string{"."}, "example.org *.org org . *", ""},
		{[]string{"a.example.org"}, "*.a.example.org", ""},
		{[]string{"a.example.org"}, "*.example.org", "*.example.org"},
		{[]string{"10.0.0.0/8"}, "1.0.0.10.in-addr.arpa", ""},
		{[]string{"tls://example.org:853", "https://example.net."}, "www.example.org www.example.net", ""},
	}
	for _, tc := range tests {
		_, err := configured("failover "+tc.names+" 192.0.2.1:443", tc.keys...)
		if tc.wrong == "" {
			if err != nil {
				t.Errorf("Names %s in %v are refused: %v", tc.names, tc.keys, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("name %q is outside of the server block", tc.wrong)) {
			t.Errorf("Names %s in %v: error %v, want that %s is outside", tc.names, tc.keys, err, tc.wrong)
		}
	}
}

// Whoever adds a property says here what is right and what is wrong.
func TestConfigProperties(t *testing.T) {
	examples := map[string]struct{ right, wrong string }{
		"primary":  {"primary 192.0.2.1:443", "primary east"},
		"backup":   {"backup 192.0.2.1:443", "backup east"},
		"probe":    {"probe tcp://:443", "probe tcp"},
		"require":  {"require any", "require none"},
		"interval": {"interval 1s", "interval 1ms"},
		"recheck":  {"recheck 1s", "recheck 1ms"},
		"timeout":  {"timeout 1s", "timeout 1ms"},
		"fall":     {"fall 3 5", "fall 5 3"},
		"rise":     {"rise 1", "rise 0"},
		"hold":     {"hold 1m", "hold -1m"},
		"min":      {"min 50%", "min 150%"},
		"answer":   {"answer 2", "answer 0"},
		"order":    {"order random", "order sideways"},
		"prefer":   {"prefer 192.0.2.0/24", "prefer 192.0.2.0"},
		"fallback": {"fallback last", "fallback first"},
		"ttl":      {"ttl 1 2", "ttl 2 1"},
		"startup":  {"startup 5s", "startup 1h"},
		"from":     {"from next", "from last"},
		"allow":    {"from next\nallow 192.0.2.0/24", "allow 192.0.2.0"},
		"limit":    {"from next\nlimit 5", "limit 0"},
		"srv":      {"srv http sip/udp", "srv http/sctp"},
		"https":    {`https alpn="h2,h3" mandatory=alpn`, "https h2"},
		"soa":      {"soa ns1.example.net hostmaster.example.org", "soa ns1.example.net"},
		"ns":       {"ns ns1.example.net ns2.example.net", "ns 192.0.2.53"},
		"update":   {"update 192.0.2.53 example.org", "update east example.org"},
		"failback": {"failback manual", "failback never"},
		"status":   {"status 127.0.0.1:9054", "status 9054"},
		"state":    {"state failover.state 5m", "state failover.state 5y"},
		"quorum":   {"quorum 2", "quorum most"},
		"share":    {"share etcd http://192.0.2.7:2379 http://192.0.2.8:2379 site fra prefix /dns/", "share consul http://192.0.2.7:8500"},
	}
	if got, want := slices.Sorted(maps.Keys(examples)), slices.Sorted(maps.Keys(properties)); !slices.Equal(got, want) {
		t.Fatalf("Examples of %v, want them of %v", got, want)
	}
	for word, e := range examples {
		members := "192.0.2.10:443"
		if slices.Contains([]string{"primary", "from", "allow", "limit"}, word) {
			members = ""
			e.right += "\nprobe tcp://:80"
		}
		pool := "failover www.example.org " + members + " {\n%s\n}"
		if ofBlock(property{word: word}) {
			pool = "failover {\n%s\n}\nfailover www.example.org " + members
		}
		if _, err := configured(fmt.Sprintf(pool, e.right), "example.org"); err != nil {
			t.Errorf("Right property %q is refused: %v", e.right, err)
		}
		_, err := configured(fmt.Sprintf(pool, e.wrong), "example.org")
		if err == nil {
			t.Errorf("Wrong property %q is accepted", e.wrong)
			continue
		}
		if bad := strings.Fields(e.wrong)[1]; !strings.HasPrefix(err.Error(), "Testfile:2 - ") || !strings.Contains(err.Error(), bad) {
			t.Errorf("Error of %q is %q, want line 2 and the word %q in it", e.wrong, err, bad)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 10 * time.Millisecond: "10ms", time.Second: "1s", 10 * time.Second: "10s", 90 * time.Second: "1m30s",
		time.Minute: "1m", 10 * time.Minute: "10m", time.Hour: "1h", 70 * time.Minute: "1h10m", 24 * time.Hour: "24h",
		time.Hour + 10*time.Second: "1h0m10s", 7 * 24 * time.Hour: "168h",
	} {
		if got := short(d); got != want {
			t.Errorf("%d is written %q, want %q", d, got, want)
		}
	}
}
