package monitor

import "hash/maphash"

// table finds checks by what they ask of whom. It is no map, as a check has the room to be in it: a map would take three
// times as much for each.
type table struct {
	seed   maphash.Seed
	chains []*Check // each of siblings
	count  int
}

func newTable() table { return table{seed: maphash.MakeSeed(), chains: make([]*Check, 8)} }

// chain is where the checks are that ask a question, of which text is the String, of a target, and maybe some others.
func (t *table) chain(text string, to packed) **Check {
	hash := maphash.Comparable(t.seed, struct {
		text string
		to   packed
	}{text, to})
	return &t.chains[hash%uint64(len(t.chains))]
}

// add puts a check in.
func (t *table) add(c *Check) {
	if t.count++; t.count > len(t.chains) {
		before := t.chains
		t.chains = make([]*Check, 2*len(before))
		for _, known := range before {
			for known != nil {
				next := known.sibling
				t.put(known)
				known = next
			}
		}
	}
	t.put(c)
}

func (t *table) put(c *Check) {
	first := t.chain(c.prober.String(), c.to)
	c.sibling, *first = *first, c
}

// remove takes a check out.
func (t *table) remove(c *Check) {
	at := t.chain(c.prober.String(), c.to)
	for *at != c {
		at = &(*at).sibling
	}
	*at, c.sibling = c.sibling, nil
	t.count--
}
