package test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

const (
	dashboardFile = "../deploy/grafana/failover.json"
	rulesFile     = "../deploy/prometheus/rules.yml"
	rulesTest     = "../deploy/prometheus/rules_test.yml"
)

// unseen are the metrics that have no series before an operator does something, or without another site.
var unseen = regexp.MustCompile(`coredns_failover_(certificate|overrides|site|agreed|disagreements|share)`)

// The rules are rules, and fire when they should. Each of them is seen to fire, and to be silent.
func TestAlerts(t *testing.T) {
	promtool(t, "", "check", "rules", rulesFile)
	promtool(t, "", "test", "rules", rulesTest)
	silent, firing := make(map[string]bool), make(map[string]bool)
	for _, m := range regexp.MustCompile(`alertname: (\w+)\n +exp_alerts:( \[\])?\n`).FindAllStringSubmatch(content(t, rulesTest), -1) {
		if m[2] != "" {
			silent[m[1]] = true
		} else {
			firing[m[1]] = true
		}
	}
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(content(t, rulesFile), -1)
	if len(alerts) == 0 {
		t.Fatalf("%s has no alerts", rulesFile)
	}
	for _, a := range alerts {
		if !silent[a[1]] || !firing[a[1]] {
			t.Errorf("%s is tested to be silent: %t, to fire: %t, want both", a[1], silent[a[1]], firing[a[1]])
		}
	}
}

// What the dashboard and the rules name is there, and the series that the rules are tested with are as they are.
func TestDashboardNames(t *testing.T) {
	m := startMonitored(t)
	m.ask()
	eventually(t, bound, "a name is written", func() bool { _, ok := metric(t, "coredns_failover_updates_total"); return ok })
	live := m.metrics(t)
	promtool(t, live, "check", "metrics")

	labels := make(map[string][]string) // by the metric
	for _, series := range regexp.MustCompile(`(?m)^(coredns_failover_\w+)(?:\{(.*)\})? `).FindAllStringSubmatch(live, -1) {
		labels[series[1]] = labelNames(series[2])
	}
	for _, shown := range regexp.MustCompile("(?m)^\\* `("+unseen.String()+`\w*)(?:\{(.*)\})?`).FindAllStringSubmatch(content(t, "../README.md"), -1) {
		labels[shown[1]] = nil
		if shown[3] != "" {
			labels[shown[1]] = slices.Sorted(slices.Values(strings.Split(shown[3], ", ")))
		}
	}
	for _, native := range regexp.MustCompile(`(?m)^# TYPE (\w+) histogram$`).FindAllStringSubmatch(live, -1) {
		labels[native[1]] = labels[native[1]+"_count"]
	}
	for _, file := range []string{dashboardFile, rulesFile} {
		names := regexp.MustCompile(`coredns_failover_\w+`).FindAllString(content(t, file), -1)
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if _, ok := labels[name]; !ok {
				t.Errorf("%s has a metric %s, want one of %q", file, name, slices.Sorted(maps.Keys(labels)))
			}
		}
	}
	for _, series := range regexp.MustCompile(`series: (\w+)\{job="\w+", instance="\w+"(.*)\}`).FindAllStringSubmatch(content(t, rulesTest), -1) {
		if got, want := labelNames(series[2]), labels[series[1]]; !slices.Equal(got, want) {
			t.Errorf("%s has a series of %s with the labels %q, want %q", rulesTest, series[1], got, want)
		}
	}
}

