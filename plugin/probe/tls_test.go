package probe

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func serverConfig(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

func TestTLS(t *testing.T) {
	ca := file(t, trusted().pem)
	cert := func(a authority, name string, left time.Duration) *tls.Config {
		c, _, _ := a.sign(name, left)
		return serverConfig(c)
	}
	good := cert(trusted(), "www.example.org", 100*time.Hour)
	old := good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	tests := map[string]struct {
		words  string
		config *tls.Config
		member func(net.Conn)
		want   string
	}{
		"good":            {"tls:// ca CA", good, silent, ""},
		"good otherwise":  {"tls://b.example.org ca CA", cert(trusted(), "b.example.org", time.Hour), silent, ""},
		"insecure":        {"tls:// insecure", cert(other(), "x.example.org", -time.Hour), silent, ""},
		"lasts":           {"tls:// ca CA expires 99h", good, silent, ""},
		"lasts, insecure": {"tls:// insecure expires 99h", good, silent, ""},
		"greets":          {"tls:// ca CA expect ^220", good, says("220 mail"), ""},
		"answers": {`tls:// ca CA send a\n expect A`, good, func(c net.Conn) {
			if n, _ := c.Read(make([]byte, 10)); n == 2 {
				says("A")(c)
			}
		}, ""},

		"expired":                 {"tls:// ca CA", cert(trusted(), "www.example.org", -time.Hour), silent, "x509: certificate has expired or is not yet valid: ..."},
		"expired, fail":           {"tls:// insecure expires 1h fail", cert(trusted(), "www.example.org", -3*time.Hour), silent, "certificate expired 3h ago, want 1h or more left"},
		"expires, fail":           {"tls:// ca CA expires 120h fail", good, silent, "certificate expires in 99h59m, want 120h or more"},
		"expires, insecure, fail": {"tls:// insecure expires 120h fail", good, silent, "certificate expires in 99h59m, want 120h or more"},
		"expires soon":            {"tls:// ca CA expires 120h", good, silent, ""},
		"expires soon, insecure":  {"tls:// insecure expires 120h", good, silent, ""},
		"expired, insecure":       {"tls:// insecure expires 120h", cert(trusted(), "www.example.org", -3*time.Hour), silent, ""},
		"lasts, fail":             {"tls:// ca CA expires 99h fail", good, silent, ""},
		"wrong name":              {"tls://b.example.org ca CA", good, silent, "x509: certificate is valid for www.example.org, not b.example.org"},
		"unknown authority":       {"tls:// ca CA", cert(other(), "www.example.org", time.Hour), silent, "x509: certificate signed by unknown authority..."},
		"system's roots":          {"tls://", good, silent, "x509: certificate signed by unknown authority"},
		"old":                     {"tls:// insecure", old, silent, "remote error: tls: protocol version not supported"},
		"greets wrongly":          {"tls:// ca CA expect ^220", good, func(c net.Conn) { io.WriteString(c, "421") }, `got "421", want match for "^220"`},
		"floods":                  {"tls:// ca CA expect B", good, floods("", "A"), `got "AAAAAAAAAAAAAAAAA...`},
		"drips":                   {"tls:// ca CA expect ^220", good, drips("A"), `timeout while reading: got "AA...`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := soon
			if strings.HasPrefix(tc.want, "timeout") {
				timeout = 2 * brief
			}
			words := strings.Fields(strings.Replace(tc.words, "CA", ca, 1))
			for _, address := range loopback {
				target := serveTLS(t, address, tc.config, nil, tc.member)
				wantError(t, ask(t, mustParse(t, words...), target, timeout), tc.want)
			}
		})
	}
}

// Members that fail before there is any TLS.
func TestTLSGarbage(t *testing.T) {
	tests := map[string]struct {
		member func(net.Conn)
		want   string
	}{
		"is silent": {silent, "timeout in the TLS handshake"},
		"drips":     {drips("\x16\x03\x03\xff"), "tls: ..."},
		"drips a hello": {func(c net.Conn) {
			io.WriteString(c, "\x16\x03\x03\x3f\xff\x02\x00\x3f\xf0")
			drips("\x03")(c)
		}, "timeout in the TLS handshake"},
		"says garbage": {says("220 mail.example.org\r\n"), "tls: first record does not look like a TLS handshake"},
		"floods":       {floods("", "\x16\x03\x03\x00\x01\x00"), "..."},
		"hangs up":     {hangsUp, "connection ..."},
		"resets":       {resets, "connection reset by peer in the TLS handshake"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := soon
			if strings.HasPrefix(tc.want, "timeout") {
				timeout = brief
			}
			target := serve(t, "127.0.0.1:0", tc.member)
			for _, url := range []string{"tls://", "https://"} {
				err := ask(t, mustParse(t, url), target, timeout)
				if err == nil {
					t.Fatal("passed")
				}
				wantError(t, err, tc.want)
			}
		})
	}
}

