package share

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/override"
)

func drain(member string) override.Override {
	return override.Override{Target: override.Target{Member: member}, Action: override.Drain, Since: start.UTC()}
}

// words are all overrides: "192.0.2.1 192.0.2.2".
func (d *decisions) words() string {
	var words []string
	for _, o := range d.all() {
		words = append(words, o.Target.String())
	}
	return strings.Join(words, " ")
}

// etcdWith is what etcd has with drains of these.
func etcdWith(members ...string) map[string][]byte {
	all := make(map[string][]byte)
	for _, m := range members {
		o := drain(m)
		all[targetID(o.Target).String()] = []byte(text(decision{format, o}))
	}
	return all
}

func letWith(nonce string) (string, []byte) {
	l := letBack{format, "www.example.org.", "192.0.2.1:80", nonce}
	return idOf(l.Pool, l.Member).String(), []byte(text(l))
}

func TestDecisionsAreThoseOfEtcdAndOurs(t *testing.T) {
	d := newDecisions()
	o := drain("192.0.2.1")
	d.put(o.Target, &o)
	if _, changed := d.news(); changed {
		t.Error("there is news before all is known")
	}
	d.loaded(etcdWith("192.0.2.2", "192.0.2.3"), nil, 10, false)
	if all, changed := d.news(); !changed || len(all) != 3 {
		t.Errorf("loaded: news %v of %d, want true of 3", changed, len(all))
	}
	d.put(drain("192.0.2.2").Target, nil)
	want := func(what, words string, writes int) {
		t.Helper()
		overrides, _ := d.next()
		if got := d.words(); got != words || len(overrides) != writes {
			t.Errorf("%s: %q, %d to write; want %q, %d", what, got, len(overrides), words, writes)
		}
	}
	want("one put, one cleared", "192.0.2.1 192.0.2.3", 2)
	overrides, lets := d.next()
	d.done(overrides, lets, 12)
	want("written", "192.0.2.1 192.0.2.3", 0)
	d.decided(targetID(drain("192.0.2.2").Target).String(), []byte(text(decision{format, drain("192.0.2.2")}))) // from before
	d.reached(11)
	want("what has come is older", "192.0.2.1 192.0.2.3", 0)
	for word, value := range etcdWith("192.0.2.1") {
		d.decided(word, value)
	}
	d.decided(targetID(drain("192.0.2.2").Target).String(), nil)
	d.reached(12)
	want("ours has come", "192.0.2.1 192.0.2.3", 0)
	d.decided(targetID(drain("192.0.2.1").Target).String(), nil)
	want("another site has cleared it since", "192.0.2.3", 0)

	d.put(o.Target, &o)
	overrides, lets = d.next()
	d.put(o.Target, nil)
	d.done(overrides, lets, 20)
	want("cleared while it was written", "192.0.2.3", 1)
}

func TestDecisionsAfterARestore(t *testing.T) {
	d := newDecisions()
	d.loaded(etcdWith("192.0.2.1", "192.0.2.2"), nil, 10, true)
	if got := d.words(); got != "192.0.2.1 192.0.2.2" {
		t.Errorf("at first what etcd has is the truth, however it came about; got %q", got)
	}
	o := drain("192.0.2.3")
	d.put(o.Target, &o)
	d.loaded(etcdWith("192.0.2.1", "192.0.2.4"), nil, 5, true)
	if got := d.words(); got != "192.0.2.1 192.0.2.2 192.0.2.3" {
		t.Errorf("got %q, want what was decided", got)
	}
	overrides, _ := d.next()
	puts, drops := 0, 0
	for _, w := range overrides {
		if w.override == nil {
			drops++
		} else {
			puts++
		}
	}
	if puts != 2 || drops != 1 {
		t.Errorf("%d are put and %d cleared, want 2 and 1", puts, drops)
	}
}

