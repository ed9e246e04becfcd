package failover

import "net/netip"

// specialNetwork is a network that an overlay never probes unless `allow` names it, and the reason for that.
type specialNetwork struct {
	netip.Prefix
	reason string
}

// neverProbed are these networks, in the order of the table in the README. An answer from the network must not turn
// the server into a port scanner, and must not reach what only this host, its link or its cloud can reach.
//
// The sources are the IANA IPv4 and IPv6 Special-Purpose Address Registries and the IANA IPv6 Address Space. An entry
// that no router forwards, or that has no hosts, is in the list. Private networks are not, because members live there.
// Documentation networks are not either: nothing is at risk there, and examples and laboratories use them.
var neverProbed = []specialNetwork{
	{netip.MustParsePrefix("0.0.0.0/8"), "this host"},
	{netip.MustParsePrefix("100.100.100.200/32"), "metadata of Alibaba Cloud"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the platform of Azure"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local; metadata of most clouds"},
	{netip.MustParsePrefix("192.0.0.0/24"), "IETF protocol assignments; metadata of Oracle Cloud"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarks; management networks of clouds"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved; broadcast"},
	{netip.MustParsePrefix("::/3"), "loopback, discard, reserved; without `64:ff9b::/96`"},
	{netip.MustParsePrefix("2001::/23"), "IETF protocol assignments: Teredo, benchmarks, ORCHID"},
	{netip.MustParsePrefix("4000::/2"), "reserved; segment routing"},
	{netip.MustParsePrefix("8000::/2"), "reserved"},
	{netip.MustParsePrefix("c000::/3"), "reserved"},
	{netip.MustParsePrefix("e000::/4"), "reserved"},
	{netip.MustParsePrefix("f000::/5"), "reserved"},
	{netip.MustParsePrefix("f800::/6"), "reserved"},
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), "metadata of Oracle Cloud"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "metadata of AWS"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "metadata of Google Cloud"},
	{netip.MustParsePrefix("fe00::/9"), "reserved"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fec0::/10"), "site-local, out of use"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

// isNeverProbed reports whether an address is in a network that is never probed. The networks do not judge an
// address of the well-known prefix of NAT64: only the IPv4 address inside it counts.
func isNeverProbed(addr netip.Addr) bool {
	if nat64.Contains(addr) {
		return false
	}
	for i := range neverProbed {
		if neverProbed[i].Contains(addr) {
			return true
		}
	}
	return false
}

// mayProbe reports whether an address may be probed because an answer has it. An IPv4-mapped address never may: the
// system would dial the IPv4 address. An address with another IPv4 address inside may if both addresses may.
func (o *overlay) mayProbe(addr netip.Addr) bool {
	if addr.Is4In6() {
		return false
	}
	if inside, ok := embedded(addr); ok && isNeverProbed(inside) && !o.allows(inside) {
		return false
	}
	if o.allow != nil {
		return o.allows(addr)
	}
	return !isNeverProbed(addr)
}

// allows reports whether `allow` names a network of an address.
func (o *overlay) allows(addr netip.Addr) bool {
	for _, n := range o.allow {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixToFour = netip.MustParsePrefix("2002::/16")    // RFC 3056
)

// embedded returns the IPv4 address to which a translator or the end of a tunnel sends what goes to an IPv6 address.
func embedded(addr netip.Addr) (inside netip.Addr, ok bool) {
	if !addr.Is6() {
		return inside, false
	}
	b := addr.As16()
	isatap := b[8]&^0x03 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe // RFC 5214, section 6.1
	switch {
	case nat64.Contains(addr), isatap:
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return inside, false
}
