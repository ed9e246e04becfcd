// Package bench measures failover beside the plugins of CoreDNS that answer for addresses too: the
// same question, in the same process, through the same server.
package bench

import (
	"context"
	"flag"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/coredns-failover/failover"
	"github.com/coredns-failover/failover/internal/directives"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/hosts"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	_ "github.com/coredns/coredns/plugin/template"
	"github.com/coredns/coredns/plugin/test"
	_ "github.com/coredns/coredns/plugin/whoami"

	"github.com/miekg/dns"
)

var (
	// server is a CoreDNS with a zone for each plugin that is measured.
	server *dnsserver.Server

	grabbed = make(chan *dnsserver.Server, 1)

	// underRace says whether there is a race detector in all that is measured.
	underRace bool
)

func TestMain(m *testing.M) {
	flag.Parse()
	clog.Discard()
	if name := os.Getenv(childKey); name != "" {
		os.Exit(runChild(name))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bench")
	if err == nil {
		defer os.RemoveAll(dir)
		var stop func()
		if stop, err = start(dir); err == nil {
			defer stop()
			return m.Run()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// others are the plugins that failover is measured beside.
var others = []string{"hosts", "file", "template", "whoami"}

// overlaid are the plugins that an overlay is measured over.
var overlaid = []string{"hosts", "file"}

// start starts the server and sets the variable of its name.
func start(dir string) (stop func(), err error) {
	dnsserver.Quiet = true
	if err := directives.Insert(); err != nil {
		return nil, err
	}
	if err := dnsserver.SetDirectives(slices.Insert(slices.Clone(dnsserver.Directives), 0, "grab")); err != nil {
		return nil, err
	}
	plugin.Register("grab", grab)

	members, port, closeMembers, err := listen(3)
	if err != nil {
		return nil, err
	}
	zone := "@ 60 IN SOA ns admin 1 7200 1800 86400 60\n@ 60 IN NS ns\n"
	for i := range 3 {
		zone += fmt.Sprintf("www 60 IN A 127.0.0.%d\n", i+1)
	}
	if err := os.WriteFile(filepath.Join(dir, "zone"), []byte(zone), 0o600); err != nil {
		return nil, err
	}
	blocks := map[string]string{
		"grab":       "grab",
		"failover":   "failover www.failover.test v4.failover.test " + members + "\nfailover *.wild.failover.test " + members,
		"cached":     "cache\nfailover www.cached.test " + members,
		"many1":      pools("many1.test", 1, members),
		"many1000":   pools("many1000.test", 1000, members),
		"many100000": pools("many100000.test", 100_000, members),
		"hosts":      "hosts {\n127.0.0.1 www.hosts.test\n127.0.0.2 www.hosts.test\n127.0.0.3 www.hosts.test\n}",
		"file":       "file " + filepath.Join(dir, "zone"),
		"template": "template IN A template.test {\n" + `answer "{{ .Name }} 60 IN A 127.0.0.1"` + "\n" +
			`answer "{{ .Name }} 60 IN A 127.0.0.2"` + "\n" + `answer "{{ .Name }} 60 IN A 127.0.0.3"` + "\n}",
		"whoami": "whoami",
	}
	// The same again under an overlay, whose members are up and probed.
	over := "failover {\nfrom next\nprobe tcp://:" + port + "\nallow 127.0.0.0/8\n"
	for _, name := range overlaid {
		under := strings.ReplaceAll(blocks[name], name+".test", name+"over.test")
		blocks[name+"over"] = over + "}\n" + under
		blocks[name+"sorted"] = over + "order sorted\n}\n" + strings.ReplaceAll(under, name+"over.test", name+"sorted.test")
	}
	var corefile strings.Builder
	for name, block := range blocks {
		fmt.Fprintf(&corefile, "%s.test:0 {\nbind 127.0.0.1\n%s\n}\n", name, block)
	}
	instance, err := caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(corefile.String()), ServerTypeName: "dns"})
	if err != nil {
		return nil, err
	}
	if _, err := dns.Exchange(new(dns.Msg).SetQuestion("grab.test.", dns.TypeA), instance.Servers()[0].LocalAddr().String()); err != nil {
		return nil, err
	}
	server = <-grabbed
	return func() {
		instance.ShutdownCallbacks()
		instance.Stop()
		closeMembers()
	}, nil
}

// listen opens so many members, which do nothing but accept connections.
func listen(n int) (members, port string, stop func(), err error) {
	var listeners []net.Listener
	stop = func() {
		for _, l := range listeners {
			l.Close()
		}
	}
	port = "0"
	for i := range n {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:%s", i+1, port))
		if err != nil {
			stop()
			return "", "", nil, err
		}
		listeners = append(listeners, l)
		_, port, _ = net.SplitHostPort(l.Addr().String()) // an overlay asks all of them on one
		members += " " + l.Addr().String()
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				c.Close()
			}
		}()
	}
	return members, port, stop, nil
}

