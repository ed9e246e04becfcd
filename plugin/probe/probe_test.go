package probe

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseErrors(t *testing.T) {
	dir := t.TempDir()
	_, certPEM, keyPEM := trusted().sign("www.example.org", time.Hour)
	for name, text := range map[string][]byte{
		"empty.pem": nil, "text.pem": []byte("hello"), "cert.pem": certPEM, "key.pem": keyPEM,
		"bad.pem": []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const url = "not a URL, want one such as tcp://:443 or http://:8080/healthz"
	const letters = "holds blanks or letters that are not ASCII, want them percent-encoded, or as xn-- in a host"
	const host = "cannot be a host, want a name of letters, digits, hyphens and dots in the URL"
	const dialled = "is an address, want a name: only the member's address is dialled"
	const statuses = "want codes from 100 to 599, such as 200-299,301"
	const escapes = `want one of \r \n \t \\ \xNN`
	tests := []struct {
		words []string
		want  string
	}{
		// The URL.
		{nil, "no URL, want one such as tcp://:443 or http://:8080/healthz"},
		{[]string{""}, `"" is ` + url},
		{[]string{"tcp"}, `"tcp" is ` + url},
		{[]string{"http:/x"}, `"http:/x" is ` + url},
		{[]string{"tpc://:80"}, `unknown kind of probe "tpc", want one of dns, exec, grpc, grpcs, http, https, icmp, tcp, tls`},
		{[]string{"://:80"}, `unknown kind of probe "", want one of dns, exec, grpc, grpcs, http, https, icmp, tcp, tls`},
		{[]string{"http://me:secret@www.example.org/"}, "user in a URL, want the option header Authorization VALUE"},
		{[]string{"tcp://me@:80"}, "user in a URL, want the option header Authorization VALUE"},
		{[]string{"http://:80/a b"}, `URL "http://:80/a b" ` + letters},
		{[]string{"http://:80/\r\nX: y"}, `URL "http://:80/\r\nX: y" ` + letters},
		{[]string{"http://bücher.example/"}, `URL "http://bücher.example/" ` + letters},
		{[]string{"http://:80/#top"}, `URL "http://:80/#top" has a fragment, want none`},
		{[]string{"http://:80/%zz"}, `URL "http://:80/%zz": invalid URL escape "%zz"`},
		{[]string{"http://[::1/"}, `URL "http://[::1/": missing ']' in host`},
		{[]string{"http://:x/"}, `URL "http://:x/": invalid port ":x" after host`},
		{[]string{"tcp://:0"}, `port "0" in URL "tcp://:0", want 1-65535`},
		{[]string{"tcp://:65536"}, `port "65536" in URL "tcp://:65536", want 1-65535`},
		{[]string{"tcp://:"}, `port "" in URL "tcp://:", want 1-65535`},
		{[]string{"tcp://db.example.org:5432"}, `host "db.example.org" means nothing to tcp, want tcp://:PORT or tcp://`},
		{[]string{"tcp://5432"}, `host "5432" means nothing to tcp, want tcp://:PORT or tcp://`},
		{[]string{"tcp://:80/"}, `URL "tcp://:80/" has a path or a query, want tcp://:80`},
		{[]string{"tls://www.example.org?x"}, `URL "tls://www.example.org?x" has a path or a query, want tls://www.example.org`},
		{[]string{"dns://ns.example.org"}, `host "ns.example.org" means nothing to dns, want dns://:PORT/NAME or dns:///NAME`},
		{[]string{"dns://:53/a..b"}, `"a..b" cannot be a name to ask for, want labels of 1 to 63 letters, and 255 in all`},
		{[]string{"dns:///" + strings.Repeat("a", 64)}, `"` + strings.Repeat("a", 64) + `" cannot be a name to ask for, want labels of 1 to 63 letters, and 255 in all`},
		{[]string{"dns:///x?A"}, `query "A" in URL "dns:///x?A", want one such as ?type=AAAA`},
		{[]string{"dns:///x?"}, `query "" in URL "dns:///x?", want one such as ?type=AAAA`},
		{[]string{"dns:///x?type=A&type=B"}, `type "A&type=B" in URL "dns:///x?type=A&type=B", want one such as A, AAAA or SOA`},
		{[]string{"dns:///x?type=AXFR"}, `type "AXFR" in URL "dns:///x?type=AXFR", want one such as A, AAAA or SOA`},
		{[]string{"dns:///x?type=OPT"}, `type "OPT" in URL "dns:///x?type=OPT", want one such as A, AAAA or SOA`},
		{[]string{"dns:///x?type=TYPE65280"}, `type "TYPE65280" in URL "dns:///x?type=TYPE65280", want one such as A, AAAA or SOA`},
		{[]string{"dns:///x?type="}, `type "" in URL "dns:///x?type=", want one such as A, AAAA or SOA`},
		{[]string{"dns:///x?type=%zz"}, `query "type=%zz" in URL "dns:///x?type=%zz": invalid URL escape "%zz"`},
		{[]string{"grpc://:1/a?b"}, `URL "grpc://:1/a?b" has a query, want grpc://:1/a`},
		{[]string{"grpc:///a%20b"}, `service "a b", want a name such as my.pkg.Service`},
		{[]string{"grpcs://192.0.2.1"}, `host "192.0.2.1" ` + dialled},
		{[]string{"icmp://www.example.org"}, `host "www.example.org" means nothing to icmp, want icmp://`},
		{[]string{"icmp://:7"}, `port "7" in URL "icmp://:7" means nothing to icmp, want icmp://`},
		{[]string{"icmp:///x"}, `URL "icmp:///x" has a path or a query, want icmp://`},
		{[]string{"exec://bin/true"}, `host "bin" means nothing to exec, want exec:///PATH`},
		{[]string{"exec:///bin/true?x"}, `URL "exec:///bin/true?x" has a query, want the arguments behind it, each a word`},
		{[]string{"exec://"}, `no program in URL "exec://", want one as in exec:///usr/local/bin/check`},
		{[]string{"exec:///"}, `no program in URL "exec:///", want one as in exec:///usr/local/bin/check`},
		{[]string{"exec:///bin/true%00"}, `"/bin/true\x00" for a program holds a zero byte, want none`},
		{[]string{"exec:///bin/true", "a\x00"}, `"a\x00" for a program holds a zero byte, want none`},
		{[]string{"exec:///no/such/program"}, `program "/no/such/program": no such file or directory, want one that can be run`},
		{[]string{"exec:///etc"}, `program "/etc": is a directory, want one that can be run`},
		{[]string{"exec://" + dir + "/key.pem"}, `program "DIR/key.pem": permission denied, want one that can be run`},
		{[]string{"http://192.0.2.1/"}, `host "192.0.2.1" ` + dialled},
		{[]string{"https://[2001:db8::1]:443/"}, `host "2001:db8::1" ` + dialled},
		{[]string{"tls://192.0.2.1", "insecure"}, `host "192.0.2.1" ` + dialled},
		{[]string{"http://127.1/"}, `"127.1" ` + host},
		{[]string{"http://a..b/"}, `"a..b" ` + host},
		{[]string{"http://*.example.org/"}, `"*.example.org" ` + host},
		{[]string{"http://" + strings.Repeat("a", 64) + "/"}, `"` + strings.Repeat("a", 64) + `" ` + host},

		// Options of all kinds.
		{[]string{"http://", "foo"}, `unknown option "foo" for http, want one of body, header, method, status, watch`},
		{[]string{"https://", "Body", "x"}, `unknown option "Body" for https, want one of body, ca, cert, expires, header, insecure, method, status, verify, watch`},
		{[]string{"tcp://", "insecure"}, `unknown option "insecure" for tcp, want one of expect, send, watch`},
		{[]string{"tcp://", "watch", "watch"}, `option "watch" twice, want it once`},
		{[]string{"dns://", "watch"}, `unknown option "watch" for dns, want one of answer, rcode`},
		{[]string{"tls://", ""}, `unknown option "" for tls, want one of ca, cert, expect, expires, insecure, send, verify, watch`},
		{[]string{"http://", "header", "X-A"}, `option "header" takes 2 words, want header NAME VALUE`},
		{[]string{"http://", "method"}, `option "method" takes 1 words, want method M`},
		{[]string{"http://", "method", "GET", "method", "GET"}, `option "method" twice, want it once`},
		{[]string{"tls://", "insecure", "insecure"}, `option "insecure" twice, want it once`},

		{[]string{"dns://", "type", "A"}, `unknown option "type" for dns, want one of answer, rcode`},
		{[]string{"grpc://", "insecure"}, `unknown option "insecure" for grpc, want one of watch`},
		{[]string{"grpcs://", "send", "x"}, `unknown option "send" for grpcs, want one of ca, cert, expires, insecure, verify, watch`},
		{[]string{"icmp://", "x"}, `unknown option "x" for icmp, want none`},

		// Options of dns.
		{[]string{"dns://", "rcode", "0"}, `rcode "0", want one such as NOERROR or REFUSED`},
		{[]string{"dns://", "rcode", "BADVERS"}, `rcode "BADVERS", want one such as NOERROR or REFUSED`},
		{[]string{"dns://", "answer", "("}, "answer \"(\": error parsing regexp: missing closing ): `(`"},
		{[]string{"dns://", "answer"}, `option "answer" takes 1 words, want answer REGEX`},

		// Options of http and https.
		{[]string{"http://", "method", "get"}, `method "get", want one such as GET, HEAD or POST`},
		{[]string{"http://", "method", "CONNECT"}, `method "CONNECT", want one such as GET, HEAD or POST`},
		{[]string{"http://", "method", "GET /x"}, `method "GET /x", want one such as GET, HEAD or POST`},
		{[]string{"http://", "method", ""}, `method "", want one such as GET, HEAD or POST`},
		{[]string{"http://", "header", "host", "x"}, `header "host", want the host in the URL`},
		{[]string{"http://", "header", "connection", "x"}, `header "connection", want another: the probe writes this one itself`},
		{[]string{"http://", "header", "X:", "x"}, `header "X:", want a name such as Authorization`},
		{[]string{"http://", "header", "X-A", "a\r\nHost: b"}, `header X-A has the value "a\r\nHost: b", want no control characters`},
		{[]string{"http://", "status", "99"}, `status "99", ` + statuses},
		{[]string{"http://", "status", "200-600"}, `status "200-600", ` + statuses},
		{[]string{"http://", "status", "299-200"}, `status "299-200", ` + statuses},
		{[]string{"http://", "status", "200,"}, `status "200,", ` + statuses},
		{[]string{"http://", "status", "2xx"}, `status "2xx", ` + statuses},
		{[]string{"http://", "status", "+200"}, `status "+200", ` + statuses},
		{[]string{"http://", "body", "("}, "body \"(\": error parsing regexp: missing closing ): `(`"},
		{[]string{"http://", "body", ""}, `body "", want a regular expression`},
		{[]string{"http://", "body", "x", "method", "HEAD"}, `"body" with method HEAD, which has none, want one of them`},

		// Options of tcp and tls.
		{[]string{"tcp://", "expect", "a**"}, "expect \"a**\": error parsing regexp: invalid nested repetition operator: `**`"},
		{[]string{"tcp://", "send", ""}, `send "", want a text`},
		{[]string{"tcp://", "send", `a\q`}, `send "a\\q" has a wrong escape at "\\q", ` + escapes},
		{[]string{"tcp://", "send", `a\`}, `send "a\\" has a wrong escape at "\\", ` + escapes},
		{[]string{"tcp://", "send", `\x4`}, `send "\\x4" has a wrong escape at "\\x4", ` + escapes},
		{[]string{"tcp://", "send", `\x+4z`}, `send "\\x+4z" has a wrong escape at "\\x+4z", ` + escapes},

		// Options of tls and https.
		{[]string{"tls://", "expires", "0"}, `expires "0", want a duration such as 72h`},
		{[]string{"tls://", "expires", "-1h"}, `expires "-1h", want a duration such as 72h`},
		{[]string{"tls://", "expires", "30d"}, `expires "30d", want a duration such as 72h`},
		{[]string{"tls://", "expires", ""}, `expires "", want a duration such as 72h`},
		{[]string{"tls://", "expires", "fail"}, `expires "fail", want a duration such as 72h`},
		{[]string{"tls://", "expires", "72h", "warn"}, `unknown option "warn" for tls, want one of ca, cert, expect, expires, insecure, send, verify, watch`},
		{[]string{"tls://", "verify", "name"}, `verify "name", want address, or no verify to verify the host`},
		{[]string{"tls://", "verify"}, `option "verify" takes 1 words, want verify address`},
		{[]string{"https://", "verify", "address", "insecure"}, `"verify" with "insecure", want one of them: nothing is verified`},
		{[]string{"tls://", "expires", "99999999999999"}, `expires "99999999999999", want a duration such as 72h`},
		{[]string{"tls://", "ca", "no.pem"}, `ca "no.pem": stat DIR/no.pem: no such file or directory`},
		{[]string{"tls://", "ca", "."}, `ca ".": not a regular file`},
		{[]string{"tls://", "ca", "/dev/zero"}, `ca "/dev/zero": not a regular file`},
		{[]string{"tls://", "ca", "empty.pem"}, `ca "empty.pem": no certificate in it, want PEM`},
		{[]string{"tls://", "ca", "text.pem"}, `ca "text.pem": no certificate in it, want PEM`},
		{[]string{"tls://", "ca", "key.pem"}, `ca "key.pem": no certificate in it, want PEM`},
		{[]string{"tls://", "ca", "bad.pem"}, `ca "bad.pem": x509: malformed certificate`},
		{[]string{"https://", "ca", "cert.pem", "insecure"}, `"ca" with "insecure", want one of them: nothing is verified`},
		{[]string{"tls://", "cert", "no.pem", "key.pem"}, `cert "no.pem": stat DIR/no.pem: no such file or directory`},
		{[]string{"tls://", "cert", "cert.pem", "no.pem"}, `cert "no.pem": stat DIR/no.pem: no such file or directory`},
		{[]string{"tls://", "cert", "key.pem", "cert.pem"}, `cert "key.pem" "cert.pem": tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched`},
		{[]string{"tls://", "cert", "cert.pem", "text.pem"}, `cert "cert.pem" "text.pem": tls: failed to find any PEM data in key input`},
	}
	for _, tc := range tests {
		_, err := Parse(tc.words, "www.example.org", dir)
		if err == nil {
			t.Errorf("%q: no error, want %q", tc.words, tc.want)
			continue
		}
		if got := strings.ReplaceAll(err.Error(), dir, "DIR"); got != tc.want {
			t.Errorf("%q:\n got %s\nwant %s", tc.words, got, tc.want)
		}
	}
}

// A pool whose first name is a wildcard, or no host's.
func TestParseNoHost(t *testing.T) {
	for _, url := range []string{"http://:80/x", "https://:80/x", "tls://:80", "grpc://:80", "grpcs://:80/x"} {
		scheme, _, _ := strings.Cut(url, ":")
		_, err := Parse([]string{url}, "", "")
		wantError(t, err, `no host in URL "`+url+`", and a wildcard is none, want one as in `+scheme+`://www.example.org`)
		_, err = Parse([]string{url}, `a\.b.example.org`, "")
		wantError(t, err, `"a\\.b.example.org" cannot be a host, want a name of letters, digits, hyphens and dots in the URL`)
		_, err = Parse([]string{strings.Replace(url, ":80", "a.example.org:80", 1)}, "", "")
		wantError(t, err, "")
	}
	_, err := Parse([]string{"tls://:80", "insecure"}, "", "")
	wantError(t, err, "")
	_, err = Parse([]string{"tcp://:80"}, `a\.b`, "")
	wantError(t, err, "")
	_, err = Parse([]string{"dns://:53/"}, "", "")
	wantError(t, err, `no name in URL "dns://:53/", and a wildcard is none, want one as in dns:///www.example.org`)
}

func TestTarget(t *testing.T) {
	const none = `no port for 192.0.2.1, want one with the address, as in 192.0.2.1:443, or in the probe's URL`
	tests := []struct{ url, member, want, err string }{
		{"tcp://:5432", "192.0.2.1:80", "192.0.2.1:5432", ""},
		{"tcp://", "192.0.2.1:80", "192.0.2.1:80", ""},
		{"tcp://", "192.0.2.1:0", "invalid AddrPort", none},
		{"tls://", "192.0.2.1:0", "invalid AddrPort", none},
		{"http://", "192.0.2.1:0", "192.0.2.1:80", ""},
		{"http://", "192.0.2.1:8080", "192.0.2.1:8080", ""},
		{"https://:8443", "192.0.2.1:8080", "192.0.2.1:8443", ""},
		{"https://", "[2001:db8::1]:0", "[2001:db8::1]:443", ""},
		{"dns://", "192.0.2.1:0", "192.0.2.1:53", ""},
		{"grpc://", "192.0.2.1:0", "invalid AddrPort", none},
		{"exec:///bin/true", "192.0.2.1:0", "192.0.2.1:0", ""},
		{"exec:///bin/true", "192.0.2.1:80", "192.0.2.1:80", ""},
		{"exec://:81/bin/true", "192.0.2.1:80", "192.0.2.1:81", ""},
	}
	for _, tc := range tests {
		got, err := mustParse(t, tc.url).Target(netip.MustParseAddrPort(tc.member))
		wantError(t, err, tc.err)
		if got.String() != tc.want {
			t.Errorf("%s of %s: got %s, want %s", tc.url, tc.member, got, tc.want)
		}
	}
}

// Each line of words has a String of its own, which all the words in it share.
func TestString(t *testing.T) {
	caFile, copied, otherFile := file(t, trusted().pem), file(t, trusted().pem), file(t, other().pem)
	_, certPEM, keyPEM := trusted().sign("a", time.Hour)
	cert, key := file(t, certPEM), file(t, keyPEM)
	same := [][]string{
		{"tcp://", "tcp://:80", "TCP://:443"},
		{`tcp:// send a`, `tcp:// send \x61`}, {"tcp:// send b"},
		{"tcp:// expect ^a send a", "tcp:// send a expect ^a"}, {"tcp:// expect ^b send a"},
		{"tls://", "tls://:443", "tls://WWW.example.org", "tls://www.example.org."},
		{"tls://b.example.org"}, {"tls:// insecure"}, {"tls:// send a"}, {"tls:// expect a"},
		{"tls:// expires 1h", "tls:// expires 60m", "tls:// expires 3600"}, {"tls:// expires 2h"},
		{"tls:// ca " + caFile, "tls:// ca " + copied}, {"tls:// ca " + otherFile}, {"https:// ca " + caFile},
		{"tls:// cert " + cert + " " + key}, {"https:// cert " + cert + " " + key + " ca " + caFile, "https:// ca " + caFile + " cert " + cert + " " + key},
		{"http://", "http://:80", "http://:80/", "http://www.example.org", "http:// method GET", "http:// status 200-399", "http:// status 300-399,200-250,240-299"},
		{"https://"}, {"http:///x"}, {"http:///X"}, {"http://?x"}, {"http://b.example.org"}, {"http:// method HEAD"},
		{"http:// status 200,301", "http:// status 301,200", "http:// status 301-301,200-200,200"}, {"http:// status 200-301"},
		{"http:// header a b header c d", "http:// header C d header A b"},
		{"http:// header a b header a d"}, {"http:// header a d header a b"}, {"http:// header a d"}, {"http:// header c d"},
		{"http:// body a"}, {"http:// body b"}, {"https:// insecure"}, {"https:// expires 1h"}, {"https:// expires 1h fail"}, {"https:// verify address"},
		{"dns://", "dns://:53", "dns:///WWW.example.org.", "dns:///www.example%2eorg?type=a", "dns:// rcode noerror"},
		{"dns:///b.example.org"}, {"dns:///."}, {"dns://?type=AAAA"}, {"dns:// rcode REFUSED"}, {"dns:// answer a"}, {"dns:// answer b"},
		{"grpc://", "grpc://:80/", "grpc://WWW.example.org"}, {"grpc:///x"}, {"grpc:///X"}, {"grpc://b.example.org"},
		{"grpcs://"}, {"grpcs:///x"}, {"grpcs:// insecure"}, {"grpcs:// ca " + caFile, "grpcs:// ca " + copied}, {"grpcs:// expires 1h"},
		{"exec:///bin/true", "exec://:80/bin/true", "exec:///bin/tru%65"}, {"exec:///bin/false"},
		{"exec:///bin/true a b"}, {"exec:///bin/true b a"}, {"exec:///bin/true ab"},
	}
	seen := map[string]string{}
	for _, lines := range same {
		for _, line := range lines {
			p := mustParse(t, strings.Fields(line)...)
			if first := seen[p.String()]; first != "" && first != lines[0] {
				t.Errorf("%q and %q are both %s", line, first, p)
			}
			seen[p.String()] = lines[0]
			if got := mustParse(t, strings.Fields(lines[0])...).String(); p.String() != got {
				t.Errorf("%q is %s, and %q is %s", line, p, lines[0], got)
			}
			if scheme, _, _ := strings.Cut(p.String(), ":"); p.Kind() != scheme {
				t.Errorf("%q is of kind %s", line, p.Kind())
			}
		}
	}
	if got := mustParse(t, "tcp://:80").String(); got != "tcp://" {
		t.Errorf("got %s, want tcp://", got)
	}
	got := mustParse(t, "http://:80/x", "header", "Authorization", "secret").String()
	if strings.Contains(got, "secret") || !strings.HasPrefix(got, "http://www.example.org/x header Authorization sha256:") {
		t.Errorf("got %s, want a digest of the secret", got)
	}
}

// The file that a name means depends on root only where it is relative, and what is in it counts.
func TestRoot(t *testing.T) {
	name := file(t, trusted().pem)
	dir, base := filepath.Split(name)
	before, err := Parse([]string{"tls://", "ca", base}, "www.example.org", dir)
	if err != nil {
		t.Fatal(err)
	}
	if absolute, err := Parse([]string{"tls://", "ca", name}, "www.example.org", "/nowhere"); err != nil || absolute.String() != before.String() {
		t.Errorf("got %v, %v, want %s", absolute, err, before)
	}
	if err := os.WriteFile(name, other().pem, 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := Parse([]string{"tls://", "ca", base}, "www.example.org", dir)
	if err != nil || after.String() == before.String() {
		t.Errorf("got %v, %v, want another question than with the file replaced", after, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"tcp://", "tcp://:5432", `tcp://:25 send \x41\r\n expect ^220`, "tls://www.example.org expires 72h insecure",
		"http://:8080/healthz?x=1 method HEAD status 200-299,301", "https://www.example.org header a b header c d body ok",
		"http://[::1]:80/", "http://a@b/#c", "http://%41/%2f",
		"dns://:53/health.example.org?type=AAAA answer ^2001 rcode NOERROR", `dns:///%5c000%20.%00?type=SOA`, "dns:///.",
		"grpc://:9090/my.pkg.Service", "grpcs://www.example.org:9090 insecure expires 72h", "icmp://", "exec:///bin/sh -c exit", "exec://:1/bin/%00",
	} {
		f.Add(line, "www.example.org")
	}
	f.Add("http://:80", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		words := strings.Split(text, " ")
		if slices.Contains(words, "ca") || slices.Contains(words, "cert") {
			t.Skip("opens files")
		}
		s, err := Parse(words, name, "")
		if err != nil {
			if s.Prober != nil || err.Error() == "" {
				t.Errorf("got %v with error %q", s.Prober, err)
			}
			return
		}
		if again, err := Parse(words, name, ""); err != nil || again.String() != s.String() {
			t.Errorf("got %v, %v the second time, and %v the first", again, err, s)
		}
		if strings.ContainsAny(s.String(), "\r\n\x00") || !strings.HasPrefix(s.String(), s.Kind()+"://") {
			t.Errorf("got the canonical form %q", s)
		}
		target, err := s.Target(netip.MustParseAddrPort("[2001:db8::1]:81"))
		if err != nil || (target.Port() == 0) != (s.Kind() == "icmp") {
			t.Errorf("got target %s, %v", target, err)
		}
		switch p := s.Prober.(type) {
		case calling:
			if p, ok := p.Caller.(*web); ok {
				checkRequest(t, p)
			}
		case question:
			if p, ok := p.Prober.(*query); ok {
				checkQuestion(t, p)
			}
		}
	})
}

// checkRequest sees that a request is one, to the last byte, and is the one that was meant.
func checkRequest(t *testing.T, p *web) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(p.ask(p.usual)))
	req, err := http.ReadRequest(r)
	if err != nil {
		t.Fatalf("%q: %v", p.ask(p.usual), err)
	}
	if req.Method != p.method || req.Host != p.host || req.RequestURI != p.uri || !req.Close {
		t.Errorf("%q is read as %+v", p.ask(p.usual), req)
	}
	if rest, err := r.Peek(1); err == nil {
		t.Errorf("%q has %q after its end", p.ask(p.usual), rest)
	}
}

// checkQuestion sees that a question can be sent, and is the one that was meant.
func checkQuestion(t *testing.T, p *query) {
	t.Helper()
	asked, wire, err := p.compose()
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	wire[2] |= 0x80 // a reply
	reply, err := read(asked, wire)
	if err != nil || !strings.EqualFold(reply.Question[0].Name, p.name) || reply.Question[0].Qtype != p.qtype {
		t.Errorf("%s is read as %v, %v", p, reply, err)
	}
}
