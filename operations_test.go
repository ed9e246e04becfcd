package failover

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// operationsPage is the section of docs/operations.md with a heading.
func operationsPage(t *testing.T, heading string) string {
	t.Helper()
	page, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("docs/operations.md has no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// logLines are the formats of all that is logged in the files of some folders, each with its level before it.
func logLines(t *testing.T, folders ...string) []string {
	t.Helper()
	lines := make(map[string]bool)
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("No Go files in %q: %v", folder, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				level, args := logCall(call)
				if level == "" {
					return true
				}
				format, ok := args[0].(*ast.BasicLit)
				if !ok {
					t.Errorf("%s: what is logged is no string, want one that can be found in a page", fset.Position(call.Pos()))
					return true
				}
				text, err := strconv.Unquote(format.Value)
				if err != nil {
					t.Fatal(err)
				}
				lines[level+" "+text] = true
				return true
			})
		}
	}
	return slices.Sorted(maps.Keys(lines))
}

// logCall is the level of a call that logs, and its format with what goes into that: of log.Infof(...) and its like, and of
// say(log.Info, ...), by which an updater has a line written when it has let go of its lock.
func logCall(call *ast.CallExpr) (level string, args []ast.Expr) {
	levels := map[string]string{"Debug": "debug", "Info": "info", "Warning": "warning", "Error": "error", "Fatal": "fatal"}
	method := func(e ast.Expr) string {
		s, ok := e.(*ast.SelectorExpr)
		if !ok {
			return ""
		}
		switch x := s.X.(type) {
		case *ast.Ident:
			ok = x.Name == "log"
		case *ast.SelectorExpr:
			ok = x.Sel.Name == "log"
		default:
			ok = false
		}
		if !ok {
			return ""
		}
		return levels[strings.TrimSuffix(s.Sel.Name, "f")]
	}
	if level = method(call.Fun); level != "" {
		return level, call.Args
	}
	if say, ok := call.Fun.(*ast.Ident); ok && say.Name == "say" && len(call.Args) > 1 {
		return method(call.Args[0]), call.Args[1:]
	}
	return "", nil
}

// What the log can say stands in the table of the page, and nothing else does.
func TestOperationsHasEveryLogLine(t *testing.T) {
	// What differs is a verb in the code, and one of these words in the page. A last one that may be nothing is left out.
	words := regexp.MustCompile(`\b(ADDRESS|ANSWER|CAUSE|COUNT|DURATION|ERROR|FILE|KIND|MEMBER|NAME|OVERLAY|OVERRIDE|POOL|PROBE|REASON|REQUEST|SERVER|SITE|STATUS|SUMMARY|TARGET|TIME|ZONE)\b`)
	var got, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| (\\w+) \\| `([^`]+)` \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(operationsPage(t, "Log lines"), -1) {
		got = append(got, m[1]+" "+words.ReplaceAllString(m[2], "%"))
	}
	rows := strings.Count(operationsPage(t, "Log lines"), "\n| ") - 2 // its head
	if len(got) != rows {
		t.Errorf("%d of %d rows can be read", len(got), rows)
	}
	folders, err := filepath.Glob("plugin/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range logLines(t, append(folders, ".")...) {
		want = append(want, regexp.MustCompile(`%[a-z]`).ReplaceAllString(regexp.MustCompile(`(\S)%s$`).ReplaceAllString(format, "$1"), "%"))
	}
	if len(want) < 30 {
		t.Fatalf("The code logs %d lines, want those that it has: %q", len(want), want)
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("docs/operations.md has %q, which nothing logs", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("docs/operations.md does not have %q", line)
		}
	}
	if slices.Sort(got); len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("docs/operations.md has a line twice: %q", got)
	}
}

// The page has the metrics of the README, each with the alerts that go by it.
func TestOperationsHasEveryMetric(t *testing.T) {
	rules, err := os.ReadFile("deploy/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string][]string)
	for _, metric := range firsts("(?m)^\\* `coredns_failover_(\\w+)[`{]", section(t, "Metrics")) {
		want[metric] = nil
	}
	for _, rule := range strings.Split(string(rules), "- alert: ")[1:] {
		name, expr, _ := strings.Cut(rule, "\n")
		expr, _, _ = strings.Cut(expr, "labels:")
		// What a rule only uses to tell pools from overlays is not what it is about.
		expr, _, _ = strings.Cut(expr, "and on (job, instance, pool)")
		expr, _, _ = strings.Cut(expr, "unless on (job, instance, pool)")
		about := slices.Compact(slices.Sorted(slices.Values(firsts(`coredns_failover_(\w+?)(?:_bucket)?\b`, expr))))
		if len(about) == 0 {
			t.Errorf("The alert %s goes by no metric that can be read", name)
		}
		for _, metric := range about {
			want[metric] = append(want[metric], name)
		}
	}
	got := make(map[string][]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| [^|]+ \\| ([^|]*?) ?\\|$").FindAllStringSubmatch(operationsPage(t, "Metrics"), -1) {
		got[m[1]] = firsts(`(Failover\w+)`, m[2])
	}
	for metric, alerts := range want {
		if mine, ok := got[metric]; !ok || !slices.Equal(slices.Sorted(slices.Values(mine)), slices.Sorted(slices.Values(alerts))) {
			t.Errorf("docs/operations.md has of %s the alerts %q (%v), want %q", metric, mine, ok, alerts)
		}
	}
	for metric := range got {
		if _, ok := want[metric]; !ok {
			t.Errorf("docs/operations.md has %s, which the README does not", metric)
		}
	}
}