// pools is directives for so many names, up to a thousand in a pool, and none of them its first: so
// each answer has to be given another owner.
func pools(zone string, names int, members string) string {
	var b strings.Builder
	for i := range names {
		if i%1000 == 0 {
			fmt.Fprintf(&b, "\nfailover first%d.%s", i, zone)
		}
		fmt.Fprintf(&b, " n%d.%s", i, zone)
		if i%1000 == 999 || i == names-1 {
			b.WriteString(members)
		}
	}
	return b.String()
}

// grab is a plugin that tells the server it runs in, when it is asked for the first time.
func grab(c *caddy.Controller) error {
	dnsserver.GetConfig(c).AddPlugin(func(plugin.Handler) plugin.Handler {
		return plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			grabbed <- ctx.Value(dnsserver.Key{}).(*dnsserver.Server)
			return dns.RcodeSuccess, w.WriteMsg(new(dns.Msg).SetReply(r))
		})
	})
	return nil
}

// writer is a client that costs nothing but keeps the answer.
type writer struct {
	test.ResponseWriter
	remote net.Addr
	msg    *dns.Msg
}

func (w *writer) RemoteAddr() net.Addr { return w.remote }
func (w *writer) WriteMsg(m *dns.Msg) error {
	w.msg = m
	return nil
}

func newWriter() *writer {
	return &writer{remote: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40212}}
}

// question is a query as most resolvers send it: with EDNS.
func question(name string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(name, qtype).SetEdns0(1232, false)
}

// ask returns a function that asks server the questions in turn.
func ask(questions ...*dns.Msg) func() {
	w, ctx, i := newWriter(), context.Background(), 0
	return func() {
		server.ServeDNS(ctx, w, questions[i])
		if i++; i == len(questions) {
			i = 0
		}
	}
}

// www asks for the address of a plugin's www.
func www(plugin string) func() {
	return ask(question("www."+plugin+".test.", dns.TypeA))
}

func bench(b *testing.B, f func()) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		f()
	}
}

// BenchmarkAnswer is one answer of three addresses; whoami has only one, and a record about the port.
func BenchmarkAnswer(b *testing.B) {
	for _, name := range append([]string{"failover"}, others...) {
		b.Run(name, func(b *testing.B) { bench(b, www(name)) })
	}
}

// BenchmarkKinds is the other answers of failover.
func BenchmarkKinds(b *testing.B) {
	for _, kind := range []struct {
		name, owner string
		qtype       uint16
	}{
		{"usual", "www.failover.test.", dns.TypeA},
		{"othercase", "wWw.fAilover.test.", dns.TypeA},
		{"wildcard", "any.wild.failover.test.", dns.TypeA},
		{"nodata", "v4.failover.test.", dns.TypeAAAA},
		{"othertype", "v4.failover.test.", dns.TypeTXT},
		{"nonterminal", "wild.failover.test.", dns.TypeA},
		{"nxdomain", "unknown.failover.test.", dns.TypeA},
		{"belowcache", "www.cached.test.", dns.TypeA},
	} {
		b.Run(kind.name, func(b *testing.B) { bench(b, ask(question(kind.owner, kind.qtype))) })
	}
}

