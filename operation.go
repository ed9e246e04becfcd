package failover

import (
	"cmp"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/share"

	"github.com/coredns/coredns/plugin/pkg/durations"
)

// operation is what is said once for the process, in whichever server block.
type operation struct {
	listens []listen
	state   *statePlace // nil: nothing is kept
	share   *sharePlace // nil: there is one site only
}

// listen is where the status is shown, and where that is written.
type listen struct {
	position
	api.Listen
}

// statePlace is where statuses are kept, and where that is written.
type statePlace struct {
	position
	file   string
	maxAge time.Duration // statuses that are older are not believed
}

// sharePlace is where the sites tell each other what they see, and where that is written.
type sharePlace struct {
	position
	share.Config
}

func (s *sharePlace) same(other *sharePlace) bool { return reflect.DeepEqual(s.Config, other.Config) }

// shareUsage is what stands behind share.
const shareUsage = "etcd ENDPOINT... [site NAME] [prefix KEY] [tls [CERT KEY] [CA]] [user NAME FILE]"

// share reads etcd ENDPOINT... [site NAME] [prefix KEY] [tls [CERT KEY] [CA]] [user NAME FILE].
func (c *config) share(p property) error {
	if p.args[0] != "etcd" {
		return p.errorf("share %q, want etcd", p.args[0])
	}
	words := map[string]func(s *sharePlace, values []string) bool{
		"etcd": func(s *sharePlace, values []string) bool {
			s.Endpoints = values
			return len(values) > 0
		},
		"site": func(s *sharePlace, values []string) bool {
			s.Site = strings.Join(values, " ")
			return len(values) == 1
		},
		"prefix": func(s *sharePlace, values []string) bool {
			s.Prefix = strings.Join(values, " ")
			return len(values) == 1
		},
		"tls": func(s *sharePlace, values []string) bool {
			if n := len(values); n%2 == 1 {
				s.CA = c.path(values[n-1])
			}
			if len(values) >= 2 {
				s.Cert, s.Key = c.path(values[0]), c.path(values[1])
			}
			return len(values) <= 3
		},
		"user": func(s *sharePlace, values []string) bool {
			if len(values) == 2 {
				s.User, s.PasswordFile = values[0], c.path(values[1])
			}
			return len(values) == 2
		},
	}
	s := sharePlace{position: p.position}
	seen := make(map[string]bool)
	for i := 0; i < len(p.args); {
		word, end := p.args[i], i+1
		if seen[word] {
			return p.errorf("share: option %q twice, want it once", word)
		}
		seen[word] = true
		for end < len(p.args) && words[p.args[end]] == nil {
			end++
		}
		if !words[word](&s, p.args[i+1:end]) {
			return p.errorf("share with %q and %d values, want share %s", word, end-i-1, shareUsage)
		}
		i = end
	}
	for i, e := range s.Endpoints {
		if slices.ContainsFunc(s.Endpoints[:i], func(before string) bool {
			return strings.TrimSuffix(before, "/") == strings.TrimSuffix(e, "/")
		}) {
			return p.errorf("share: endpoint %q stands here twice", e)
		}
	}
	if err := s.Check(); err != nil {
		return p.errorf("share: %v", err)
	}
	return c.agree(s)
}

