package probe

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// serveHTTPS serves with these protocols, in the order of the server's preference.
func serveHTTPS(t testing.TB, name string, protocols []string, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	cert, _, _ := trusted().sign(name, 100*time.Hour)
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = protocols[0] == "h2"
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protocols}
	s.StartTLS()
	s.TLS.NextProtos = protocols // StartTLS adds http/1.1
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func TestHTTP2(t *testing.T) {
	ca := file(t, trusted().pem)
	tests := map[string]struct {
		protocols []string
		words     string
		handler   http.HandlerFunc
		want      string
		proto     string
	}{
		"h2 only":        {[]string{"h2"}, "https:// ca CA", nil, "", "HTTP/2.0"},
		"both":           {[]string{"h2", "http/1.1"}, "https:// ca CA", nil, "", "HTTP/2.0"},
		"HTTP/1.1 only":  {[]string{"http/1.1"}, "https:// ca CA", nil, "", "HTTP/1.1"},
		"none in common": {[]string{"h3"}, "https:// ca CA", nil, "no protocol in common in the TLS handshake (ALPN): the probe offers h2, http/1.1", ""},
		"HEAD":           {[]string{"h2"}, "https:// ca CA method HEAD", nil, "", "HTTP/2.0"},
		"POST":           {[]string{"h2"}, "https:// ca CA method POST", nil, "", "HTTP/2.0"},
		"path and fields": {[]string{"h2"}, "https:///a/b?c=d ca CA header X-Test yes header X-Test no header User-Agent curl body ^/a/b.c=d_www.example.org:PORT_yes,no_curl$", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, strings.Join([]string{r.URL.String(), r.Host, strings.Join(r.Header.Values("X-Test"), ","), r.UserAgent()}, "_"))
		}, "", "HTTP/2.0"},
		"status": {[]string{"h2"}, "https:// ca CA", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "status 503, want 200-399", "HTTP/2.0"},
		"redirect": {[]string{"h2"}, "https:// ca CA status 302", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, "", "HTTP/2.0"},
		"body": {[]string{"h2"}, "https:// ca CA body ^well$", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "well") }, "", "HTTP/2.0"},
		"another body": {[]string{"h2"}, "https:// ca CA body ^well$", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ill") },
			`body is "ill", want match for "^well$"`, "HTTP/2.0"},
		"endless body": {[]string{"h2"}, "https:// ca CA body B", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write([]byte(strings.Repeat("A", 1<<10)))
			}
		}, `body is "AAAA...`, "HTTP/2.0"},
		"silent": {[]string{"h2"}, "https:// ca CA", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "timeout while reading", "HTTP/2.0"},
		"panics": {[]string{"h2"}, "https:// ca CA", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "...", "HTTP/2.0"},
		"large header": {[]string{"h2"}, "https:// ca CA", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Large", strings.Repeat("A", 2*maxHeader))
		}, "...", "HTTP/2.0"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spoken := make(chan string, 1)
			target := serveHTTPS(t, "www.example.org", tc.protocols, func(w http.ResponseWriter, r *http.Request) {
				select {
				case spoken <- r.Proto:
				default:
				}
				if tc.handler != nil {
					tc.handler(w, r)
				}
			})
			timeout := soon
			if strings.HasPrefix(tc.want, "timeout") {
				timeout = 2 * brief
			}
			_, port, _ := strings.Cut(target.String(), ":")
			words := strings.Fields(strings.NewReplacer("CA", ca, "PORT", port).Replace(tc.words))
			err := ask(t, mustParse(t, words...), target, timeout)
			if tc.want == "..." && err == nil {
				t.Error("The probe passes")
			}
			wantError(t, err, tc.want)
			if tc.proto != "" {
				if got := <-spoken; got != tc.proto {
					t.Errorf("The server was asked over %s, want %s", got, tc.proto)
				}
			}
		})
	}
}

// The member's own address can take the place of the host.
func TestVerifyAddress(t *testing.T) {
	ca := file(t, trusted().pem)
	ok := func(http.ResponseWriter, *http.Request) {}
	own, other := "127.0.0.1", "127.0.0.2"
	for _, tc := range []struct{ cert, words, want string }{
		{own, "https:// ca CA verify address", ""},
		{own, "tls:// ca CA verify address", ""},
		{own, "https:// ca CA", "x509: certificate is not valid for any names, but wanted to match www.example.org; it is valid for the address 127.0.0.1, which the option verify address verifies"},
		{own, "tls:// ca CA", "x509: certificate is not valid for any names, but wanted to match www.example.org; it is valid for the address 127.0.0.1, which the option verify address verifies"},
		{other, "https:// ca CA", "x509: certificate is not valid for any names, but wanted to match www.example.org"},
		{other, "https:// ca CA verify address", "x509: certificate is valid for 127.0.0.2, not 127.0.0.1"},
		{"www.example.org", "https:// ca CA verify address", "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"},
		{own, "https:// verify address", "x509: certificate signed by unknown authority"},
	} {
		target := serveHTTPS(t, tc.cert, []string{"h2", "http/1.1"}, ok)
		words := strings.Fields(strings.Replace(tc.words, "CA", ca, 1))
		wantError(t, ask(t, mustParse(t, words...), target, soon), tc.want)
	}
	spec, err := Parse([]string{"tls://", "verify", "address"}, "", "") // a wildcard has no host
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := ExpiryOf(spec.Prober); !ok || e != (Expiry{}) {
		t.Errorf("The expiry of %s is %+v, %t", spec, e, ok)
	}
}

// A probe notes the certificate that it saw, also if it fails afterwards.
func TestCertificate(t *testing.T) {
	ca := file(t, trusted().pem)
	target := serveHTTPS(t, "www.example.org", []string{"http/1.1"}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	seen := make(map[Certificate]bool)
	for _, words := range []string{"https:// ca CA expires 168h", "https:// ca CA expires 168h fail", "tls:// ca CA", "https:// insecure"} {
		spec := mustParse(t, strings.Fields(strings.Replace(words, "CA", ca, 1))...)
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		var c Certificate
		_ = spec.Probe(WithCertificate(ctx, &c), target)
		cancel()
		if left := time.Until(c.NotAfter); left < 99*time.Hour || left > 100*time.Hour {
			t.Errorf("%s: the certificate ends in %s, want 100h", words, left)
		}
		seen[c] = true
	}
	if len(seen) != 1 {
		t.Errorf("The probes saw %d certificates, want 1: %v", len(seen), seen)
	}
	if _, ok := ExpiryOf(mustParse(t, "tcp://").Prober); ok {
		t.Error("A tcp probe sees no certificate")
	}
	if e, ok := ExpiryOf(mustParse(t, "grpcs://", "expires", "2h", "fail").Prober); !ok || e != (Expiry{2 * time.Hour, true}) {
		t.Errorf("The expiry is %+v, %t", e, ok)
	}
}

func BenchmarkHTTPS(b *testing.B) {
	ca := file(b, trusted().pem)
	for _, protocols := range [][]string{{"http/1.1"}, {"h2"}} {
		b.Run(protocols[0], func(b *testing.B) {
			target := serveHTTPS(b, "www.example.org", protocols, func(http.ResponseWriter, *http.Request) {})
			spec, err := Parse([]string{"https://", "ca", ca}, "www.example.org", "")
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := spec.Probe(b.Context(), target); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