// counts are the numbers of names that one server block is measured with.
var counts = []int{1, 1000, 100_000}

// BenchmarkOverlay is the answers of other plugins, and the same under an overlay.
func BenchmarkOverlay(b *testing.B) {
	for _, name := range overlaid {
		for _, over := range []string{"", "over", "sorted"} {
			b.Run(name+over, func(b *testing.B) { bench(b, www(name+over)) })
		}
	}
}

// someOf asks for names all over those of a zone, each in its turn.
func someOf(names int) func() {
	var questions []*dns.Msg
	for i := range min(names, 256) {
		questions = append(questions, question(fmt.Sprintf("n%d.many%d.test.", i*names/min(names, 256), names), dns.TypeA))
	}
	f := ask(questions...)
	for range questions { // the first answer of a pool makes its counter
		f()
	}
	return f
}

// BenchmarkNames is the answer of one of many names.
func BenchmarkNames(b *testing.B) {
	for _, n := range counts {
		b.Run(fmt.Sprint(n), func(b *testing.B) { bench(b, someOf(n)) })
	}
}

// BenchmarkParallel is as many at once as there are processors.
func BenchmarkParallel(b *testing.B) {
	for _, name := range append([]string{"failover"}, others...) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				f := www(name)
				for pb.Next() {
					f()
				}
			})
		})
	}
}

// What is measured has to be the answer to the question.
func TestAnswers(t *testing.T) {
	names := []string{"www.failover.test.", "WWW.failover.test.", "any.wild.failover.test.", "www.cached.test.", "www.hosts.test.", "www.file.test.", "www.template.test.",
		"www.hostsover.test.", "www.hostssorted.test.", "www.fileover.test.", "www.filesorted.test."}
	for _, n := range counts {
		names = append(names, fmt.Sprintf("n%d.many%d.test.", n-1, n))
	}
	for _, name := range names {
		w := newWriter()
		server.ServeDNS(context.Background(), w, question(name, dns.TypeA))
		var got []string
		if w.msg != nil {
			for _, rr := range w.msg.Answer {
				got = append(got, dns.Field(rr, 1))
			}
		}
		if want := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}; !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("Answer for %s is %v, want %v", name, got, want)
		}
	}
	w := newWriter()
	server.ServeDNS(context.Background(), w, question("www.whoami.test.", dns.TypeA))
	if w.msg == nil || len(w.msg.Extra) != 3 { // an address, the port, and EDNS
		t.Errorf("Answer of whoami is %v", w.msg)
	}
}

func TestFewerAllocations(t *testing.T) {
	ours := testing.AllocsPerRun(1000, www("failover"))
	for _, name := range others {
		theirs := testing.AllocsPerRun(1000, www(name))
		t.Logf("Failover allocates %.0f times, %s %.0f times", ours, name, theirs)
		if ours >= theirs {
			t.Errorf("Failover allocates %.0f times, want fewer than %s with %.0f", ours, name, theirs)
		}
	}
	// More names do not make more of them.
	one := testing.AllocsPerRun(1000, someOf(1))
	t.Logf("Failover allocates %.0f times for another name than the pool's first", one)
	for _, n := range counts {
		if many := testing.AllocsPerRun(1000, someOf(n)); many != one {
			t.Errorf("With %d names %.0f allocations, want %.0f as with one", n, many, one)
		}
	}
}

