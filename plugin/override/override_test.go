package override

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/pool"
)

// since is when the overrides of these tests begin.
var since = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func of(target Target, action Action) Override {
	return Override{Target: target, Action: action, Since: since}
}

func member(address string) pool.Member {
	ap, ok := ParseMember(address)
	if !ok {
		panic(address)
	}
	return pool.Member{Addr: ap.Addr(), Port: ap.Port()}
}

func TestParseMember(t *testing.T) {
	for _, test := range []struct {
		word, want string // want "": it is no member
	}{
		{"192.0.2.10", "192.0.2.10"},
		{"192.0.2.10:443", "192.0.2.10:443"},
		{"2001:db8::10", "2001:db8::10"},
		{"2001:DB8:0::10", "2001:db8::10"},
		{"[2001:db8::10]", "2001:db8::10"},
		{"[2001:db8::10]:443", "[2001:db8::10]:443"},
		{"::ffff:192.0.2.10", "192.0.2.10"},
		{"[::ffff:192.0.2.10]:443", "192.0.2.10:443"},
		{"[192.0.2.10]", "192.0.2.10"},

		{"", ""},
		{"[]", ""},
		{"www.example.org", ""},
		{"192.0.2.10:", ""},
		{"192.0.2.10:0", ""}, // it would be the member with any port
		{"192.0.2.10:65536", ""},
		{"192.0.2.10:http", ""},
		{"]192.0.2.10[", ""},
		{"[192.0.2.10", ""},
		{"[[2001:db8::10]]", ""},
		{"192.0.2.010", ""},
		{"192.0.2.0/24", ""},
		{"fe80::1%eth0", ""},
		{"[fe80::1%eth0]:443", ""},
		{"192.0.2.10\n", ""},
	} {
		got, ok := ParseMember(test.word)
		if ok != (test.want != "") || ok && text(got) != test.want {
			t.Errorf("ParseMember(%q) is %v, %t, want %q", test.word, got, ok, test.want)
		}
	}
}

func TestCheck(t *testing.T) {
	at := Target{Member: "192.0.2.10"}
	for _, test := range []struct {
		name string
		o    Override
		want string // in the error; "": it is right
	}{
		{"drain", of(at, Drain), ""},
		{"in a pool", of(Target{Pool: "www.example.org.", Member: "[2001:db8::1]:443"}, Down), ""},
		{"label", of(Target{Label: "fra1"}, Up), ""},
		{"text", Override{Target: at, Action: Up, Reason: "Wartung: läuft, 维护", Author: "José", Since: since}, ""},
		{"until", Override{Target: at, Action: Up, Since: since, Until: since.Add(time.Second)}, ""},

		{"no action", of(at, ""), `action "", want drain, down or up`},
		{"unknown action", of(at, "Drain"), `action "Drain"`},
		{"no target", of(Target{}, Drain), "no member and no label"},
		{"pool only", of(Target{Pool: "www.example.org."}, Drain), "no member and no label"},
		{"label and member", of(Target{Label: "a", Member: "192.0.2.1"}, Drain), `label "a" beside`},
		{"no address", of(Target{Member: "fra1"}, Drain), `member "fra1", want an address`},
		{"over", Override{Target: at, Action: Up, Since: since, Until: since}, "until 2026-11-24T12:00:00Z, which is over"},
		{"far away", Override{Target: at, Action: Up, Since: since, Until: time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -7200))}, "until the year 10000"},
		{"long reason", Override{Target: at, Action: Up, Reason: strings.Repeat("x", maxText+1)}, "reason of 501 bytes, want 500 at most"},
		{"long author", Override{Target: at, Action: Up, Author: strings.Repeat("x", maxText+1)}, "author of 501 bytes"},
		{"second line", Override{Target: at, Action: Up, Reason: "a\nb"}, "reason with a control character at byte 1"},
		{"escape", Override{Target: at, Action: Up, Author: "\x1b[31m"}, "author with a control character at byte 0"},
		{"line separator", Override{Target: at, Action: Up, Reason: "a\u2028b"}, "reason with a control character"},
		{"turned direction", Override{Target: at, Action: Up, Reason: "a\u202eb"}, "reason with a control character"},
		{"no UTF-8", Override{Target: at, Action: Up, Author: "a\xff"}, `author "a\xff", want UTF-8`},
	} {
		switch err := test.o.Check(); {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v, want no error", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q in it", test.name, err, test.want)
		}
	}

	o := of(Target{Member: "[::ffff:192.0.2.10]:443"}, Drain)
	if err := o.Check(); err != nil || o.Member != "192.0.2.10:443" {
		t.Errorf("the member is %q (%v), want 192.0.2.10:443", o.Member, err)
	}
}

