package rrset

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Uniform is a set with each record once, and with one TTL, the least (RFC 2181, sections 5 and 5.2).
func Uniform(rrs []dns.RR) []dns.RR {
	if len(rrs) == 1 {
		return rrs
	}
	seen, ttl, same := make(map[string]bool, len(rrs)), rrs[0].Header().Ttl, true
	kept := make([]dns.RR, 0, len(rrs))
	for _, rr := range rrs {
		h := rr.Header()
		same, ttl = same && h.Ttl == ttl, min(ttl, h.Ttl)
		if data := Data(rr); !seen[data] {
			seen[data] = true
			kept = append(kept, rr)
		}
	}
	switch {
	case !same:
		return LimitTTL(kept, ttl)
	case len(kept) < len(rrs):
		return kept
	}
	return rrs
}

// EqualSOA says whether two SOA records are the same, their TTL included.
func EqualSOA(a, b *dns.SOA) bool { return a.Hdr.Ttl == b.Hdr.Ttl && dns.IsDuplicate(a, b) }

// Sets are the records of a zone by their owner and type.
type Sets map[Key][]dns.RR

// Add puts a record into its set.
func (s Sets) Add(key Key, rr dns.RR) { s[key] = append(s[key], rr) }

// Difference is what makes sets out of what was before.
func Difference(before, now Sets) (deleted, added []dns.RR) {
	for key, rrs := range before {
		deleted = append(deleted, Missing(rrs, now[key])...)
	}
	for key, rrs := range now {
		added = append(added, Missing(rrs, before[key])...)
	}
	slices.SortFunc(deleted, compareRecords)
	slices.SortFunc(added, compareRecords)
	return deleted, added
}

// compareRecords orders records by owner, type and what is in them.
func compareRecords(a, b dns.RR) int {
	h, o := a.Header(), b.Header()
	return cmp.Or(cmp.Compare(h.Name, o.Name), cmp.Compare(h.Rrtype, o.Rrtype), cmp.Compare(a.String(), b.String()))
}

// manyRecords is from how many records on it takes less to write each down than to compare it with all others.
const manyRecords = 16

// Missing are the records of a set that another does not have, with the same TTL.
func Missing(rrs, other []dns.RR) []dns.RR {
	if len(rrs) == len(other) && (len(rrs) == 0 || &rrs[0] == &other[0]) {
		return nil // the same memory, as it is in most sets of two editions
	}
	return NotIn(rrs, other, func(a, b dns.RR) bool { return a.Header().Ttl == b.Header().Ttl && dns.IsDuplicate(a, b) })
}

// NotIn are those of some records that another set does not have. What same takes for the same has the same data.
func NotIn(rrs, other []dns.RR, same func(a, b dns.RR) bool) []dns.RR {
	var index map[string]dns.RR
	var lost []dns.RR
	for i, rr := range rrs {
		if i < len(other) && same(rr, other[i]) {
			continue
		}
		if len(other) <= manyRecords {
			if !slices.ContainsFunc(other, func(o dns.RR) bool { return same(rr, o) }) {
				lost = append(lost, rr)
			}
			continue
		}
		if index == nil {
			index = make(map[string]dns.RR, len(other))
			for _, o := range other {
				index[Data(o)] = o
			}
		}
		if o := index[Data(rr)]; o == nil || !same(rr, o) {
			lost = append(lost, rr)
		}
	}
	return lost
}

// Data is the data of a record in words, which within a set tells it from the others.
func Data(rr dns.RR) string { return strings.TrimPrefix(rr.String(), rr.Header().String()) }

// SameData says whether two sets, with each record once, are the same but for their order and their TTL.
func SameData(a, b []dns.RR) bool {
	return len(a) == len(b) && len(NotIn(a, b, dns.IsDuplicate)) == 0
}

// Key tells the sets of records in a section apart.
type Key struct {
	Owner string // in lower case
	Type  uint16
}

// LimitTTL returns records with a TTL of at most ttl: copies, where one has more.
func LimitTTL(rrs []dns.RR, ttl uint32) []dns.RR {
	if !slices.ContainsFunc(rrs, func(rr dns.RR) bool { return rr.Header().Ttl > ttl }) {
		return rrs
	}
	return altered(rrs, func(h *dns.RR_Header) { h.Ttl = min(h.Ttl, ttl) })
}

// AddrOf is the address in a record of one.
func AddrOf(rr dns.RR) (addr netip.Addr, ok bool) {
	switch rr := rr.(type) {
	case *dns.A:
		addr, ok = netip.AddrFromSlice(rr.A)
		return addr.Unmap(), ok // package net has both forms of IPv4
	case *dns.AAAA:
		return netip.AddrFromSlice(rr.AAAA)
	}
	return addr, false
}

// Dedupe drops records that stand there before: a host may have several ports.
func Dedupe(rrs []dns.RR) []dns.RR {
	seen := make(map[string]bool, len(rrs))
	return slices.DeleteFunc(rrs, func(rr dns.RR) bool {
		addr, _ := AddrOf(rr)
		key := rr.Header().Name + " " + addr.String()
		before := seen[key]
		seen[key] = true
		return before
	})
}

// Addresses makes the address records of owner, all of one family, in three pieces of memory.
func Addresses(owner string, addrs []netip.Addr, ttl uint32) []dns.RR {
	if len(addrs) == 0 {
		return nil
	}
	rrs := make([]dns.RR, len(addrs))
	header := dns.RR_Header{Name: owner, Class: dns.ClassINET, Ttl: ttl}
	if addrs[0].Is4() {
		header.Rrtype = dns.TypeA
		as, data := make([]dns.A, len(addrs)), make([]byte, 0, len(addrs)*net.IPv4len)
		for i, a := range addrs {
			data = append(data, a.AsSlice()...)
			as[i] = dns.A{Hdr: header, A: slices.Clip(data[len(data)-net.IPv4len:])}
			rrs[i] = &as[i]
		}
		return rrs
	}
	header.Rrtype = dns.TypeAAAA
	as, data := make([]dns.AAAA, len(addrs)), make([]byte, 0, len(addrs)*net.IPv6len)
	for i, a := range addrs {
		data = append(data, a.AsSlice()...)
		as[i] = dns.AAAA{Hdr: header, AAAA: slices.Clip(data[len(data)-net.IPv6len:])}
		rrs[i] = &as[i]
	}
	return rrs
}

// WithOwner returns rrs for another owner: copies, unless it is the same name in the same case.
func WithOwner(rrs []dns.RR, owner string) []dns.RR {
	if len(rrs) == 0 || rrs[0].Header().Name == owner {
		return slices.Clip(rrs)
	}
	return altered(rrs, func(h *dns.RR_Header) { h.Name = owner })
}

// altered returns copies of the records of one set, each with its header as alter leaves it. Those of
// addresses are two pieces of memory.
func altered(rrs []dns.RR, alter func(*dns.RR_Header)) []dns.RR {
	mine := make([]dns.RR, len(rrs))
	switch rrs[0].(type) {
	case *dns.A:
		as := make([]dns.A, len(rrs))
		for i, rr := range rrs {
			as[i] = *rr.(*dns.A)
			mine[i] = &as[i]
		}
	case *dns.AAAA:
		as := make([]dns.AAAA, len(rrs))
		for i, rr := range rrs {
			as[i] = *rr.(*dns.AAAA)
			mine[i] = &as[i]
		}
	default:
		for i, rr := range rrs {
			mine[i] = dns.Copy(rr)
		}
	}
	for _, rr := range mine {
		alter(rr.Header())
	}
	return mine
}