// status reads ADDRESS [token FILE] [tls CERT KEY] [mode MODE].
func (c *config) status(p property) error {
	l := listen{p.position, api.Listen{Mode: 0o600}}
	address, err := listenAddress(p.args[0])
	if err != nil {
		return p.errorf("%v", err)
	}
	l.Address = address
	seen := make(map[string]bool)
	for args := p.args[1:]; len(args) > 0; {
		word, values := args[0], map[string]int{"token": 1, "tls": 2, "mode": 1}[args[0]]
		switch {
		case values == 0:
			return p.errorf("status %s with %q, want token FILE, tls CERT KEY or mode MODE", p.args[0], word)
		case len(args) <= values:
			return p.errorf("status %s with %q and %d values, want %d", p.args[0], word, len(args)-1, values)
		}
		if seen[word] {
			return p.errorf("status %s: option %q twice, want it once", p.args[0], word)
		}
		seen[word] = true
		switch word {
		case "token":
			l.Token = c.path(args[1])
		case "tls":
			l.Cert, l.Key = c.path(args[1]), c.path(args[2])
		case "mode":
			mode, err := strconv.ParseUint(args[1], 8, 9)
			if err != nil {
				return p.errorf("status %s mode %q, want an octal mode such as 0660", p.args[0], args[1])
			}
			if !l.IsSocket() {
				return p.errorf("status %s with mode %q, want a mode for a unix socket only: an address has none", p.args[0], args[1])
			}
			l.Mode = fs.FileMode(mode)
		}
		args = args[1+values:]
	}
	if l.IsSocket() && l.Cert+l.Token != "" {
		return p.errorf("status %s with token or tls, want its mode to say who may open it", p.args[0])
	}
	if err := l.Check(); err != nil {
		return p.errorf("status %s: %v", p.args[0], err)
	}
	return c.add(l)
}

// listenAddress reads where to listen.
func listenAddress(word string) (string, error) {
	if path, ok := strings.CutPrefix(word, "unix://"); ok {
		if path = filepath.Clean(path); !filepath.IsAbs(path) || path == "/" {
			return "", fmt.Errorf("status %q, want the path of a socket from the root, as in unix:///run/failover.sock", word)
		}
		return "unix://" + path, nil
	}
	host, port, err := net.SplitHostPort(word)
	if n, portErr := strconv.ParseUint(port, 10, 16); err == nil && port != "" && (portErr != nil || n == 0) {
		return "", fmt.Errorf("status %q has the port %q, want a number from 1 to 65535", word, port)
	} else if err != nil || portErr != nil {
		return "", fmt.Errorf("status %q, want HOST:PORT, as in 127.0.0.1:9054, or unix:///run/failover.sock", word)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return "", fmt.Errorf("status %q, want an address to listen at, as in 127.0.0.1:9054", word)
	}
	return word, nil
}

// path is a file as the Corefile has it, from the directory of the root plugin.
func (c *config) path(name string) string {
	if filepath.IsAbs(name) || c.root == "" {
		return name
	}
	return filepath.Join(c.root, name)
}

// maxMaxAge is how old statuses can be that are believed at all: a day.
const maxMaxAge = 24 * time.Hour

// state reads FILE [MAXAGE].
func (c *config) state(p property) error {
	if err := p.takes(2); err != nil {
		return err
	}
	if p.args[0] == "" {
		return p.errorf("state \"\", want a file, such as /var/lib/failover/state")
	}
	s := statePlace{p.position, c.path(p.args[0]), time.Minute}
	if target, err := filepath.EvalSymlinks(s.file); err == nil {
		s.file = target // it is replaced, and not the link to it
	}
	if len(p.args) > 1 {
		d, err := durations.NewDurationFromArg(p.args[1])
		if err != nil || d < time.Second || d > maxMaxAge {
			return p.errorf("state %q with the age %q, want a duration from 1s to %s", p.args[0], p.args[1], short(maxMaxAge))
		}
		s.maxAge = d
	}
	return c.keep(s)
}

// add takes a further listener. The same may be said again.
func (o *operation) add(l listen) error {
	for _, before := range o.listens {
		if before.Address != l.Address {
			continue
		}
		if before.Listen != l.Listen {
			return l.errorf("status %s is another than in %s:%d, want it the same", l.Address, before.file, before.line)
		}
		return nil
	}
	o.listens = append(o.listens, l)
	return nil
}

