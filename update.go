package failover

import (
	"cmp"
	"encoding/base64"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/miekg/dns"
)

// update is a zone on a server that is not us, into which the answers of a server block's pools are written.
type update struct {
	position
	server    netip.AddrPort
	zone      string
	key       string // "": messages are not signed
	word      string // the key as the Corefile has it
	algorithm string
	secret    string // known once all plugins are
	writer    string // in the markers: who we are
}

// algorithms are those that a message can be signed with (RFC 8945, section 6), by their words.
var algorithms = map[string]string{
	"hmac-sha1":   dns.HmacSHA1,
	"hmac-sha224": dns.HmacSHA224,
	"hmac-sha256": dns.HmacSHA256,
	"hmac-sha384": dns.HmacSHA384,
	"hmac-sha512": dns.HmacSHA512,
}

// update reads an update line. The property's words are SERVER ZONE [KEY [ALGORITHM]].
func (c *config) update(p property) error {
	if err := p.takes(4); err != nil {
		return err
	}
	if len(p.args) < 2 {
		return p.errorf("update %q without a zone, want update SERVER ZONE [KEY [ALGORITHM]]", p.args[0])
	}
	u := update{position: p.position, algorithm: dns.HmacSHA256}
	server, err := parseMember(p.args[0])
	switch {
	case err != nil:
		return p.errorf("update: %v", err)
	case server.Label != "":
		return p.errorf("update %q, want an address without a label", p.args[0])
	}
	u.server = netip.AddrPortFrom(server.Addr, cmp.Or(server.Port, 53))
	if u.zone, err = dnsname.Parse(p.args[1]); err != nil {
		return p.errorf("update: %v", err)
	}
	if strings.HasPrefix(u.zone, "*.") {
		return p.errorf("update of %q, want the zone that the name lies in", p.args[1])
	}
	if len(p.args) > 2 {
		u.word = p.args[2]
		if strings.Contains(u.word, ":") { // as nsupdate has it, with the secret, which is not for the log
			return p.errorf("update with a colon in its key, want the name of a key that tsig has in the same server block")
		}
		if u.key, err = dnsname.Parse(u.word); err != nil {
			return p.errorf("update: key %v", err)
		}
	}
	if len(p.args) > 3 {
		var known bool
		if u.algorithm, known = algorithms[strings.ToLower(p.args[3])]; !known {
			if algorithms[strings.ToLower(u.word)] != "" {
				return p.errorf("update with the algorithm %q before the key, want update SERVER ZONE KEY ALGORITHM", u.word)
			}
			return p.errorf("update with the algorithm %q, want one of %s", p.args[3], strings.Join(slices.Sorted(maps.Keys(algorithms)), ", "))
		}
	}
	for _, before := range c.updates {
		if before.server == u.server && before.zone == u.zone {
			return p.errorf("update %q %q stands here twice, first in line %d", p.args[0], p.args[1], before.line)
		}
	}
	c.updates = append(slices.Clip(c.updates), u)
	return nil
}

// takes says whether an owner name is one that is written to the zone of u: of all zones on a server it is the
// longest that has a name.
func (u *update) takes(owner string, all []update) bool {
	if !dns.IsSubDomain(u.zone, owner) {
		return false
	}
	return !slices.ContainsFunc(all, func(o update) bool {
		return o.server == u.server && len(o.zone) > len(u.zone) && dns.IsSubDomain(o.zone, owner)
	})
}

// checkUpdates sees to it that each of the updates of a server block has something to write.
func checkUpdates(updates []update, configs []*config) error {
	for _, u := range updates {
		if !slices.ContainsFunc(configs, func(c *config) bool { return !c.from }) {
			return u.errorf("update beside overlays only, which are not written, want a pool with a NAME and members")
		}
		if !slices.ContainsFunc(configs, func(c *config) bool {
			return !c.from && slices.ContainsFunc(c.names, func(name string) bool { return u.takes(name, updates) })
		}) {
			return u.errorf("update of zone %q, in which no pool of this server block has a name, want a zone with one", u.zone)
		}
	}
	return nil
}

// place is an owner name in a zone on a server.
type place struct {
	server      netip.AddrPort
	zone, owner string
}

// write has the answers of the block's pools written by its updates. secrets are those of the server block's
// keys, and taken are the places that the Corefile writes to already.
func (b *block) write(updates []update, secrets map[string]string, taken map[place]position) error {
	for _, u := range updates {
		if u.key != "" {
			var ok bool
			if u.secret, ok = secrets[u.key]; !ok {
				has := strings.Join(slices.Sorted(maps.Keys(secrets)), ", ")
				return u.errorf("update with the key %q, want one that tsig has in the same server block: %s", u.word, cmp.Or(has, "it has none"))
			}
			switch plain, err := base64.StdEncoding.DecodeString(u.secret); {
			case err != nil:
				return u.errorf("update with the key %q, whose secret is not base64: %v", u.word, err)
			case len(plain) == 0:
				return u.errorf("update with the key %q, whose secret is empty, want one", u.word)
			}
		}
		w := newUpdater(u)
		for _, name := range slices.Sorted(maps.Keys(b.names.entries)) {
			e := b.names.entries[name]
			if e.pool == nil || !u.takes(name, updates) {
				continue
			}
			if before, ok := taken[place{u.server, u.zone, name}]; ok {
				return u.errorf("update of %q at %s, which that of %s:%d writes already, want it written once", name, u.server, before.file, before.line)
			}
			taken[place{u.server, u.zone, name}] = u.position
			if _, ok := dns.IsDomainName(markerOf(name)); !ok {
				return u.errorf("update of %q, whose marker %q is too long a name", name, markerOf(name))
			}
			w.add(name, e.pool, e.as)
		}
		b.feed(w)
	}
	return nil
}
