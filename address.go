package failover

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/coredns-failover/failover/plugin/pool"
)

// isAddress says whether a word of the directive's line is meant as an address and not as a name.
// A word that is an address in all but a slip belongs here too, so that the slip is what is reported.
func isAddress(word string) bool {
	return strings.ContainsAny(word, ":=[/") || strings.Trim(word, "0123456789.") == "" && word != "."
}

// parseMember reads [LABEL=]ADDRESS[:PORT].
func parseMember(word string) (pool.Member, error) {
	var m pool.Member
	label, rest, labelled := strings.Cut(word, "=")
	if !labelled {
		rest = word
	} else if m.Label = label; !isLabel(label) {
		return m, fmt.Errorf("label %q in %q, want a host name label: letters, digits and hyphens", label, word)
	}
	host, port := splitPort(rest)
	addr, err := parseAddr(host)
	if err == nil && addr.Is4() && rest[0] == '[' {
		err = errors.New("has brackets, want them around IPv6 addresses only")
	}
	if err != nil {
		return m, fmt.Errorf("%q %v", word, err)
	}
	m.Addr = addr
	if port != "" {
		n, err := strconv.ParseUint(port[1:], 10, 16)
		if err != nil || n == 0 {
			return m, fmt.Errorf("port %q in %q, want a number from 1 to 65535", port[1:], word)
		}
		m.Port = uint16(n)
	}
	return m, nil
}

// splitPort takes an address with brackets or a port apart. port begins with its colon, or is empty
// where there is none. Without brackets several colons are an IPv6 address.
func splitPort(s string) (host, port string) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if host, port, ok := strings.Cut(inner, "]"); ok && (port == "" || port[0] == ':') {
			return host, port
		}
		return s, ""
	}
	if i := strings.IndexByte(s, ':'); i >= 0 && i == strings.LastIndexByte(s, ':') {
		return s[:i], s[i:]
	}
	return s, ""
}

// parseAddr reads an address that can be given out in an answer.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, fmt.Errorf("is no IP address, want one such as 192.0.2.10, 192.0.2.10:443 or [2001:db8::10]:443")
	case a.Zone() != "":
		return a, fmt.Errorf("has a zone, want an address that means the same everywhere")
	case a.Is4In6():
		return a, fmt.Errorf("is an IPv4 address in IPv6 notation, want %s", a.Unmap())
	case a.Is6() && a.IsLinkLocalUnicast():
		return a, fmt.Errorf("is a link-local address, want one that means the same everywhere")
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return a, fmt.Errorf("is not the address of one host, want a unicast address")
	}
	return a, nil
}

// isLabel says whether s can be a label of a host name (RFC 952, RFC 1123): members are reachable
// under it.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return true
}