func TestSNI(t *testing.T) {
	ca := file(t, trusted().pem)
	cert, _, _ := trusted().sign("www.example.org", time.Hour)
	for family, address := range loopback {
		t.Run(family, func(t *testing.T) {
			hello := make(chan tls.ClientHelloInfo, 1)
			target := serveTLS(t, address, serverConfig(cert), hello, says("HTTP/1.1 200 OK\r\n\r\n"))
			for _, words := range [][]string{
				{"tls://", "ca", ca}, {"tls://WWW.example.org.", "ca", ca}, {"tls://", "insecure"}, {"https://", "ca", ca}, {"https://www.example.org", "insecure"},
			} {
				wantError(t, ask(t, mustParse(t, words...), target, soon), "")
				h := <-hello
				if h.ServerName != "www.example.org" {
					t.Errorf("%q: SNI %q, want www.example.org", words, h.ServerName)
				}
				want := ""
				if words[0][:5] == "https" {
					want = "h2 http/1.1"
				}
				if got := strings.Join(h.SupportedProtos, " "); got != want {
					t.Errorf("%q: ALPN %q, want %q", words, got, want)
				}
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	ca := file(t, trusted().pem)
	cert, certPEM, keyPEM := trusted().sign("www.example.org", time.Hour)
	_, otherPEM, otherKeyPEM := other().sign("www.example.org", time.Hour)
	pair := " cert " + file(t, certPEM) + " " + file(t, keyPEM)
	otherPair := " cert " + file(t, otherPEM) + " " + file(t, otherKeyPEM)
	config := serverConfig(cert)
	config.ClientCAs = x509.NewCertPool()
	config.ClientCAs.AddCert(trusted().cert)

	tests := map[string]struct {
		demand         tls.ClientAuthType
		pair           string
		want13, want12 string
	}{
		"none asked":    {tls.NoClientCert, pair, "", ""},
		"none needed":   {tls.VerifyClientCertIfGiven, "", "", ""},
		"good":          {tls.RequireAndVerifyClientCert, pair, "", ""},
		"none":          {tls.RequireAndVerifyClientCert, "", "remote error: tls: certificate required", "remote error: tls: handshake failure"},
		"other's":       {tls.RequireAndVerifyClientCert, otherPair, "remote error: tls: unknown certificate authority", "remote error: tls: unknown certificate authority"},
		"other's, mild": {tls.VerifyClientCertIfGiven, otherPair, "remote error: tls: unknown certificate authority", "remote error: tls: unknown certificate authority"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for version, want := range map[uint16]string{tls.VersionTLS12: tc.want12, tls.VersionTLS13: tc.want13} {
				config := config.Clone()
				config.ClientAuth, config.MaxVersion = tc.demand, version
				mute := serveTLS(t, "127.0.0.1:0", config, nil, silent)
				web := serveTLS(t, "127.0.0.1:0", config, nil, says("HTTP/1.1 200 OK\r\n\r\n"))
				wantError(t, ask(t, mustParse(t, strings.Fields("tls:// ca "+ca+tc.pair)...), mute, soon), want)
				wantError(t, ask(t, mustParse(t, strings.Fields("tls:// send x ca "+ca+tc.pair)...), mute, soon), want)
				wantError(t, ask(t, mustParse(t, strings.Fields("tls:// ca "+ca+tc.pair)...), web, soon), want)
				wantError(t, ask(t, mustParse(t, strings.Fields("https:// ca "+ca+tc.pair)...), web, soon), want)
			}
		})
	}
}

// Who did not ask for our certificate has no verdict on it to be waited for.
func TestNoVerdict(t *testing.T) {
	cert, _, _ := trusted().sign("www.example.org", time.Hour)
	target := serveTLS(t, "127.0.0.1:0", serverConfig(cert), nil, func(net.Conn) { time.Sleep(4 * brief) })
	wantError(t, ask(t, mustParse(t, "tls://", "insecure"), target, 2*brief), "")
}

func TestShort(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"3h12m": 3*time.Hour + 12*time.Minute + 59*time.Second, "72h": 72 * time.Hour, "20m": 20 * time.Minute,
		"1m30s": 90*time.Second + 999*time.Millisecond, "10s": 10 * time.Second, "0s": time.Millisecond, "10h10m": 10*time.Hour + 10*time.Minute,
	} {
		if got := short(d); got != want {
			t.Errorf("got %s for %s, want %s", got, d, want)
		}
	}
}
