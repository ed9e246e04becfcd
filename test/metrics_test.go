package test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// wantMetric checks the value of a series. One that follows a line of the log may do so a moment later.
func wantMetric(t testing.TB, want float64, name string, labels ...string) {
	t.Helper()
	var value float64
	var ok bool
	if !within(time.Second, func() bool { value, ok = metric(t, name, labels...); return ok && value == want }) {
		t.Errorf("%s%q is %v, %t, want %v", name, labels, value, ok, want)
	}
}

// The names, kinds and labels are a promise to dashboards and alerts.
func TestMetricNames(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	s := start(t, block(pool("names.example.org", hosts)))
	s.ask("names.example.org.", dns.TypeA)
	hosts[0].answer(http.StatusServiceUnavailable)
	eventually(t, bound, "a member is down", func() bool { return len(lines(hosts[0].addr+": up -> down")) == 1 })

	want := map[string]string{
		"coredns_failover_member_up":              "GAUGE member pool",
		"coredns_failover_members":                "GAUGE pool status",
		"coredns_failover_tier":                   "GAUGE pool",
		"coredns_failover_answers_total":          "COUNTER pool server tier",
		"coredns_failover_transitions_total":      "COUNTER pool to",
		"coredns_failover_probes_total":           "COUNTER kind result",
		"coredns_failover_probe_duration_seconds": "HISTOGRAM kind",
		"coredns_failover_probe_lateness_seconds": "HISTOGRAM",
		"coredns_failover_overrides":              "GAUGE action",
		"coredns_failover_refused_changes_total":  "COUNTER reason",
		"coredns_failover_warnings":               "GAUGE kind",
	}
	all, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatalf("The metrics cannot be read: %v", err)
	}
	families := all[:0]
	got := make(map[string]string)
	for _, f := range all {
		if !strings.HasPrefix(f.GetName(), "coredns_failover_") || f.GetName() == "coredns_failover_overrides_total" { // of tests before
			continue
		}
		families = append(families, f)
		words := []string{f.GetType().String()}
		for _, pair := range f.GetMetric()[0].GetLabel() {
			words = append(words, pair.GetName())
		}
		got[f.GetName()] = strings.Join(words, " ")
		if words[0] == "HISTOGRAM" && len(f.GetMetric()[0].GetHistogram().GetBucket()) == 0 {
			t.Errorf("%s has no buckets", f.GetName())
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("The metrics are\n%q\nwant\n%q", got, want)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	for _, tc := range []struct {
		name   string
		labels string
		value  float64
	}{
		{"coredns_failover_member_up", "pool=names.example.org. member=" + hosts[0].addr, 0},
		{"coredns_failover_member_up", "pool=names.example.org. member=" + hosts[1].addr, 1},
		{"coredns_failover_members", "pool=names.example.org. status=up", 1},
		{"coredns_failover_members", "pool=names.example.org. status=down", 1},
		{"coredns_failover_members", "pool=names.example.org. status=unknown", 0},
		{"coredns_failover_transitions_total", "pool=names.example.org. to=up", 2},
		{"coredns_failover_transitions_total", "pool=names.example.org. to=down", 1},
		{"coredns_failover_answers_total", "pool=names.example.org. server=dns://127.0.0.1:0 tier=0", 1},
	} {
		wantMetric(t, tc.value, tc.name, strings.Fields(tc.labels)...)
	}
	passed, _ := metric(t, "coredns_failover_probes_total", "kind=http", "result=pass")
	failed, _ := metric(t, "coredns_failover_probes_total", "kind=http", "result=fail")
	if passed < 2 || failed < 3 {
		t.Errorf("%v probes have passed and %v failed, want 2 and 3 or more", passed, failed)
	}
}

// A member that nothing is known of has no status to show, and a pool in fallback is in no tier.
func TestMetricsUnknownAndFallback(t *testing.T) {
	h := member(t, "127.0.0.2")
	h.answer(silent)
	s := start(t, block(fmt.Sprintf("failover www.example.org %s {\n probe http://\n interval 1m\n timeout 1m\n startup 0s\n}", h)))
	if _, ok := metric(t, "coredns_failover_member_up", "pool=www.example.org."); ok {
		t.Error("A member without a status is shown as up or down")
	}
	wantMetric(t, 1, "coredns_failover_members", "pool=www.example.org.", "status=unknown")
	h.answer(http.StatusServiceUnavailable)
	if err := renew(t, s, block(pool("www.example.org", []*host{h}))); err != nil {
		t.Fatal(err)
	}
	wantMetric(t, -1, "coredns_failover_tier", "pool=www.example.org.")
	s.ask("www.example.org.", dns.TypeA)
	wantMetric(t, 1, "coredns_failover_answers_total", "pool=www.example.org.", "tier=fallback")
}

// Whatever is not in the Corefile any more has no series any more.
func TestMetricsForget(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	s := start(t, block(pool("www.example.org", hosts[:2]), pool("old.example.org", hosts[2:])))
	s.ask("www.example.org.", dns.TypeA)
	s.ask("old.example.org.", dns.TypeA)
	all := []string{"coredns_failover_answers_total", "coredns_failover_member_up", "coredns_failover_members", "coredns_failover_tier", "coredns_failover_transitions_total"}
	for _, pool := range []string{"www.example.org.", "old.example.org."} {
		if names := seriesOf(t, pool); !slices.Equal(names, all) {
			t.Errorf("There are series of %s in %q, want %q", pool, names, all)
		}
	}
	if err := renew(t, s, block(pool("www.example.org", hosts[1:2]))); err != nil {
		t.Fatal(err)
	}
	if names := seriesOf(t, "old.example.org."); len(names) > 0 {
		t.Errorf("There are still series of a pool that is gone: %q", names)
	}
	if _, ok := metric(t, "coredns_failover_member_up", "pool=www.example.org.", "member="+hosts[0].addr); ok {
		t.Error("There is still a series of a member that is gone")
	}
	wantMetric(t, 1, "coredns_failover_members", "pool=www.example.org.")
	wantMetric(t, 1, "coredns_failover_answers_total", "pool=www.example.org.") // it goes on from what was counted
	if err := renew(t, s, block("whoami")); err != nil {
		t.Fatal(err)
	}
	if names := seriesOf(t, "www.example.org."); len(names) > 0 {
		t.Errorf("There are still series without any pool: %q", names)
	}
}

// Two views with a pool of the same name are one for the gauges, which show the worse; nothing is said
// twice, which would break every scrape.
func TestMetricsOfViews(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	view := "view inside {\n expr incidr(client_ip(), '127.0.0.66/32')\n}"
	// For the second a member works that does not for the first.
	second := block(fmt.Sprintf("failover www.example.org %s %s", hosts[0], hosts[1]))
	s := start(t, block(view, pool("www.example.org", hosts[:1], "backup "+hosts[1].addr))+second)
	hosts[0].answer(http.StatusServiceUnavailable)
	eventually(t, bound, "a member is down", func() bool { return len(lines(hosts[0].addr+": up -> down")) == 1 })
	askFrom(t, s, "127.0.0.66", "www.example.org.", dns.TypeA)
	s.ask("www.example.org.", dns.TypeA)
	for labels, want := range map[string]float64{
		"coredns_failover_tier pool=www.example.org.":                              1,
		"coredns_failover_member_up pool=www.example.org. member=" + hosts[0].addr: 0,
		"coredns_failover_member_up pool=www.example.org. member=" + hosts[1].addr: 1,
		"coredns_failover_members pool=www.example.org. status=up":                 1,
		"coredns_failover_members pool=www.example.org. status=down":               1,
		"coredns_failover_answers_total pool=www.example.org. tier=1":              1,
		"coredns_failover_answers_total pool=www.example.org. tier=0":              1,
		"coredns_failover_transitions_total pool=www.example.org. to=down":         1,
	} {
		words := strings.Fields(labels)
		wantMetric(t, want, words[0], words[1:]...)
	}
	// One of them goes: the other stays as it is.
	if err := renew(t, s, second); err != nil {
		t.Fatal(err)
	}
	wantMetric(t, 0, "coredns_failover_tier", "pool=www.example.org.")
	wantMetric(t, 1, "coredns_failover_member_up", "pool=www.example.org.", "member="+hosts[0].addr)
	wantMetric(t, 1, "coredns_failover_transitions_total", "pool=www.example.org.", "to=down") // it goes on
}

// Probing that finds nothing new is silent.
func TestSteadyStateIsSilent(t *testing.T) {
	lines := record(t)
	hosts := members(t, "127.0.0.2", "127.0.0.3")
	start(t, block(pool("www.example.org", hosts)))
	hosts[0].answer(http.StatusServiceUnavailable)
	eventually(t, bound, "a member is down", func() bool { return len(lines(hosts[0].addr+": up -> down")) == 1 })
	said := len(lines(""))
	asked := hosts[0].asked.Load()
	eventually(t, bound, "there were ten more probes", func() bool { return hosts[0].asked.Load() > asked+10 })
	if now := lines(""); len(now) > said {
		t.Errorf("In the steady state the log says %q", now[said:])
	}
}