// A Prometheus takes every expression of the dashboard and of the rules, and has an answer to all that is not silent by
// intention; so does one that scrapes native histograms.
func TestDashboard(t *testing.T) {
	m := startMonitored(t)
	servers := []*prom{startPrometheus(t, m.addr), startPrometheus(t, m.addr, "--enable-feature=native-histograms")}
	see := func(h *host, want string) {
		t.Helper()
		eventually(t, bound, fmt.Sprintf("each Prometheus has %s for %s", want, h), func() bool {
			m.ask()
			return !slices.ContainsFunc(servers, func(p *prom) bool {
				got, err := p.query(fmt.Sprintf("coredns_failover_member_up{member=%q}", h.addr))
				return err != nil || !slices.Equal(got, []string{want})
			})
		})
	}
	// Twice: that there is a counter is no change of it.
	for range 2 {
		for _, h := range m.dying {
			see(h, "1")
			h.stop()
			see(h, "0")
			h.start()
		}
	}
	for _, h := range m.dying {
		h.stop()
		see(h, "0")
	}
	asked := expressions(t)
	for _, p := range servers {
		missing := make(map[string]string)
		if !within(bound, func() bool {
			m.ask()
			clear(missing)
			for what, expr := range asked {
				if got, err := p.query(expr); err != nil {
					missing[what] = err.Error()
				} else if len(got) == 0 && !unseen.MatchString(expr) && !strings.HasPrefix(expr, "ALERTS") {
					missing[what] = "there is no data"
				}
			}
			return len(missing) == 0
		}) {
			for what, why := range missing {
				t.Errorf("%s: %s, from\n%s", what, why, asked[what])
			}
		}
		p.wantRules(t, "FailoverPoolOnFallback dead.example.org.", "FailoverPoolOnBackup moved.example.org.",
			"FailoverMembersDown dead.example.org.", "FailoverMembersDown moved.example.org.")
	}
}

// monitored is a CoreDNS with metrics, which has something of everything to show.
type monitored struct {
	*server
	addr  string  // where its metrics are
	dying []*host // without them moved.example.org is on its backup, and dead.example.org on its fallback
}

func startMonitored(t *testing.T) *monitored {
	t.Helper()
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	m := &monitored{addr: net.JoinHostPort(home, lowPort(t, home)), dying: []*host{hosts[0], hosts[2]}}
	m.server = start(t, writer(coreServer(t), "prometheus "+m.addr, pair("moved.example.org", hosts), "failover dead.example.org "+hosts[2].addr)+
		blockOn(beneath, over(hosts), overlayFile(t)))
	return m
}

// ask asks for the name of each pool.
func (m *monitored) ask() {
	m.server.ask("moved.example.org.", dns.TypeA)
	m.server.ask("dead.example.org.", dns.TypeA)
}

// metrics are what there is to scrape, of failover.
func (m *monitored) metrics(t *testing.T) string {
	t.Helper()
	r, err := http.Get("http://" + m.addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(regexp.MustCompile(`(?m)^(# \w+ )?coredns_failover_.*\n`).FindAllString(string(page), -1), "")
}

// expressions are what the dashboard asks of Prometheus, with its variables filled in, by where they stand.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	type query struct{ Expr string }
	var dashboard struct {
		Panels []struct {
			Type, Title, Description string
			Targets                  []query
		}
		Annotations struct{ List []query }
		Templating  struct {
			List []struct {
				Name  string
				Query any
			}
		}
	}
	if err := json.Unmarshal([]byte(content(t, dashboardFile)), &dashboard); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	found := make(map[string]string)
	for _, p := range dashboard.Panels {
		if p.Type != "row" && (p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("%s has a panel %q with the description %q and %d queries", dashboardFile, p.Title, p.Description, len(p.Targets))
		}
		for i, q := range p.Targets {
			found[fmt.Sprintf("%s, query %d", p.Title, i)] = q.Expr
		}
	}
	for i, q := range dashboard.Annotations.List {
		if q.Expr != "" {
			found[fmt.Sprintf("annotation %d", i)] = q.Expr
		}
	}
	var filled []string
	for _, v := range dashboard.Templating.List {
		filled = append(filled, "$"+v.Name, ".+")
		if m := regexp.MustCompile(`label_values\((.*), (\w+)\)`).FindStringSubmatch(fmt.Sprint(v.Query)); m != nil {
			found["variable "+v.Name] = fmt.Sprintf("count by (%[2]s) (%[1]s) unless count(%[1]s)", m[1], m[2]) // nothing without such a label
		}
	}
	fill := strings.NewReplacer(append([]string{"$__rate_interval", "1m", "$__range", "5m"}, filled...)...)
	for what, expr := range found {
		if found[what] = fill.Replace(expr); strings.Contains(found[what], "$") {
			t.Errorf("%s: no dashboard fills in\n%s", what, found[what])
		}
	}
	return found
}

