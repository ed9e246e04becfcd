package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// A line is a probe's words taken apart as far as all kinds agree; a kind makes its Prober of it.
type line struct {
	word    string   // the URL as it was written
	url     *url.URL // the scheme is in lower case; no user info, no fragment, no blanks
	port    uint16   // the URL's; 0: none
	usual   uint16   // the kind's; 0: none
	name    string   // the pool's; empty: a wildcard
	root    string   // where relative file names start
	options []string // the words after the URL
	watch   *bool    // set by the option of that name; nil: the kind has no such option
}

// parseLine is the first look at words, of which there is at least one, and that holds "://".
func parseLine(words []string, name, root string) (line, error) {
	word := words[0]
	l := line{word: word, name: name, root: root, options: words[1:]}

	_, rest, _ := strings.Cut(word, "://")
	authority, _, _ := strings.Cut(rest, "/")
	if strings.Contains(authority, "@") {
		// The URL is not repeated here: there may be a password in it.
		return l, errors.New("user in a URL, want the option header Authorization VALUE")
	}
	if i := strings.IndexFunc(word, func(r rune) bool { return r <= ' ' || r >= 0x7f }); i >= 0 {
		return l, fmt.Errorf("URL %q holds blanks or letters that are not ASCII, want them percent-encoded, or as xn-- in a host", word)
	}
	if strings.Contains(word, "#") {
		return l, fmt.Errorf("URL %q has a fragment, want none", word)
	}
	u, err := url.Parse(word)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err
		}
		return l, fmt.Errorf("URL %q: %w", word, err)
	}
	l.url = u

	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return l, fmt.Errorf("port %q in URL %q, want 1-65535", port, word)
		}
		l.port = uint16(n)
	}
	return l, nil
}

// bare says that the URL has no path and no query, for the kinds that have no use for one.
func (l line) bare() error {
	u := l.url
	if u.Path == "" && u.RawQuery == "" && !u.ForceQuery {
		return nil
	}
	return fmt.Errorf("URL %q has a path or a query, want %s://%s", l.word, u.Scheme, u.Host)
}

// hostless says that the URL has no host, for the kinds that speak of none; want is how they are written.
func (l line) hostless(want string) error {
	if host := l.url.Hostname(); host != "" {
		return fmt.Errorf("host %q means nothing to %s, want %s", host, l.url.Scheme, want)
	}
	return nil
}

// host is the name that is spoken of: the URL's host, else the pool's name, in lower case and
// without trailing dot. If neither is there it is empty, or an error if one is needed.
func (l line) host(needed bool) (string, error) {
	word := l.url.Hostname()
	if word == "" {
		word = l.name
	}
	if word == "" {
		if needed {
			return "", fmt.Errorf("no host in URL %q, and a wildcard is none, want one as in %s://www.example.org", l.word, l.url.Scheme)
		}
		return "", nil
	}
	host := strings.TrimSuffix(strings.ToLower(word), ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return "", fmt.Errorf("host %q is an address, want a name: only the member's address is dialled", word)
	}
	if !isHost(host) {
		return "", fmt.Errorf("%q cannot be a host, want a name of letters, digits, hyphens and dots in the URL", word)
	}
	return host, nil
}

// isHost reports whether s, in lower case, can be the name of a host. Underscores are no part of
// such a name, but names with them are in use.
func isHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	label := ""
	for label = range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	// Nothing but digits at the end is an address to a browser: 127.1, say.
	return strings.Trim(label, "0123456789") != ""
}
