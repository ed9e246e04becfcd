package failover

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-failover/failover/plugin/answer"
	"github.com/coredns-failover/failover/plugin/dnsname"
	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/probe"
	"github.com/coredns-failover/failover/plugin/quorum"

	"github.com/coredns/coredns/plugin/pkg/durations"

	"github.com/miekg/dns"
)

// position is a place in the Corefile.
type position struct {
	file string
	line int
}

// errorf is an error in the Corefile, in the form that all of CoreDNS uses.
func (p position) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d - Error during parsing: %s", p.file, p.line, fmt.Sprintf(format, args...))
}

// property is one line of a directive's block.
type property struct {
	position
	word string
	args []string
}

// directive is one failover directive as it stands in the Corefile.
type directive struct {
	position
	args       []string
	properties []property
}

// config is what one directive asks for, with what the server block's defaults say about the rest.
type config struct {
	pool.Pool
	names    []string
	probes   []property
	specs    []probe.Spec // of probes
	require  int          // how many of these have to pass; 0: all
	settings health.Settings
	startup  time.Duration
	manual   bool               // failback
	quorum   quorum.Rule        // how many sites have to see a member up
	from     bool               // an overlay: the addresses are what the next plugins answer
	allow    []netip.Prefix     // of an overlay: what may be probed; nil: see allowed
	limit    int                // of an overlay: how many addresses it keeps
	services []string           // with SRV records: what stands before a name
	https    bool               // there are HTTPS records,
	params   []dns.SVCBKeyValue // with these parameters
	updates  []update           // of the server block
	operation
	root string // where relative names of files begin
	authority
	tierAt   []position          // of each tier
	said     map[string]property // the properties of this directive, the latest of each word
	defaults map[string]property // those of the server block's defaults
	position position
}

// defaults are the values of the properties that a Corefile does not mention.
func defaults() config {
	return config{
		Pool: pool.Pool{Policy: &pool.Policy{
			Min:      pool.Min{Count: 1},
			Fallback: pool.Fallback{Word: "all"},
			MinTTL:   5 * time.Second,
			MaxTTL:   time.Minute,
		}},
		settings: health.Settings{
			Interval: 5 * time.Second,
			Recheck:  time.Second,
			Timeout:  2 * time.Second,
			Fall:     3,
			Rise:     2,
		},
		startup: 3 * time.Second,
		limit:   10_000,
	}
}

// properties are the words of a directive's block: what stands behind each, and what it does.
var properties = map[string]struct {
	usage string
	apply func(*config, property) error
}{
	"primary":  {"ADDRESS...", (*config).tier},
	"backup":   {"ADDRESS...", (*config).tier},
	"from":     {"next", (*config).fromNext},
	"probe":    {"URL [OPTION...]", (*config).probe},
	"require":  {"all | any | COUNT", (*config).required},
	"interval": {"DURATION", duration(100*time.Millisecond, 24*time.Hour, func(c *config) *time.Duration { return &c.settings.Interval })},
	"recheck":  {"DURATION", duration(10*time.Millisecond, 24*time.Hour, func(c *config) *time.Duration { return &c.settings.Recheck })},
	"timeout":  {"DURATION", duration(10*time.Millisecond, 24*time.Hour, func(c *config) *time.Duration { return &c.settings.Timeout })},
	"fall":     {"COUNT [WINDOW]", (*config).fall},
	"rise":     {"COUNT", (*config).rise},
	"failback": {"auto | manual", (*config).failback},
	"hold":     {"DURATION", duration(0, 24*time.Hour, func(c *config) *time.Duration { return &c.Hold })},
	"min":      {"COUNT | PERCENT%", (*config).min},
	"answer":   {"all | COUNT", (*config).answer},
	"order":    {"fixed | sorted | cyclic | random", (*config).order},
	"prefer":   {"CIDR...", (*config).prefer},
	"fallback": {"all | primary | last | none | nxdomain | servfail | refused | next | ADDRESS...", (*config).fallback},
	"ttl":      {"MIN [MAX]", (*config).ttl},
	"srv":      {"SERVICE...", (*config).srv},
	"https":    {"[PARAM...]", (*config).bindings},
	"soa":      {"MNAME RNAME", (*config).soa},
	"ns":       {"NAME...", (*config).nameservers},
	"startup":  {"DURATION", duration(0, 10*time.Minute, func(c *config) *time.Duration { return &c.startup })},
	"allow":    {"CIDR...", (*config).allowed},
	"limit":    {"COUNT", (*config).limited},
	"quorum":   {"majority | any | all | own | COUNT", (*config).votes},
	"share":    {shareUsage, (*config).share},
	"status":   {"ADDRESS [token FILE] [tls CERT KEY] [mode MODE]", (*config).status},
	"state":    {"FILE [MAXAGE]", (*config).state},
	"update":   {"SERVER ZONE [KEY [ALGORITHM]]", (*config).update},
}