// keep takes the place of the state. The same may be said again.
func (o *operation) keep(s statePlace) error {
	if before := o.state; before != nil && (before.file != s.file || before.maxAge != s.maxAge) {
		return s.errorf("state %q %s is another than in %s:%d, want one for the process", s.file, short(s.maxAge), before.position.file, before.line)
	}
	o.state = &s
	return nil
}

// agree takes where the sites tell each other what they see. The same may be said again.
func (o *operation) agree(s sharePlace) error {
	if before := o.share; before != nil && !before.same(&s) {
		return s.errorf("share %q is another than in %s:%d, want one for the process", strings.Join(s.Endpoints, " "), before.file, before.line)
	}
	o.share = &s
	return nil
}

// join takes what another server block says, or another Corefile. What contradicts it is left out, and the first such
// is the error.
func (o *operation) join(other *operation) (err error) {
	for _, l := range other.listens {
		err = cmp.Or(err, o.add(l))
	}
	if other.state != nil {
		err = cmp.Or(err, o.keep(*other.state))
	}
	if other.share != nil {
		err = cmp.Or(err, o.agree(*other.share))
	}
	return err
}

// apart checks that no listener takes the place of another. Where the network has both families, all addresses of one
// are all of both.
func (o *operation) apart() error {
	for i := range o.listens {
		l := &o.listens[i]
		for j := range i {
			if before := &o.listens[j]; l.collides(before) {
				return l.errorf("status %s beside %s of %s:%d, which has it already, want one of them, or another port", l.Address, before.Address, before.file, before.line)
			}
		}
	}
	return nil
}

// collides says whether two listeners cannot be there at once. A socket has its path to itself, see add.
func (l *listen) collides(other *listen) bool {
	if l.IsSocket() || other.IsSocket() {
		return false
	}
	a, b := listenedAt(l.Address), listenedAt(other.Address)
	return a.Port() == b.Port() && (a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified())
}

// listenedAt is an address that [listenAddress] takes, without its word for all addresses and for the loopback.
func listenedAt(address string) netip.AddrPort {
	host, port, _ := net.SplitHostPort(address)
	number, _ := strconv.ParseUint(port, 10, 16)
	switch host {
	case "":
		host = "::"
	case "localhost":
		host = "127.0.0.1"
	}
	addr, _ := netip.ParseAddr(host)
	return netip.AddrPortFrom(addr.Unmap(), uint16(number))
}

// places are the listeners as the status server wants them.
func (o *operation) places() []api.Listen {
	all := make([]api.Listen, len(o.listens))
	for i, l := range o.listens {
		all[i] = l.Listen
	}
	return all
}

// open begins to listen where nobody does yet.
func (o *operation) open() error {
	for _, l := range o.listens {
		if err := process.listeners.Open(l.Listen); err != nil {
			return l.errorf("status %s: %v", l.Address, err)
		}
	}
	return nil
}

// open begins to listen where a generation that is about to start wants to be heard.
func (r *registry) open(g *generation) error {
	r.mu.Lock()
	r.opening = g
	r.mu.Unlock()
	err := g.operation.open()
	if err != nil {
		r.mu.Lock()
		r.opening = nil
		r.mu.Unlock()
		r.settle() // what has been opened already
	}
	return err
}

// settle has that hold which the generations that there are say of the operation; of two the one that has been there
// for longer.
func (r *registry) settle() {
	r.settling.Lock()
	defer r.settling.Unlock()
	r.mu.Lock()
	var all operation
	for _, g := range r.generations {
		all.join(&g.operation)
	}
	if r.opening != nil {
		all.join(&r.opening.operation)
	}
	r.mu.Unlock()
	if err := r.listeners.Settle(all.places()); err != nil {
		log.Warningf("Status: %v", err)
	}
	r.watched(len(all.listens) > 0)
}

// watched has kept what there is to see, where somebody may look.
func (r *registry) watched(yes bool) {
	r.events.Keep(yes)
	r.monitor.KeepTrails(yes)
}
