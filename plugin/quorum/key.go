package quorum

import "net/netip"

// Key is a question and the target that is asked.
type Key struct {
	Question string
	Target   netip.AddrPort
}