func TestDecisionsThatAreNone(t *testing.T) {
	good := text(decision{format, drain("192.0.2.1")})
	for name, value := range map[string]string{
		"empty":          "",
		"not JSON":       "{",
		"another action": strings.Replace(good, "drain", "kill", 1),
		"another target": strings.Replace(good, "192.0.2.1", "192.0.2.2", 1),
		"a label too":    strings.Replace(good, `"member"`, `"label":"x","member"`, 1),
		"another format": strings.Replace(good, `"format":1`, `"format":2`, 1),
		"too large":      strings.Replace(good, `"action"`, `"more":"`+strings.Repeat("x", maxValue)+`","action"`, 1),
		"lines":          strings.Replace(good, `"action"`, `"reason":"a\nb","action"`, 1),
	} {
		d := newDecisions()
		d.loaded(etcdWith("192.0.2.1"), nil, 1, false)
		d.decided(targetID(drain("192.0.2.1").Target).String(), []byte(value))
		if d.words() != "" || d.ignored != 1 {
			t.Errorf("%s: %q is decided, %d ignored", name, d.words(), d.ignored)
		}
	}
}

func TestLetBackIsHeardOnce(t *testing.T) {
	d := newDecisions()
	word, value := letWith("a")
	before := map[string][]byte{word: value}
	d.loaded(nil, before, 1, false)
	d.letBack(word, value)
	d.loaded(nil, maps.Clone(before), 2, false)
	if len(d.back) != 0 {
		t.Errorf("what was there before us is heard: %v", d.back)
	}
	_, value = letWith("b")
	d.letBack(word, value)
	d.loaded(nil, map[string][]byte{word: value}, 3, false)
	d.letBack(word, nil)
	if len(d.back) != 1 {
		t.Errorf("heard %d times, want once: %v", len(d.back), d.back)
	}
	d.let(letBack{format, "www.example.org.", "192.0.2.1:80", "c"})
	_, lets := d.next()
	_, value = letWith("c")
	d.letBack(word, value)
	d.done(nil, lets, 4)
	if _, left := d.next(); len(d.back) != 1 || len(lets) != 1 || len(left) != 0 {
		t.Errorf("ours: heard %d times, written %d times, %d to write; want 1, 1, 0", len(d.back), len(lets), len(left))
	}
}

// A site that was cut off ends what it knows, and not what has been decided since.
func TestDecisionsThatAreOver(t *testing.T) {
	old, longer := drain("192.0.2.1"), drain("192.0.2.1")
	longer.Until = start.Add(time.Hour)
	value := func(o override.Override) []byte { return []byte(text(decision{format, o})) }
	word := targetID(old.Target).String()
	for name, tc := range map[string]struct {
		do   func(*decisions)
		want string
	}{
		"as it was":                      {func(d *decisions) { d.over(old) }, "clear"},
		"replaced before":                {func(d *decisions) { d.decided(word, value(longer)); d.over(old) }, ""},
		"replaced here, not written yet": {func(d *decisions) { d.put(old.Target, &longer); d.over(old) }, "put"},
		"replaced elsewhere, as it is read": {func(d *decisions) {
			d.over(old)
			d.loaded(map[string][]byte{word: value(longer)}, nil, 20, false)
		}, ""},
		"replaced elsewhere, as it is heard": {func(d *decisions) { d.over(old); d.decided(word, value(longer)) }, ""},
		"read again":                         {func(d *decisions) { d.over(old); d.loaded(map[string][]byte{word: value(old)}, nil, 20, false) }, "clear"},
	} {
		d := newDecisions()
		d.loaded(map[string][]byte{word: value(old)}, nil, 10, false)
		tc.do(d)
		overrides, _ := d.next()
		got := ""
		for _, w := range overrides {
			if got = "put"; w.override == nil {
				got = "clear"
			}
		}
		if there := d.words() != ""; got != tc.want || there != (tc.want != "clear") {
			t.Errorf("%s: to be written is %q, want %q; an override is there: %v", name, got, tc.want, there)
		}
	}
}
