package failover

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// signer is a server on loopback that answers every message with NOERROR, and as answer says.
func signer(t *testing.T, secrets map[string]string, answer func(w dns.ResponseWriter, r, m *dns.Msg)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{Listener: l, TsigSecret: secrets, MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) { answer(w, r, new(dns.Msg).SetReply(r)) })}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

const (
	key    = "failover.example.org."
	secret = "c2VjcmV0IG9mIGZhaWxvdmVyIGZvciB0ZXN0cyBvbmx5"
)

func TestExchange(t *testing.T) {
	signed := func(w dns.ResponseWriter, r, m *dns.Msg) {
		if w.TsigStatus() != nil || r.IsTsig() == nil {
			m.Rcode = dns.RcodeNotAuth
		} else {
			m.SetTsig(key, r.IsTsig().Algorithm, 300, time.Now().Unix())
		}
		w.WriteMsg(m)
	}
	tests := []struct {
		name   string
		update update
		answer func(w dns.ResponseWriter, r, m *dns.Msg)
		want   string // the result of the trouble
	}{
		{"signed", update{key: key, algorithm: dns.HmacSHA256, secret: secret}, signed, ""},
		{"signed by another algorithm", update{key: key, algorithm: dns.HmacSHA512, secret: secret}, signed, ""},
		{"without a key", update{}, func(w dns.ResponseWriter, _, m *dns.Msg) { w.WriteMsg(m) }, ""},
		{"an answer that is not signed", update{key: key, algorithm: dns.HmacSHA256, secret: secret}, func(w dns.ResponseWriter, _, m *dns.Msg) { w.WriteMsg(m) }, "unsigned"},
		{"a refusal that is not signed", update{key: key, algorithm: dns.HmacSHA256, secret: secret}, func(w dns.ResponseWriter, _, m *dns.Msg) {
			m.Rcode = dns.RcodeRefused
			w.WriteMsg(m)
		}, "refused"},
		{"a wrong signature", update{key: key, algorithm: dns.HmacSHA256, secret: secret}, func(w dns.ResponseWriter, r, m *dns.Msg) {
			m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
			wire, _, _ := dns.TsigGenerate(m, "d3Jvbmc=", r.IsTsig().MAC, false)
			w.Write(wire)
		}, "badsig"},
		{"a signature of another time", update{key: key, algorithm: dns.HmacSHA256, secret: secret}, func(w dns.ResponseWriter, _, m *dns.Msg) {
			m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix()-3600)
			w.WriteMsg(m)
		}, "badtime"},
		{"the answer to another message", update{}, func(w dns.ResponseWriter, _, m *dns.Msg) {
			m.Id++
			w.WriteMsg(m)
		}, "unreachable"},
		{"no answer", update{}, func(w dns.ResponseWriter, _, _ *dns.Msg) { w.Close() }, "unreachable"},
		{"half an answer", update{}, func(w dns.ResponseWriter, _, m *dns.Msg) {
			wire, _ := m.Pack()
			w.Write(wire[:13])
			w.Close()
		}, "unreachable"},
		{"another clock", update{key: key, algorithm: dns.HmacSHA256, secret: secret}, func(w dns.ResponseWriter, r, m *dns.Msg) {
			m.Rcode = dns.RcodeNotAuth
			m.SetTsig(key, dns.HmacSHA256, 300, int64(r.IsTsig().TimeSigned))
			t := m.IsTsig()
			t.Error, t.OtherLen, t.OtherData = dns.RcodeBadTime, 6, hex.EncodeToString(make([]byte, 6))
			w.WriteMsg(m)
		}, "badtime"},
		{"another key", update{key: key, algorithm: dns.HmacSHA256, secret: secret}, func(w dns.ResponseWriter, _, m *dns.Msg) {
			m.Rcode = dns.RcodeNotAuth
			m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
			m.IsTsig().Error = dns.RcodeBadKey
			w.WriteMsg(m)
		}, "badkey"},
		{"another secret", update{key: key, algorithm: dns.HmacSHA256, secret: "d3Jvbmc="}, func(w dns.ResponseWriter, _, m *dns.Msg) {
			m.Rcode = dns.RcodeNotAuth
			m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
			m.IsTsig().Error = dns.RcodeBadSig
			w.WriteMsg(m)
		}, "badsig"},
		{"no primary", update{}, func(w dns.ResponseWriter, _, m *dns.Msg) {
			m.Rcode = dns.RcodeNotAuth
			w.WriteMsg(m)
		}, "notauth"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			u := tc.update
			u.zone = "example.org."
			u.server = signer(t, map[string]string{key: secret}, tc.answer)
			r, err := u.exchange(context.Background(), u.begin("www.example.org."))
			trouble, got := u.troubleOf(r, err), ""
			if trouble != nil {
				got = trouble.result
			}
			if got != tc.want {
				t.Errorf("The trouble is %q, want %q: %+v, %v", got, tc.want, trouble, err)
			}
		})
	}
}

func TestExchangeUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := update{server: l.Addr().(*net.TCPAddr).AddrPort(), zone: "example.org."}
	// It accepts the connection, and that is all: the end of the context ends it.
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	began := time.Now()
	if r, err := u.exchange(ctx, u.begin("www.example.org.")); err == nil {
		t.Errorf("The answer is %v", r)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("It took %s to give up", took)
	}
	l.Close()
	_, err = u.exchange(context.Background(), u.begin("www.example.org."))
	if trouble := u.troubleOf(nil, err); trouble.result != "unreachable" || trouble.why != "connection refused" {
		t.Errorf("The trouble is %+v, want that the connection is refused", trouble)
	}
}

func TestTroubleOf(t *testing.T) {
	for rcode, want := range map[int]string{
		dns.RcodeSuccess: "", dns.RcodeNameError: "", dns.RcodeYXDomain: "", dns.RcodeYXRrset: "", dns.RcodeNXRrset: "",
		dns.RcodeRefused: "refused", dns.RcodeServerFailure: "servfail whole", dns.RcodeNotZone: "notzone whole",
		dns.RcodeNotAuth: "notauth whole", dns.RcodeNotImplemented: "notimp whole", dns.RcodeFormatError: "other", 14: "other",
	} {
		m := new(dns.Msg)
		m.Rcode = rcode
		got := ""
		if trouble := new(update).troubleOf(m, nil); trouble != nil {
			got = strings.TrimSpace(trouble.result + map[bool]string{true: " whole"}[trouble.whole])
		}
		if got != want {
			t.Errorf("%s is the trouble %q, want %q", dns.RcodeToString[rcode], got, want)
		}
	}
	if trouble := new(update).troubleOf(nil, errors.New("no answer")); trouble.result != "unreachable" || !trouble.whole {
		t.Errorf("No answer is the trouble %+v", trouble)
	}
}