// repeatable are the properties that may be said more than once.
var repeatable = []string{"backup", "probe", "update", "status"}

// configure makes the pools of one server block out of its directives. zones are the server block's,
// normalised. root is where relative names of files begin.
func configure(directives []directive, zones []string, root string) ([]*config, error) {
	base := defaults()
	base.root = root
	var own []directive
	for _, d := range directives {
		if len(d.args) > 0 || slices.ContainsFunc(d.properties, ofMembers) {
			own = append(own, d)
			continue
		}
		if base.said != nil {
			return nil, d.errorf("second failover without NAME, want the defaults of a server block in one place, line %d", base.position.line)
		}
		if err := base.read(d); err != nil {
			return nil, err
		}
		base.position = d.position
	}
	if len(own) == 0 {
		return nil, directives[0].errorf("no pool in this server block, want failover NAME... ADDRESS..., or from next")
	}
	alone := base.copied() // what is wrong with the defaults is wrong even where no pool takes them
	if err := alone.check(); err != nil {
		return nil, err
	}
	if err := alone.parseProbes("example.org", root); err != nil {
		return nil, err
	}

	configs := make([]*config, 0, len(own))
	names, overlays := make(map[string]position), make(map[string]position)
	for _, d := range own {
		if i := slices.IndexFunc(d.properties, ofBlock); i >= 0 {
			p := d.properties[i]
			if p.word == "update" && slices.ContainsFunc(d.properties, func(p property) bool { return p.word == "from" }) {
				return nil, p.errorf("update of an overlay, which is not written, want it with the defaults of the server block, for a pool with members")
			}
			return nil, p.errorf("%s in the directive of a pool or an overlay, want it with the defaults of the server block, in a directive without NAME, ADDRESS and from next", p.word)
		}
		read, taken := base.own, names
		if slices.ContainsFunc(d.properties, func(p property) bool { return p.word == "from" }) {
			read, taken = base.overlay, overlays
		}
		c, err := read(d, zones, root, taken)
		if err != nil {
			return nil, err
		}
		configs = append(configs, c)
	}
	for _, c := range configs {
		if c.from {
			continue
		}
		if err := c.derive(names); err != nil {
			return nil, err
		}
	}
	if err := checkUpdates(base.updates, configs); err != nil {
		return nil, err
	}
	return configs, nil
}

// copied returns a config with a policy of its own, which can be changed without a change of the defaults.
func (c config) copied() config {
	policy := *c.Policy
	c.Policy = &policy
	return c
}

