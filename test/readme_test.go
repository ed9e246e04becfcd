package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// loopback puts an address in place of each one that is for documentation (RFC 5737, RFC 3849): what
// a README shows is probed, and no packet of a test leaves the machine.
var loopback = strings.NewReplacer(
	"192.0.2.", "127.0.2.",
	"198.51.100.", "127.51.100.",
	"203.0.113.", "127.0.113.",
	"2001:db8::30", "::1",
)

// corefiles are the blocks of a page that are whole Corefiles.
func corefiles(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile(`(?ms)^~~~ corefile\n(.*?)^~~~$`).FindAllSubmatch(text, -1) {
		found = append(found, string(m[1]))
	}
	return found
}

func TestReadmeStarts(t *testing.T) {
	found := corefiles(t, "../README.md")
	if len(found) < 5 {
		t.Fatalf("README.md has %d Corefiles, want more", len(found))
	}
	furnished := furnish(t)
	port := dnsserver.Port
	dnsserver.Port = "0"
	t.Cleanup(func() { dnsserver.Port = port })

	for i, corefile := range found {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			mapped := strings.ReplaceAll(loopback.Replace(corefile), "/usr/local/bin", furnished)
			if outside := regexp.MustCompile(`2001:db8|192\.0\.2|198\.51\.100|203\.0\.113`).FindString(mapped); outside != "" {
				t.Fatalf("%s is not mapped onto loopback in\n%s", outside, corefile)
			}
			// Only listen on loopback, too, and where nobody else does.
			mapped = strings.NewReplacer(":1053", ":0", "    bind 127.0.0.1\n", "", ":9054", ":"+freePort(t), "/run/", furnished+"/").Replace(mapped)
			mapped = regexp.MustCompile(`(?m)^(\S.*\{)$`).ReplaceAllString(mapped, "$1\n    bind 127.0.0.1")
			s := start(t, mapped)

			names := regexp.MustCompile(`failover ([a-z.*]+\.example\.org)`).FindAllStringSubmatch(mapped, -1)
			if len(names) == 0 && !strings.Contains(corefile, "from next") {
				t.Fatalf("No pool in\n%s", corefile)
			}
			if len(names) == 0 {
				wantAddresses(t, &dns.Msg{Answer: s.ask("ns.example.org.", dns.TypeA).Answer}, "127.0.0.1") // of the zone file
			}
			for _, name := range names {
				asked := strings.Replace(name[1], "*", "any", 1) + "."
				r := s.ask(asked, dns.TypeA)
				// No member is there, so it is the fallback that answers, which may be NODATA.
				if r.Rcode != dns.RcodeSuccess || !r.Authoritative || len(r.Answer) == 0 && !strings.Contains(corefile, "fallback none") {
					t.Errorf("The answer to %s is %v, from\n%s", asked, r, corefile)
				}
			}
		})
	}
}

// furnish changes to a directory that has every file that the README's Corefiles name, and returns its path.
func furnish(t *testing.T) string {
	t.Helper()
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns").Output()
	if err != nil {
		t.Fatal(err)
	}
	cities, err := os.ReadFile(filepath.Join(string(bytes.TrimSpace(module)), "plugin/geoip/testdata/GeoLite2-City.mmdb"))
	if err != nil {
		t.Fatal(err)
	}
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	secret, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for name, content := range map[string][]byte{
		"GeoLite2-City.mmdb":              cities,
		"Kexample.org.+013+45330.key":     []byte(key.String() + "\n"),
		"Kexample.org.+013+45330.private": []byte(key.PrivateKeyString(secret)),
		"failover.token":                  []byte("a token for tests only\n"),
		"db.example.org": []byte("$ORIGIN example.org.\n@ 3600 IN SOA ns hostmaster 1 7200 1800 86400 300\n" +
			"@ 3600 IN NS ns\nns 3600 IN A 127.0.0.1\n"),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Getwd()
	if err == nil {
		err = os.Symlink("/bin/true", "check_writable")
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The sections of a plugin's README and their order are CoreDNS's: the manual pages are made of it.
func TestReadmeSections(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllSubmatch(text, -1) {
		got = append(got, string(m[1]))
	}
	want := []string{"Name", "Description", "Syntax", "Clients That Choose", "Overlay", "Transfer", "Update", "Status", "State", "Metrics", "Ready", "Metadata", "Examples", "Bugs", "See Also"}
	if !slices.Equal(got, want) {
		t.Errorf("README.md has the sections %q, want %q", got, want)
	}
	if !bytes.Contains(text, []byte("\n## Name\n\n*failover* - ")) {
		t.Error("README.md does not say in Name what failover is")
	}
}
