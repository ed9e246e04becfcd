package test

import (
	"testing"

	"github.com/miekg/dns"
)

// ANY for a name that has records, though no addresses, is not NODATA: the answer is one of the sets that the
// name has (RFC 8482, section 4.1).
func TestPeerAny(t *testing.T) {
	s := start(t, block(downPool(t, "www.example.org", "fallback none"), `template IN ANY www.example.org {
        answer "{{ .Name }} 60 IN TXT below"
    }`))
	if m := s.ask("www.example.org.", dns.TypeANY); m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
		t.Errorf("The answer over template is\n%v\nwant its TXT record", m)
	}
}
