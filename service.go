package failover

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// parseService reads SERVICE[/PROTOCOL] and returns what it puts before a name (RFC 2782). Some services in use are
// longer than RFC 6335 would have them.
func parseService(word string) (string, error) {
	service, protocol, ok := strings.Cut(word, "/")
	if !ok {
		protocol = "tcp"
	}
	if !isLabel(service) || len(service) > 62 || !strings.ContainsFunc(service, isLetter) {
		return "", fmt.Errorf("srv %q, want a service without underscores, such as http or sip/udp", word)
	}
	if protocol != "tcp" && protocol != "udp" {
		return "", fmt.Errorf("srv %q has the protocol %q, want tcp or udp", word, protocol)
	}
	return "_" + strings.ToLower(service) + "._" + protocol + ".", nil
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// parseParams reads parameters of a HTTPS record as they stand in a zone file. Those that the pool has to
// say are refused.
func parseParams(words []string) ([]dns.SVCBKeyValue, error) {
	for _, word := range words {
		key, _, _ := strings.Cut(word, "=")
		if slices.Contains([]string{"port", "ipv4hint", "ipv6hint", "key3", "key4", "key6"}, strings.ToLower(key)) {
			return nil, fmt.Errorf("https %q, want it with the members: it is written by the pool", word)
		}
		if strings.ContainsAny(word, " \t\r\n;()") {
			return nil, fmt.Errorf("https %q, want a parameter such as alpn=h2,h3", word)
		}
	}
	rr, err := dns.NewRR(". HTTPS 1 . " + strings.Join(words, " "))
	if err == nil {
		_, err = dns.PackRR(rr, make([]byte, dns.MaxMsgSize), 0, nil, false)
	}
	if err != nil {
		why, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "dns: "), " at line:") // of a zone file
		return nil, fmt.Errorf("https %q, want parameters such as alpn=h2,h3: %s", strings.Join(words, " "), strings.TrimLeft(why, ": "))
	}
	values := rr.(*dns.HTTPS).Value
	return values, consistent(values)
}

// consistent checks what one parameter of a HTTPS record takes of the others (RFC 9460, sections 7.1 and 8): a
// record that lacks it is malformed, and with it the whole answer.
func consistent(values []dns.SVCBKeyValue) error {
	has := make(map[dns.SVCBKey]bool)
	for _, value := range values {
		if has[value.Key()] = true; value.String() == "" && value.Key() != dns.SVCB_NO_DEFAULT_ALPN {
			return fmt.Errorf("https with %q, want a value", value.Key())
		}
	}
	if has[dns.SVCB_NO_DEFAULT_ALPN] && !has[dns.SVCB_ALPN] {
		return errors.New("https with no-default-alpn, want alpn, too")
	}
	for _, value := range values {
		mandatory, ok := value.(*dns.SVCBMandatory)
		if !ok {
			continue
		}
		for i, key := range mandatory.Code {
			if !has[key] || key == dns.SVCB_MANDATORY || slices.Contains(mandatory.Code[:i], key) {
				return fmt.Errorf("https with %q, want each key once, and with a parameter here: %s", "mandatory="+mandatory.String(), key)
			}
		}
	}
	return nil
}