// derive checks the names that SRV and HTTPS records make of the pool's. taken are those of all pools.
func (c *config) derive(taken map[string]position) error {
	for _, prefix := range slices.Sorted(maps.Keys(answer.DerivedNames(c.services, c.Pool))) {
		for _, name := range c.names {
			made := prefix + strings.TrimPrefix(name, "*.")
			if before, ok := taken[made]; ok && !strings.HasPrefix(name, "*.") {
				return c.position.errorf("pool %q has the name %q, too, which is that of the pool of %s:%d, want another label or name", c.names[0], made, before.file, before.line)
			}
			if _, ok := dns.IsDomainName(made); !ok {
				return c.position.errorf("pool %q has the name %q, too, which is too long", c.names[0], made)
			}
		}
	}
	return nil
}

// ofBlock says whether a property belongs to a server block as a whole, or to the process, and stands with the defaults.
func ofBlock(p property) bool {
	return slices.Contains([]string{"soa", "ns", "update", "status", "state", "share"}, p.word)
}

// ofMembers says whether a property belongs to one pool and cannot be a default.
func ofMembers(p property) bool { return p.word == "primary" || p.word == "backup" || p.word == "from" }

// soa reads whom the SOA names.
func (c *config) soa(p property) error {
	if err := p.takes(2); err != nil {
		return err
	}
	if len(p.args) < 2 {
		return p.errorf("soa %q without an RNAME, want soa MNAME RNAME, such as ns1.example.org hostmaster.example.org", p.args[0])
	}
	names, err := p.names()
	if err == nil {
		c.mname, c.rname = names[0], names[1]
	}
	return err
}

// nameservers reads the names of NS records.
func (c *config) nameservers(p property) (err error) {
	c.ns, err = p.names()
	return err
}

// names reads the values of a property as names of hosts, each of which may stand there once.
func (p property) names() ([]string, error) {
	names := make([]string, 0, len(p.args))
	for _, arg := range p.args {
		name, err := dnsname.Parse(arg)
		if err != nil {
			return nil, p.errorf("%s: %v", p.word, err)
		}
		if strings.Contains(arg, "@") {
			return nil, p.errorf("%s %q, want it with a dot for the @, as in the SOA record", p.word, arg)
		}
		if isAddress(arg) || strings.HasPrefix(name, "*") || name == "." {
			return nil, p.errorf("%s %q, want the name of a host", p.word, arg)
		}
		if dns.CountLabel(name) == 1 {
			return nil, p.errorf("%s %q, want the whole name, such as ns1.example.org", p.word, arg)
		}
		if p.word == "ns" && slices.Contains(names, name) {
			return nil, p.errorf("ns %q stands there twice", arg)
		}
		names = append(names, name)
	}
	return names, nil
}

