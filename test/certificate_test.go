package test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A certificate that ends within the period of expires is a line in the log and a metric, and the member stays up. With
// fail it is down.
func TestCertificateExpires(t *testing.T) {
	web := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	end := web.Certificate().NotAfter
	period := (time.Until(end) + 24*time.Hour).Truncate(time.Hour)
	for _, fail := range []bool{false, true} {
		word := map[bool]string{true: " fail"}[fail]
		lines := record(t)
		s := start(t, block(fmt.Sprintf("failover www.example.org m=%s {\n probe https:// insecure status 404 expires %s%s\n fallback none\n}\nfailover a.example.org %s {\n probe https:// insecure status 404 expires %s\n}",
			web.Listener.Addr(), period, word, web.Listener.Addr(), period)))
		member := "m " + web.Listener.Addr().String()
		if fail {
			eventually(t, bound, "the member is down", func() bool { return len(addresses(s.ask("www.example.org.", dns.TypeA))) == 0 })
		} else {
			wantAddresses(t, s.ask("www.example.org.", dns.TypeA), "127.0.0.1")
			eventually(t, bound, "the log warns", func() bool { return len(lines("Certificate of "+web.Listener.Addr().String()+" (https://")) > 0 })
			if n := len(lines("Certificate of")); n != 1 {
				t.Errorf("The log has %d lines of one certificate, want 1", n)
			}
		}
		eventually(t, bound, "there is a metric", func() bool {
			v, ok := metric(t, "coredns_failover_certificate_expiry_timestamp_seconds", "pool=www.example.org.", "member="+member)
			return ok && v == float64(end.Unix())
		})
		s.stop()
	}
}