// TestFind has an override for each way to name a member, from the narrowest to the widest, and takes them away one by
// one.
func TestFind(t *testing.T) {
	const www = "www.example.org."
	m := pool.Member{Addr: netip.MustParseAddr("192.0.2.10"), Port: 443, Label: "Fra1"}
	narrowing := []Target{
		{Pool: www, Member: "192.0.2.10:443"},
		{Pool: www, Member: "192.0.2.10"},
		{Pool: "web.example.org.", Member: "192.0.2.10"},
		{Pool: www, Label: "fra1"},
		{Member: "192.0.2.10:443"},
		{Member: "192.0.2.10"},
		{Label: "fRA1"},
	}
	table := new(Table)
	for _, target := range narrowing {
		table = table.With(of(target, Drain))
	}
	for _, target := range narrowing {
		if o := table.Find([]string{www, "web.example.org."}, m); o == nil || o.Target != target {
			t.Errorf("found %v, want that of %s", o, target)
		}
		table = table.Without(target)
	}
	if o := table.Find([]string{www, "web.example.org."}, m); o != nil || table.Any() {
		t.Errorf("found %v in an empty table", o)
	}
}

func TestFindOther(t *testing.T) {
	table := new(Table).With(
		of(Target{Pool: "www.example.org.", Member: "192.0.2.10:443"}, Drain),
		of(Target{Member: "2001:db8::1"}, Down),
		of(Target{Member: "192.0.2.11:80"}, Up),
		of(Target{Label: "fra1"}, Up),
	)
	for _, test := range []struct {
		pool   string
		member pool.Member
		want   Action // "": none
	}{
		{"www.example.org.", member("192.0.2.10:443"), Drain},
		{"www.example.org.", member("192.0.2.10:80"), ""},
		{"www.example.org.", member("192.0.2.10"), ""},
		{"api.example.org.", member("192.0.2.10:443"), ""},
		{"any.", member("[2001:db8::1]:443"), Down},
		{"any.", member("2001:db8::1"), Down},
		{"any.", member("192.0.2.11"), ""},
		{"any.", member("192.0.2.11:80"), Up},
		{"any.", pool.Member{Addr: netip.MustParseAddr("::ffff:192.0.2.11"), Port: 80}, Up},
		{"any.", pool.Member{Addr: netip.MustParseAddr("192.0.2.99"), Label: "FRA1"}, Up},
		{"any.", pool.Member{Addr: netip.MustParseAddr("192.0.2.99"), Label: "fra2"}, ""},
	} {
		got := Action("")
		if o := table.Find([]string{test.pool}, test.member); o != nil {
			got = o.Action
		}
		if got != test.want {
			t.Errorf("%s in %s: %q, want %q", test.member, test.pool, got, test.want)
		}
	}
	if o := (*Table)(nil).Find([]string{"any."}, member("192.0.2.10")); o != nil {
		t.Errorf("nil has %v", o)
	}
}

// targets are those of a table, the oldest override first.
func targets(t *Table) string {
	var all []string
	for _, o := range t.All() {
		all = append(all, o.Target.String()+" "+string(o.Action))
	}
	return strings.Join(all, ", ")
}