// An answer under an overlay has to cost little more than the answer itself.
func TestOverlayAllocations(t *testing.T) {
	for _, name := range overlaid {
		alone := testing.AllocsPerRun(1000, www(name))
		for _, over := range []string{"over", "sorted"} {
			under := testing.AllocsPerRun(1000, www(name+over))
			t.Logf("%s allocates %.0f times, %s%s %.0f times", name, alone, name, over, under)
			if under > alone+12 {
				t.Errorf("%s%s allocates %.0f times, want no more than 12 besides the %.0f of %s", name, over, under, alone, name)
			}
		}
	}
}

// fastest is the best time that each of several takes, in ns. The machine is a busy one at times: they take
// turns, in one process, for five rounds, and for more, up to twenty, as long as bad says that one of them
// takes too long: a neighbour may have been louder than the difference.
func fastest(t *testing.T, asks map[string]func(), bad func(best map[string]float64) []string) map[string]float64 {
	t.Helper()
	if testing.Short() || underRace {
		t.Skip("Measures for some seconds, and without the race detector")
	}
	benchtime := flag.Lookup("test.benchtime")
	before := benchtime.Value.String()
	defer benchtime.Value.Set(before)
	if err := benchtime.Value.Set("20ms"); err != nil {
		t.Fatal(err)
	}
	best := make(map[string]float64)
	for i := 0; i < 5 || i < 20 && len(bad(best)) > 0; i++ {
		for name, f := range asks {
			r := testing.Benchmark(func(b *testing.B) {
				b.Helper()
				bench(b, f)
			})
			if ns := float64(r.T.Nanoseconds()) / float64(r.N); best[name] == 0 || ns < best[name] {
				best[name] = ns
			}
		}
	}
	return best
}

// overlayCost is how many times as long an answer may take under an overlay: half as long again is what it should
// cost at most, and the rest is what two runs differ by.
const overlayCost = 1.6

func TestOverlayCost(t *testing.T) {
	asks := make(map[string]func())
	for _, name := range overlaid {
		asks[name], asks[name+"over"], asks[name+"sorted"] = www(name), www(name+"over"), www(name+"sorted")
	}
	slow := func(best map[string]float64) []string {
		var all []string
		for _, name := range overlaid {
			if best[name+"over"] > overlayCost*best[name] {
				all = append(all, name)
			}
		}
		return all
	}
	best := fastest(t, asks, slow)
	for _, name := range overlaid {
		for _, over := range []string{"over", "sorted"} {
			t.Logf("%s takes %.0f ns, %s%s %.0f ns: %.2f times as long", name, best[name], name, over, best[name+over], best[name+over]/best[name])
		}
	}
	for _, name := range slow(best) {
		t.Errorf("Under an overlay %s takes %.0f ns, want no more than %.1f times the %.0f that it takes alone", name, best[name+"over"], overlayCost, best[name])
	}
}

func TestFaster(t *testing.T) {
	asks := map[string]func(){"failover": www("failover")}
	for _, name := range others {
		asks[name] = www(name)
	}
	for _, n := range counts {
		asks[fmt.Sprint(n)] = someOf(n)
	}
	slower := func(best map[string]float64) []string {
		var all []string
		for _, name := range others {
			if best["failover"] >= best[name] {
				all = append(all, name)
			}
		}
		return all
	}
	best := fastest(t, asks, slower)
	for _, name := range others {
		t.Logf("Failover takes %.0f ns, %s %.0f ns: %.2f times as long", best["failover"], name, best[name], best[name]/best["failover"])
	}
	if names := slower(best); len(names) > 0 {
		t.Errorf("Failover takes %.0f ns, want less than %v: %v", best["failover"], names, best)
	}
	// A map of all names in the processor's cache is faster than one that is not: twice is still flat, and
	// far from what anything that looks at each name would take.
	flat := best["1"]
	for _, n := range counts {
		t.Logf("With %d names %.0f ns", n, best[fmt.Sprint(n)])
		if ratio := best[fmt.Sprint(n)] / flat; ratio > 2 || math.IsNaN(ratio) {
			t.Errorf("With %d names %.2f times as long as with one, want no more than twice", n, ratio)
		}
	}
}
