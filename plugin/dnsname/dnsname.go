package dnsname

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// Parent is the name with a label less; the root has none.
func Parent(name string) string {
	off, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[off:]
}

// LongestZone returns the longest of the zones that name lies in, or "".
func LongestZone(name string, zones []string) string {
	longest := ""
	for _, z := range zones {
		if len(z) > len(longest) && dns.IsSubDomain(z, name) {
			longest = z
		}
	}
	return longest
}

// Parse makes a word from the Corefile into a name as it looks in a query: fully qualified, lower
// case, escaped the way miekg/dns does it, with international labels in their ASCII form (RFC 5890).
func Parse(word string) (string, error) {
	if err := checkEscapes(word); err != nil {
		return "", err
	}
	star, rest := "", word
	if after, ok := strings.CutPrefix(word, "*."); ok {
		star, rest = "*.", after
	}
	if strings.ContainsFunc(rest, func(r rune) bool { return r > 127 }) {
		ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(rest, "."))
		if err != nil {
			return "", fmt.Errorf("%q is no domain name: %v", word, err)
		}
		rest = ascii
	}
	if _, ok := dns.IsDomainName(rest); !ok && (rest != "" || star == "") {
		return "", fmt.Errorf("%q is no domain name", word)
	}
	wire := make([]byte, 256)
	if _, err := dns.PackDomainName(dns.Fqdn(star+rest), wire, 0, nil, false); err != nil {
		return "", fmt.Errorf("%q is no domain name: %v", word, err)
	}
	name, _, err := dns.UnpackDomainName(wire, 0)
	if err != nil {
		return "", fmt.Errorf("%q is no domain name: %v", word, err)
	}
	for i, label := range dns.SplitDomainName(name) {
		if label == "*" && i > 0 {
			return "", fmt.Errorf("%q has an asterisk inside, want it as the first label only", word)
		}
	}
	return strings.ToLower(name), nil
}

// checkEscapes checks that the escapes in a name are those of RFC 1035, section 5.1: three digits are an octet, and any other
// character but a digit is itself.
func checkEscapes(word string) error {
	for rest := word; ; {
		_, after, ok := strings.Cut(rest, `\`)
		if !ok {
			return nil
		}
		if after == "" {
			return fmt.Errorf("%q is no domain name: nothing stands behind the last backslash", word)
		}
		escaped := 1
		if '0' <= after[0] && after[0] <= '9' {
			escaped = 3
			if _, err := strconv.ParseUint(after[:min(len(after), escaped)], 10, 8); err != nil || len(after) < escaped {
				return fmt.Errorf("%q is no domain name: %q, want three digits up to 255 behind the backslash", word, `\`+after[:min(len(after), escaped)])
			}
		}
		rest = after[escaped:]
	}
}

// IsBelow says whether a name is origin or lies below it, as dns.IsSubDomain does at ten times the cost.
func IsBelow(name, origin string) bool {
	above, ok := strings.CutSuffix(name, origin)
	if !ok || above == "" || origin == "." {
		return ok
	}
	label, dot := strings.CutSuffix(above, ".")
	return dot && (len(label)-len(strings.TrimRight(label, `\`)))%2 == 0 // else the dot belongs to a label
}

// OriginIn is the end of qname that is the origin, in the case of qname. A zone is never asked about a
// name outside of it.
func OriginIn(qname, origin string) string {
	if origin == "." {
		return "."
	}
	return qname[len(qname)-len(origin):]
}