func TestTable(t *testing.T) {
	a, b := Target{Member: "192.0.2.1"}, Target{Label: "Fra1"}
	later := of(b, Down)
	later.Since = since.Add(time.Minute)
	first := (*Table)(nil).With(later, of(a, Drain))
	if got, want := targets(first), "192.0.2.1 drain, label Fra1 down"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// The one of the same label in other letters takes its place, and the table before stays as it is.
	second := first.With(of(Target{Label: "FRA1"}, Up))
	if got, want := targets(second), "192.0.2.1 drain, label FRA1 up"; got != want || second.Len() != 2 {
		t.Errorf("%d: %s, want %s", second.Len(), got, want)
	}
	if got, want := targets(first), "192.0.2.1 drain, label Fra1 down"; got != want {
		t.Errorf("the table before has become %s, want %s", got, want)
	}
	if o := second.Get(Target{Label: "fra1"}); o == nil || o.Action != Up {
		t.Errorf("Get finds %v, want up", o)
	}
	if got := targets(second.Without(Target{Label: "fra1"}, a, Target{Member: "192.0.2.99"})); got != "" {
		t.Errorf("%s is left, want nothing", got)
	}
	if got := targets(second.Without(Target{Member: "192.0.2.99"})); got != targets(second) {
		t.Errorf("without another it is %s, want %s", got, targets(second))
	}
	var none *Table
	if none.Any() || none.Len() != 0 || none.Get(a) != nil || none.All() == nil || len(none.Without(a).All()) != 0 {
		t.Errorf("nil is not empty")
	}
}

func TestExpired(t *testing.T) {
	until := func(address string, d time.Duration) Override {
		o := of(Target{Member: address}, Drain)
		if d > 0 {
			o.Until = since.Add(d)
		}
		return o
	}
	table := new(Table).With(until("192.0.2.1", time.Minute), until("192.0.2.2", time.Hour), until("192.0.2.3", 2*time.Hour), until("192.0.2.4", 0))
	for _, test := range []struct {
		after time.Duration
		over  []string
		next  time.Duration // 0: never
	}{
		{0, nil, time.Minute},
		{time.Minute, []string{"192.0.2.1"}, time.Hour},
		{90 * time.Minute, []string{"192.0.2.1", "192.0.2.2"}, 2 * time.Hour},
		{3 * time.Hour, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, 0},
	} {
		over, next := table.Expired(since.Add(test.after))
		var got []string
		for _, o := range over {
			got = append(got, o.Member)
		}
		want := time.Time{}
		if test.next > 0 {
			want = since.Add(test.next)
		}
		if !slices.Equal(got, test.over) || !next.Equal(want) {
			t.Errorf("after %s: %v, next %s, want %v, %s", test.after, got, next, test.over, want)
		}
	}
}

func TestString(t *testing.T) {
	o := Override{Target: Target{Pool: "www.example.org.", Member: "192.0.2.10:443"}, Action: Drain, Author: "alice",
		Reason: "new disks", Since: since, Until: since.Add(time.Hour)}
	if got, want := o.String(), "drain by alice until 2026-11-24T13:00:00Z: new disks"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := o.Target.String(), "192.0.2.10:443 in www.example.org."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzMember reads arbitrary words as members: what is read stays what it is when it is read again, and an override of
// it finds that member and no other.
func FuzzMember(f *testing.F) {
	for _, s := range []string{"192.0.2.10", "192.0.2.10:443", "[2001:db8::10]:443", "[::ffff:192.0.2.10]", "fe80::1%eth0", "192.0.2.10:0", "[[::1]]", "a\n"} {
		f.Add(s, "reason")
	}
	f.Fuzz(func(t *testing.T, word, reason string) {
		o := Override{Target: Target{Member: word}, Action: Drain, Reason: reason, Since: since}
		parsed, ok := ParseMember(word)
		if err := o.Check(); err != nil {
			return
		}
		if !ok {
			t.Fatalf("Check takes %q, and ParseMember does not", word)
		}
		again := o
		if err := again.Check(); err != nil || again != o {
			t.Fatalf("%q becomes %q, and that %q (%v)", word, o.Member, again.Member, err)
		}
		if strings.ContainsAny(o.String()+o.Target.String(), "\r\n\x1b") {
			t.Fatalf("%q is more than a line", o.String())
		}
		m := pool.Member{Addr: parsed.Addr(), Port: parsed.Port()}
		table := new(Table).With(o)
		if table.Find([]string{"any."}, m) == nil {
			t.Fatalf("the override of %q does not find %s", o.Member, m)
		}
		if m.Addr = m.Addr.Next(); m.Addr.IsValid() && table.Find([]string{"any."}, m) != nil {
			t.Fatalf("the override of %q finds %s", o.Member, m)
		}
	})
}
