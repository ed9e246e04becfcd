package failover

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns-failover/failover/plugin/probe"

	"github.com/prometheus/client_golang/prometheus"
)

// section returns the text of a section of the README, without its heading.
func section(t *testing.T, name string) string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(readme), "\n## "+name+"\n")
	if !ok {
		t.Fatalf("README.md has no section %q", name)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// firsts are the first submatches of a pattern in a text.
func firsts(pattern, text string) []string {
	var found []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// wanted is the list at the end of an error that says what was wanted, if it has one.
func wanted(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		t.Fatal("Expected an error")
	}
	_, list, ok := strings.Cut(err.Error(), "want one of ")
	if !ok {
		return nil
	}
	return strings.Split(list, ", ")
}

func TestReadmeHasEveryProperty(t *testing.T) {
	syntax := section(t, "Syntax")
	want := slices.Sorted(maps.Keys(properties))

	_, block, _ := strings.Cut(syntax, "failover [NAME...] [ADDRESS...] {\n")
	block, _, _ = strings.Cut(block, "}\n")
	if got := slices.Sorted(slices.Values(firsts(`(?m)^    (\w+) `, block))); !slices.Equal(got, want) {
		t.Errorf("The long form in the README has the properties\n%v, want\n%v", got, want)
	}
	if got := slices.Sorted(slices.Values(firsts("(?m)^\\* `(\\w+)(?: next)?` (?:is|are|keeps|puts|makes) ", syntax))); !slices.Equal(got, want) {
		t.Errorf("The README explains the properties\n%v, want\n%v", got, want)
	}
	for word, p := range properties {
		if !regexp.MustCompile(`(?m)^    ` + word + ` +` + regexp.QuoteMeta(p.usage) + `$`).MatchString(block) {
			t.Errorf("The README has no line %q %q", word, p.usage)
		}
	}
	for word := range fallbacks {
		if !strings.Contains(syntax, "`"+word+"`") {
			t.Errorf("The README does not explain fallback %q", word)
		}
	}
}

func TestReadmeHasEveryProbeOption(t *testing.T) {
	syntax := section(t, "Syntax")
	_, err := probe.Parse([]string{"no://"}, "example.org", "")
	for _, kind := range wanted(t, err) {
		if !strings.Contains(syntax, "`"+kind+"`") {
			t.Errorf("The README does not explain probe kind %q", kind)
		}
		_, err := probe.Parse([]string{kind + "://", "no"}, "example.org", "")
		want := wanted(t, err)
		var got []string
		for item := range strings.SplitSeq(syntax, "\n* ") {
			kinds, options, _ := strings.Cut(item, ": ")
			if regexp.MustCompile("^(`\\w+`(, )?)+$").MatchString(kinds) && strings.Contains(kinds, "`"+kind+"`") {
				options = strings.Join(strings.Fields(options), " ")
				got = append(got, firsts("(?:^|[;:] )`(\\w+)\\b", options)...)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("The README explains the options %v of %s, want %v", got, kind, want)
		}
	}
}

func TestReadmeHasEveryMetric(t *testing.T) {
	got := slices.Sorted(slices.Values(firsts("(?m)^\\* `coredns_failover_(\\w+)[`{]", section(t, "Metrics"))))
	descs := make(chan *prometheus.Desc, 32)
	for _, c := range []prometheus.Collector{answers, &transitions, probes, probeDuration, probeLateness, updates, operations, refusedChanges, gauges{}} {
		c.Describe(descs)
	}
	close(descs)
	var want []string
	for d := range descs {
		want = append(want, firsts(`fqName: "coredns_failover_(\w+)"`, d.String())...)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("The README has the metrics\n%v, want\n%v", got, want)
	}
}

func TestReadmeHasTheDefaults(t *testing.T) {
	d := defaults()
	syntax := strings.Join(strings.Fields(section(t, "Syntax")), " ")
	for word, value := range map[string]string{
		"interval": short(d.settings.Interval) + " by default",
		"recheck":  short(d.settings.Recheck) + " by default",
		"timeout":  short(d.settings.Timeout) + " by default",
		"hold":     short(d.Hold) + " by default",
		"startup":  short(d.startup) + " by default",
		"ttl":      short(d.MinTTL) + " and " + "60s" + " by default",
		"fall":     "3 by default",
		"rise":     "2 by default",
		"min":      "1 by default",
	} {
		_, text, _ := strings.Cut(syntax, "* `"+word+"` ")
		text, _, _ = strings.Cut(text, " * ")
		if !strings.Contains(text, value) {
			t.Errorf("The README says of %s %q, want %q in it", word, text, value)
		}
	}
}

// The README lists the networks that an overlay never probes, each with its reason, in the order of the code.
func TestReadmeHasTheNetworksNeverProbed(t *testing.T) {
	var got, want []string
	for _, row := range firsts("(?m)^(\\| `[0-9a-f:.]+/\\d+` .*) \\|$", section(t, "Overlay")) {
		got = append(got, strings.Join(strings.Fields(row), " "))
	}
	for _, n := range neverProbed {
		want = append(want, "| `"+n.String()+"` | "+n.reason)
	}
	if !slices.Equal(got, want) {
		t.Errorf("The README lists the networks\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