// own is the config of a directive that has a pool of its own; c holds the defaults.
func (c config) own(d directive, zones []string, root string, taken map[string]position) (*config, error) {
	c = c.copied()
	c.position = d.position
	if err := c.arguments(d, zones, taken); err != nil {
		return nil, err
	}
	if err := c.read(d); err != nil {
		return nil, err
	}
	if len(c.Tiers) == 0 || len(c.Tiers[0]) == 0 {
		return nil, d.errorf("pool %q has no primary member, want at least one IP address, or from next", c.names[0])
	}
	for _, word := range []string{"allow", "limit"} {
		if p, said := c.said[word]; said {
			return nil, p.errorf("%s %q in a pool with addresses of its own, want it beside from next", word, p.args[0])
		}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	// A wildcard is no host that a server could be asked for.
	host := strings.TrimSuffix(c.names[0], ".")
	if strings.HasPrefix(host, "*") {
		host = ""
	}
	if err := c.parseProbes(host, root); err != nil {
		return nil, err
	}
	if err := c.enough(); err != nil {
		return nil, err
	}
	return &c, c.members()
}

// overlay is the config of a directive that has from next; c holds the defaults. taken are the names of
// the overlays so far: those of pools may lie in them.
func (c config) overlay(d directive, zones []string, root string, taken map[string]position) (*config, error) {
	c = c.copied()
	c.position = d.position
	_, told := c.said["fallback"]
	if err := c.covers(d, zones, taken); err != nil {
		return nil, err
	}
	if err := c.read(d); err != nil {
		return nil, err
	}
	for _, word := range []string{"srv", "https"} {
		if p, said := c.said[word]; said {
			return nil, p.errorf("%s beside from next, want it in a pool with addresses of its own", word)
		}
	}
	if len(c.Tiers) > 0 {
		at := c.tierAt[len(c.tierAt)-1]
		return nil, c.said["from"].errorf("from %q beside the addresses of %s:%d, want one or the other", "next", at.file, at.line)
	}
	if _, said := c.said["fallback"]; !said && !told {
		c.Fallback = fallbackOf("next")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := c.parseProbes(strings.TrimSuffix(c.names[0], "."), root); err != nil {
		return nil, err
	}
	if err := c.enough(); err != nil {
		return nil, err
	}
	for i, spec := range c.specs {
		if _, err := spec.Target(netip.AddrPort{}); err != nil {
			at := d.position
			if len(c.probes) > 0 {
				at = c.probes[i].position
			}
			return nil, at.errorf("probe %q has no port, and neither have the next plugin's answers, want one such as tcp://:443", spec.Word)
		}
	}
	return &c, nil
}

// covers reads the names of an overlay: those of its line, or the zones of the server block, each of which may
// have several keys.
func (c *config) covers(d directive, zones []string, taken map[string]position) error {
	if len(d.args) > 0 {
		if err := c.arguments(d, zones, taken); err != nil {
			return err
		}
		for i, name := range c.names {
			if strings.HasPrefix(name, "*.") {
				return d.errorf("wildcard %q with from next, want %q: it is for all names at and below that", d.args[i], name[2:])
			}
		}
		return nil
	}
	for _, zone := range zones {
		if slices.Contains(c.names, zone) {
			continue
		}
		if before, ok := taken[zone]; ok {
			return d.errorf("zone %q is already in the overlay of %s:%d, want each name once", zone, before.file, before.line)
		}
		c.names = append(c.names, zone)
	}
	for _, zone := range c.names {
		taken[zone] = d.position
	}
	return nil
}

// arguments reads the directive's own line: names first, then the addresses of the first tier. taken are
// the names of the server block so far.
func (c *config) arguments(d directive, zones []string, taken map[string]position) error {
	for i, arg := range d.args {
		if isAddress(arg) && !isOddName(arg, len(c.names) == 0) {
			if len(c.names) == 0 {
				return d.errorf("a pool without a NAME before %q, want failover NAME... ADDRESS...", arg)
			}
			return c.setTier(0, d.position, d.args[i:])
		}
		name, err := dnsname.Parse(arg)
		if err != nil {
			return d.errorf("%v", err)
		}
		if _, ok := properties[arg]; ok {
			return d.errorf("%q behind a name, want it on a line of its own between braces", arg)
		}
		if dnsname.LongestZone(name, zones) == "" {
			return d.errorf("name %q is outside of the server block, want a name in %s", arg, strings.Join(zones, ", "))
		}
		if before, ok := taken[name]; ok {
			return d.errorf("name %q is already in the pool of %s:%d, want each name once", arg, before.file, before.line)
		}
		taken[name] = d.position
		c.names = append(c.names, name)
	}
	if len(c.names) == 0 {
		return d.errorf("a pool without a NAME, want failover NAME... ADDRESS...")
	}
	return nil
}

// isOddName says whether a word that could be meant as an address is rather a name: one with a slash, as in RFC 2317, or
// with an equals sign, which only the first word of a line can be, as the others may be members with a label. Without a
// colon there is nothing but digits and dots in an address.
func isOddName(word string, first bool) bool {
	_, behind, labelled := strings.Cut(word, "=")
	if !labelled {
		behind = word
	}
	return (first || !labelled) && !strings.ContainsAny(word, ":[") && strings.Trim(behind, "0123456789./") != ""
}

// read applies the properties of a directive.
func (c *config) read(d directive) error {
	c.defaults, c.said = c.said, make(map[string]property)
	for _, p := range d.properties {
		known, ok := properties[p.word]
		if p.word == "failover" {
			return p.errorf("%q inside of the pool of line %d, want a %q before it", p.word, d.line, "}")
		}
		if !ok {
			return p.errorf("unknown property %q, want one of %s", p.word, strings.Join(slices.Sorted(maps.Keys(properties)), ", "))
		}
		if before, again := c.said[p.word]; again && !slices.Contains(repeatable, p.word) {
			return p.errorf("property %q stands here twice, first in line %d", p.word, before.line)
		}
		if len(p.args) == 0 && !strings.HasPrefix(known.usage, "[") {
			return p.errorf("%s without a value, want %s %s", p.word, p.word, known.usage)
		}
		if err := known.apply(c, p); err != nil {
			return err
		}
		c.said[p.word] = p
	}
	return nil
}

// tier reads a primary or backup line.
func (c *config) tier(p property) error {
	if p.word == "backup" {
		return c.setTier(max(1, len(c.Tiers)), p.position, p.args)
	}
	if len(c.Tiers) > 0 && c.Tiers[0] != nil {
		return p.errorf("primary %q beside the addresses of %s:%d, want all of them in one place", p.args[0], c.tierAt[0].file, c.tierAt[0].line)
	}
	return c.setTier(0, p.position, p.args)
}

// maxTiers is how many priorities there are for the HTTPS records of a pool.
const maxTiers = 1<<16 - 1

// setTier reads the addresses of a tier. The first may come after others.
func (c *config) setTier(i int, at position, args []string) error {
	if i >= maxTiers {
		return at.errorf("tier %d of one pool, want %d at most", i, maxTiers)
	}
	for len(c.Tiers) <= i {
		c.Tiers, c.tierAt = append(c.Tiers, nil), append(c.tierAt, at)
	}
	c.Tiers[i], c.tierAt[i] = make([]pool.Member, 0, len(args)), at
	for _, arg := range args {
		m, err := parseMember(arg)
		if err != nil {
			return at.errorf("%v", err)
		}
		c.Tiers[i] = append(c.Tiers[i], m)
	}
	return nil
}

// probe keeps the line: what it means depends on the pool's first name. A pool's own probe lines take
// the place of the default ones.
func (c *config) probe(p property) error {
	if _, more := c.said["probe"]; !more {
		c.probes = nil
	}
	c.probes = append(slices.Clip(c.probes), p)
	return nil
}

// required reads how many probes have to pass. How many there are is not known yet.
func (c *config) required(p property) error {
	if err := p.takes(1); err != nil {
		return err
	}
	switch word := p.args[0]; word {
	case "all":
		c.require = 0
	case "any":
		c.require = 1
	default:
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return p.errorf("require %q, want all, any or a number of probes", word)
		}
		c.require = n
	}
	return nil
}

// duration is a property that is one duration from low to high.
func duration(low, high time.Duration, field func(*config) *time.Duration) func(*config, property) error {
	return func(c *config, p property) error {
		if err := p.takes(1); err != nil {
			return err
		}
		d, err := durations.NewDurationFromArg(p.args[0])
		if err != nil || d < low || d > high {
			return p.errorf("%s %q, want a duration from %s to %s", p.word, p.args[0], short(low), short(high))
		}
		*field(c) = d
		return nil
	}
}

// short is a duration without the zero units that time.Duration prints.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// takes checks the number of a property's values.
func (p property) takes(most int) error {
	if len(p.args) > most {
		return p.errorf("%s has %q after its value, want nothing there", p.word, p.args[most])
	}
	return nil
}

// count reads a number from 1 to high.
func (p property) count(arg string, high int) (int, error) {
	n, err := strconv.Atoi(arg)
	if err != nil || n < 1 || n > high {
		return 0, p.errorf("%s %q, want a number from 1 to %d", p.word, arg, high)
	}
	return n, nil
}

// maxCount bounds rise and fall: at the default pace a hundred results already take minutes.
const maxCount = 100

func (c *config) fall(p property) (err error) {
	if err := p.takes(2); err != nil {
		return err
	}
	c.settings.Window = 0
	if c.settings.Fall, err = p.count(p.args[0], maxCount); err != nil || len(p.args) == 1 {
		return err
	}
	if c.settings.Window, err = p.count(p.args[1], health.MaxWindow); err != nil {
		return err
	}
	if c.settings.Window < c.settings.Fall {
		return p.errorf("fall %q can never be reached in a window of %q, want a window of %s results or more", p.args[0], p.args[1], p.args[0])
	}
	return nil
}

func (c *config) rise(p property) (err error) {
	if err := p.takes(1); err != nil {
		return err
	}
	c.settings.Rise, err = p.count(p.args[0], maxCount)
	return err
}

// votes reads how many sites have to see a member up.
func (c *config) votes(p property) (err error) {
	if c.quorum, err = quorum.Parse(p.args[0]); err != nil {
		return p.errorf("%v", err)
	}
	return p.takes(1)
}

// failback reads who lets a member back that was down.
func (c *config) failback(p property) error {
	if p.args[0] != "auto" && p.args[0] != "manual" {
		return p.errorf("failback %q, want auto or manual", p.args[0])
	}
	c.manual = p.args[0] == "manual"
	return p.takes(1)
}

func (c *config) min(p property) (err error) {
	if err := p.takes(1); err != nil {
		return err
	}
	if share, ok := strings.CutSuffix(p.args[0], "%"); ok {
		n, err := strconv.Atoi(share)
		if err != nil || n < 1 || n > 100 {
			return p.errorf("min %q, want a share from 1%% to 100%%", p.args[0])
		}
		c.Min = pool.Min{Count: n, Percent: true}
		return nil
	}
	n, err := strconv.Atoi(p.args[0])
	if err != nil || n < 1 {
		return p.errorf("min %q, want a number of members from 1, or a share such as 50%%", p.args[0])
	}
	c.Min = pool.Min{Count: n}
	return nil
}

func (c *config) answer(p property) error {
	if err := p.takes(1); err != nil {
		return err
	}
	if p.args[0] == "all" {
		c.Answer = 0
		return nil
	}
	n, err := strconv.Atoi(p.args[0])
	if err != nil || n < 1 {
		return p.errorf("answer %q, want all or a number of addresses from 1", p.args[0])
	}
	c.Answer = n
	return nil
}

// orders are the words of the order property, as [pool.Order] counts them.
var orders = []string{"fixed", "sorted", "cyclic", "random"}

func (c *config) order(p property) error {
	if err := p.takes(1); err != nil {
		return err
	}
	i := slices.Index(orders, p.args[0])
	if i < 0 {
		return p.errorf("order %q, want one of %s", p.args[0], strings.Join(orders, ", "))
	}
	c.Order = pool.Order(i) // #nosec G115 -- 0 to 3
	return nil
}

func (c *config) prefer(p property) (err error) {
	c.Prefer, err = p.networks()
	return err
}

func (c *config) allowed(p property) (err error) {
	c.allow, err = p.networks()
	return err
}

// networks reads the property's values, each a network and none of them twice.
func (p property) networks() ([]netip.Prefix, error) {
	networks := make([]netip.Prefix, 0, len(p.args))
	for _, arg := range p.args {
		network, err := netip.ParsePrefix(arg)
		if err != nil || network.Addr().Is4In6() {
			return nil, p.errorf("%s %q, want a network such as 192.0.2.0/24", p.word, arg)
		}
		if slices.Contains(networks, network.Masked()) {
			return nil, p.errorf("%s %q stands here twice", p.word, arg)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

func (c *config) fromNext(p property) error {
	if p.args[0] != "next" {
		return p.errorf("from %q, want next", p.args[0])
	}
	c.from = true
	return p.takes(1)
}

func (c *config) srv(p property) error {
	c.services, c.Ranked = nil, true
	for _, arg := range p.args {
		service, err := parseService(arg)
		if err != nil {
			return p.errorf("%v", err)
		}
		if slices.Contains(c.services, service) {
			return p.errorf("srv %q stands here twice", arg)
		}
		c.services = append(c.services, service)
	}
	return nil
}

func (c *config) bindings(p property) (err error) {
	c.https, c.Ranked = true, true
	if c.params, err = parseParams(p.args); err != nil {
		return p.errorf("%v", err)
	}
	return nil
}

// maxLimit is how many addresses the probing of one process is made for.
const maxLimit = 100_000

func (c *config) limited(p property) (err error) {
	if err := p.takes(1); err != nil {
		return err
	}
	c.limit, err = p.count(p.args[0], maxLimit)
	return err
}

// fallbacks are the words of the fallback property; anything else has to be addresses.
var fallbacks = map[string]pool.Fallback{
	"all":      {Reply: pool.Addresses, Members: pool.All},
	"primary":  {Reply: pool.Addresses, Members: pool.Primary},
	"last":     {Reply: pool.Addresses, Members: pool.Last},
	"none":     {Reply: pool.NoData},
	"nxdomain": {Reply: pool.NXDomain},
	"servfail": {Reply: pool.ServFail},
	"refused":  {Reply: pool.Refused},
	"next":     {Reply: pool.Next},
}

// fallbackOf is the fallback of a word.
func fallbackOf(word string) pool.Fallback {
	f := fallbacks[word]
	f.Word = word
	return f
}

func (c *config) fallback(p property) error {
	if _, ok := fallbacks[p.args[0]]; ok {
		c.Fallback = fallbackOf(p.args[0])
		return p.takes(1)
	}
	c.Fallback = pool.Fallback{Members: pool.Others, Word: strings.Join(p.args[:min(len(p.args), answer.MaxShown)], " ")}
	if more := len(p.args) - answer.MaxShown; more > 0 {
		c.Fallback.Word += fmt.Sprintf(" and %d more", more)
	}
	for i, arg := range p.args {
		addr, err := parseAddr(arg)
		if _, word := fallbacks[arg]; word && i > 0 {
			return p.errorf("fallback %q beside addresses, want one or the other", arg)
		}
		if err != nil {
			return p.errorf("fallback %q, want one of %s, or IP addresses without a port", arg, strings.Join(slices.Sorted(maps.Keys(fallbacks)), ", "))
		}
		m := pool.Member{Addr: addr}
		if slices.Contains(c.Fallback.Other, m) {
			return p.errorf("fallback %q stands here twice", arg)
		}
		c.Fallback.Other = append(c.Fallback.Other, m)
	}
	return nil
}

// maxTTL is a week: what RFC 8767, section 4, would have resolvers keep at most.
const maxTTL = 7 * 24 * time.Hour

func (c *config) ttl(p property) error {
	if err := p.takes(2); err != nil {
		return err
	}
	var bounds [2]time.Duration
	for i, arg := range p.args {
		d, err := durations.NewDurationFromArg(arg)
		if err != nil || d < time.Second || d > maxTTL || d%time.Second != 0 {
			return p.errorf("ttl %q, want whole seconds from 1s to %s", arg, short(maxTTL))
		}
		bounds[i] = d
	}
	c.MinTTL, c.MaxTTL = bounds[0], bounds[len(p.args)-1]
	if c.MinTTL > c.MaxTTL {
		return p.errorf("ttl %q %q, want the smaller one first", p.args[0], p.args[1])
	}
	return nil
}

// check looks at what one property means for another.
func (c *config) check() error {
	s := &c.settings
	for _, d := range []struct {
		word  string
		value *time.Duration
	}{{"recheck", &s.Recheck}, {"timeout", &s.Timeout}} {
		if p, said := c.said[d.word]; said && *d.value > s.Interval {
			return p.errorf("%s %q is longer than the interval of %s, want no more than that", d.word, p.args[0], short(s.Interval))
		}
		*d.value = min(*d.value, s.Interval) // a default gives way to a short interval
	}
	return nil
}

// parseProbes makes the probes of the pool. name takes the place of a host that a URL does not give.
func (c *config) parseProbes(name, root string) error {
	if len(c.probes) == 0 {
		spec, err := probe.Parse([]string{"tcp://"}, name, root)
		c.specs = []probe.Spec{spec}
		return err
	}
	c.specs = make([]probe.Spec, 0, len(c.probes))
	for _, p := range c.probes {
		spec, err := probe.Parse(p.args, name, root)
		if err != nil {
			return p.errorf("probe: %v", err)
		}
		c.specs = append(c.specs, spec)
	}
	return nil
}

// enough checks that as many probes can pass as have to.
func (c *config) enough() error {
	if c.require <= len(c.specs) {
		return nil
	}
	at := c.position
	if p, said := c.said["require"]; said {
		at = p.position
	}
	return at.errorf("require %q of the probes of %q, of which there are %d, want as many at most", strconv.Itoa(c.require), c.names[0], len(c.specs))
}

// reachable checks a member that SRV or HTTPS records lead to by its label, which is a name of one host, then.
// labels are those before it: their tiers, and their families.
func (c *config) reachable(m pool.Member, tier int, labels map[string][]pool.Rank) error {
	if m.Port == 0 && len(c.services) > 0 {
		return c.tierAt[tier].errorf("member %q of pool %q has no port, want one for its SRV records", m, c.names[0])
	}
	label := answer.HostLabel(m)
	for _, before := range labels[label] {
		if before.Tier != tier || before.Members[0].Addr.Is4() == m.Addr.Is4() {
			return c.tierAt[tier].errorf("label %q of member %q of pool %q is that of %q, want another: it is a name in SRV and HTTPS records, of one host", label, m, c.names[0], before.Members[0])
		}
	}
	labels[label] = append(labels[label], pool.Rank{Tier: tier, Members: []pool.Member{m}})
	return nil
}

// members checks the members of the pool as a whole.
func (c *config) members() error {
	seen, labels := make(map[netip.Addr]bool, c.Size()), make(map[string][]pool.Rank)
	for i, tier := range c.Tiers {
		for _, m := range tier {
			if c.Ranked {
				if err := c.reachable(m, i, labels); err != nil {
					return err
				}
			}
			if seen[m.Addr] {
				return c.tierAt[i].errorf("address %q is in pool %q twice, want each address once", m.Addr, c.names[0])
			}
			seen[m.Addr] = true
			for _, spec := range c.specs {
				if _, err := spec.Target(netip.AddrPortFrom(m.Addr, m.Port)); err != nil {
					return c.tierAt[i].errorf("member %q of pool %q: %v", m, c.names[0], err)
				}
			}
		}
		if c.Min.Of(len(tier)) > len(tier) {
			at := c.tierAt[i]
			if p, said := c.said["min"]; said {
				at = p.position
			}
			return at.errorf("min \"%d\" can never be reached in tier %d of pool %q, want %d or less", c.Min.Count, i, c.names[0], len(tier))
		}
	}
	for _, m := range c.Fallback.Other {
		if before, ok := labels[answer.HostLabel(m)]; ok && c.Ranked && before[0].Members[0].Addr != m.Addr {
			return c.position.errorf("fallback %q of pool %q has the name %q in SRV and HTTPS records, which is that of %q, want another label", m.Addr, c.names[0], answer.HostLabel(m), before[0].Members[0])
		}
	}
	return nil
}