// prom is a Prometheus.
type prom struct {
	*daemon
	url string
}

// startPrometheus starts one that scrapes a CoreDNS and goes by the rules. It speaks to nobody else.
func startPrometheus(t *testing.T, scraped string, options ...string) *prom {
	t.Helper()
	needs(t, "prometheus")
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	config := write(t, "prometheus.yml", fmt.Sprintf(`
global: {scrape_interval: 200ms, evaluation_interval: 200ms}
rule_files: [%q]
scrape_configs:
  - job_name: coredns
    static_configs: [{targets: [%q]}]
`, rules, scraped))
	at := net.JoinHostPort(home, lowPort(t, home))
	p := &prom{url: "http://" + at}
	p.daemon = beside(t, "prometheus", append(options, "--config.file="+config, "--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+at,
		"--web.external-url="+p.url, "--log.level=warn")...)
	eventually(t, 2*bound, "Prometheus is ready", func() bool {
		if p.hasEnded() {
			t.Fatalf("Prometheus has ended:\n%s", p.said)
		}
		_, err := p.query("1")
		return err == nil
	})
	return p
}

// get asks Prometheus's API.
func (p *prom) get(call string, into any) error {
	r, err := http.Get(p.url + "/api/v1/" + call)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: into}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		return fmt.Errorf("status %s: %w", r.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("Prometheus says %s: %s", answer.Status, answer.Error)
	}
	return nil
}

// query returns the values of an expression now. That of a scalar is none.
func (p *prom) query(expr string) (values []string, err error) {
	var data struct {
		Result json.RawMessage
	}
	if err := p.get("query?"+url.Values{"query": {expr}}.Encode(), &data); err != nil {
		return nil, err
	}
	var series []struct{ Value [2]any }
	if json.Unmarshal(data.Result, &series) == nil {
		for _, s := range series {
			values = append(values, fmt.Sprint(s.Value[1]))
		}
	}
	return values, nil
}

// wantRules waits until every rule has been gone by, without an error, and these alerts are on their way, each with the
// name of its pool in what it says.
func (p *prom) wantRules(t *testing.T, alerts ...string) {
	t.Helper()
	type rule struct {
		Name, Health, LastError string
		Alerts                  []struct{ Labels, Annotations map[string]string }
	}
	var data struct {
		Groups []struct{ Rules []rule }
	}
	var got, bad []string
	if !within(bound, func() bool {
		if err := p.get("rules", &data); err != nil {
			t.Fatal(err)
		}
		got, bad = nil, nil
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					bad = append(bad, fmt.Sprintf("%s is %s: %s", r.Name, r.Health, r.LastError))
				}
				for _, a := range r.Alerts {
					got = append(got, r.Name+" "+a.Labels["pool"])
					for _, text := range []string{"summary", "description"} {
						if said := a.Annotations[text]; !strings.Contains(said, a.Labels["pool"]) || strings.Contains(said, "<") {
							bad = append(bad, fmt.Sprintf("the %s of %s is %q", text, r.Name, said))
						}
					}
				}
			}
		}
		slices.Sort(alerts)
		slices.Sort(got)
		return len(bad) == 0 && slices.Equal(got, alerts)
	}) {
		t.Errorf("The alerts are %q, want %q; wrong are %q", got, alerts, bad)
	}
}

// promtool runs one of Prometheus's own checks.
func promtool(t *testing.T, input string, args ...string) {
	t.Helper()
	needs(t, "promtool")
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// labelNames are the names in a list of labels, sorted, but for the bound of a bucket.
func labelNames(labels string) []string {
	names := []string{}
	for _, m := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(labels, -1) {
		if m[1] != "le" {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return names
}

func content(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
