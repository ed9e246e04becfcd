package failover

import "net/netip"

// forbidden are the networks that no answer can make us probe unless the operator allows it: what is in
// them is this host, its link, or what a cloud tells its machines alone. Answers from the network must not
// become somebody's eyes inside.
var forbidden = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), // this host
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), // link-local, and most clouds' metadata
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("100.100.100.200/32"), // the metadata of Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),   // what Azure tells its machines
	netip.MustParsePrefix("192.0.0.192/32"),     // the metadata of Oracle Cloud, besides 169.254.169.254
	netip.MustParsePrefix("::/96"),              // this host, and a notation for IPv4 that is out of use
	netip.MustParsePrefix("64:ff9b:1::/48"),     // what a local translator makes of IPv4 (RFC 8215)
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("fd00:ec2::254/128"),      // the metadata of AWS
	netip.MustParsePrefix("fd20:ce::254/128"),       // that of Google Cloud
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // that of Oracle Cloud
}

// mayProbe says whether an address may be probed because an answer has it. One that is an IPv4 address in
// IPv6 notation never is: the system would dial the IPv4 address.
func (o *overlay) mayProbe(addr netip.Addr) bool {
	if addr.Is4In6() {
		return false
	}
	if inside, ok := translated(addr); ok && o.allow == nil && !o.mayProbe(inside) {
		return false
	}
	networks, within := o.allow, true
	if networks == nil {
		networks, within = forbidden, false
	}
	for _, n := range networks {
		if n.Contains(addr) {
			return within
		}
	}
	return !within
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixToFour = netip.MustParsePrefix("2002::/16")    // RFC 3056
)

// translated is the IPv4 address that a translator makes of an IPv6 address.
func translated(addr netip.Addr) (inside netip.Addr, ok bool) {
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return inside, false
}
