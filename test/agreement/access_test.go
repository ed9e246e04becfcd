package agreement

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/override"
	"github.com/coredns-failover/failover/plugin/share"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

// What a site may do is as small as this. In etcdctl's words:
//
//	etcdctl role add failover
//	etcdctl role grant-permission failover --prefix=true readwrite /failover/
//	etcdctl user add failover:PASSWORD
//	etcdctl user grant-role failover failover
//	etcdctl user add root:PASSWORD
//	etcdctl user grant-role root root
//	etcdctl auth enable
func TestUserAndPassword(t *testing.T) {
	t.Parallel()
	etcd := cluster(t, 1, func(c *embed.Config) {
		c.AuthTokenTTL = 4 // seconds
		c.BcryptCost = 4   // the least: what passwords cost is no matter here
	})
	c := admin(t, etcd[0].endpoint())
	prefix := share.DefaultPrefix
	must[*clientv3.AuthRoleAddResponse](t)(c.RoleAdd(brief(t), "failover"))
	must[*clientv3.AuthRoleGrantPermissionResponse](t)(c.RoleGrantPermission(brief(t), "failover", prefix,
		clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite)))
	must[*clientv3.AuthRoleAddResponse](t)(c.RoleAdd(brief(t), "reader"))
	must[*clientv3.AuthRoleGrantPermissionResponse](t)(c.RoleGrantPermission(brief(t), "reader", prefix,
		clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermRead)))
	must[*clientv3.AuthRoleAddResponse](t)(c.RoleAdd(brief(t), "root"))
	for user, role := range map[string]string{"root": "root", "failover": "failover", "reader": "reader"} {
		must[*clientv3.AuthUserAddResponse](t)(c.UserAdd(brief(t), user, "secret of "+user))
		must[*clientv3.AuthUserGrantRoleResponse](t)(c.UserGrantRole(brief(t), user, role))
	}
	must[*clientv3.AuthEnableResponse](t)(c.AuthEnable(brief(t)))

	as := func(site, user, password string) *site {
		return open(t, share.Config{Endpoints: endpoints(etcd), Site: site, User: user,
			PasswordFile: write(t, "password", password+"\n")})
	}
	fra, iad := as("fra", "failover", "secret of failover"), as("iad", "failover", "secret of failover")
	reader, wrong := as("nrt", "reader", "secret of reader"), as("syd", "failover", "guess")
	none := open(t, share.Config{Endpoints: endpoints(etcd), Site: "none"})
	fra.Cast(key(0), up)
	eventually(t, 10*time.Second, "a vote", func() bool { return iad.words(key(0)) == "fra:up" })
	stop := always(func() bool { return iad.words(key(0)) == "fra:up" })
	target := override.Target{Member: "192.0.2.1"}
	fra.Override(override.Override{Target: target, Action: override.Down, Since: time.Now()})
	eventually(t, 10*time.Second, "an override", func() bool { return iad.decisions() == "down 192.0.2.1" })
	fra.Let("www.example.org.", "192.0.2.1:80")
	eventually(t, 10*time.Second, "a member is let back", func() bool {
		iad.mu.Lock()
		defer iad.mu.Unlock()
		return len(iad.letBack) == 1
	})
	for words, s := range map[string]*site{"permission denied": reader, "authentication failed": wrong, "user name is empty": none} {
		eventually(t, 20*time.Second, words, func() bool { return s.logged(words) })
	}

	time.Sleep(12 * time.Second) // some tokens long
	fra.Cast(key(1), down)
	eventually(t, 10*time.Second, "it goes on", func() bool { return iad.words(key(1)) == "fra:down" })
	if n := stop(); n > 0 || fra.Stats().Errors > 0 {
		t.Errorf("%d times a vote was not there; %+v", n, fra.Stats())
	}
	fra.Close()
	eventually(t, time.Second, "its keys are gone", func() bool { return iad.words(key(0)) == "" })
}

// authority makes certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, key: must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, c, c, &a.key.PublicKey, a.key))
	a.cert = must[*x509.Certificate](t)(x509.ParseCertificate(der))
	a.file = write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return a
}

// issue makes a certificate for an address, and its key.
func (a *authority) issue(ip string) (cert, key string) {
	a.t.Helper()
	k := must[*ecdsa.PrivateKey](a.t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "etcd"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(ip)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der := must[[]byte](a.t)(x509.CreateCertificate(rand.Reader, c, a.cert, &k.PublicKey, a.key))
	pk := must[[]byte](a.t)(x509.MarshalPKCS8PrivateKey(k))
	return write(a.t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		write(a.t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})))
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t), newAuthority(t)
	serve := func(ip string) []string {
		etcd := cluster(t, 1, func(c *embed.Config) {
			for i := range c.ListenClientUrls {
				c.ListenClientUrls[i].Scheme, c.AdvertiseClientUrls[i].Scheme = "https", "https"
			}
			c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = ours.issue(ip)
			c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = ours.file, true
		})
		return endpoints(etcd)
	}
	good := serve("127.0.0.1")
	cert, key := ours.issue("127.0.0.1")
	otherCert, otherKey := others.issue("127.0.0.1")
	with := func(name string, endpoints []string, ca, cert, key string) *site {
		return open(t, share.Config{Endpoints: endpoints, Site: name, CA: ca, Cert: cert, Key: key})
	}
	fra, iad := with("fra", good, ours.file, cert, key), with("iad", good, ours.file, cert, key)
	eventually(t, 10*time.Second, "two sites", func() bool { return fra.fresh() == 2 && iad.fresh() == 2 })
	for words, s := range map[string]*site{
		"certificate signed by unknown authority": with("a", good, others.file, cert, key),
		"failed to verify certificate":            with("b", good, "", cert, key),
		"Votes are not shared":                    with("c", good, ours.file, "", ""), // TLS 1.3 tells it late, or not at all
		"tls:":                                    with("d", good, ours.file, otherCert, otherKey),
		"not 127.0.0.1":                           with("e", serve("127.0.0.2"), ours.file, cert, key),
	} {
		// The log has the first reason, which may be that the connection has ended: TLS 1.3 tells the other one late.
		eventually(t, 10*time.Second, words, func() bool { return s.logged(words) || strings.Contains(s.Stats().Lost, words) })
		if s.Stats().Connected {
			t.Errorf("%s: it is connected", words)
		}
	}
}
