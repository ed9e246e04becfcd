package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// arrows are the imports between the packages of plugin: each package may import these, and no others.
var arrows = map[string][]string{
	"answer":   {"pool", "rrset"},
	"dnsname":  nil,
	"health":   nil,
	"monitor":  {"health", "probe"},
	"override": {"pool"},
	"pool":     nil,
	"probe":    nil,
	"quorum":   {"health"},
	"rrset":    nil,
	"share":    {"health", "override", "quorum"},
	"state":    {"health", "override"},
	"api":      {"override"},
}

// arithmetic are the packages that read no clock, start no goroutine, take no lock, open no connection and write no log.
var arithmetic = []string{"answer", "dnsname", "health", "override", "pool", "quorum", "rrset"}

// caddyFiles are the files of the root package that know how CoreDNS starts and reloads.
var caddyFiles = []string{"plan.go", "setup.go", "warnings.go"}

const ourModule = "github.com/coredns-failover/failover"

// TestLayout checks that imports run one way.
func TestLayout(t *testing.T) {
	list := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		name, isPlugin := strings.CutPrefix(words[0], ourModule+"/plugin/")
		allowed, known := arrows[name]
		for _, imported := range words[1:] {
			ours, isOurs := strings.CutPrefix(imported, ourModule)
			switch {
			case !isOurs:
			case isPlugin && (!known || !slices.Contains(allowed, strings.TrimPrefix(ours, "/plugin/"))):
				t.Errorf("%s imports %s, want %q only", name, ours, allowed)
			case words[0] == ourModule && !strings.HasPrefix(ours, "/plugin/"):
				t.Errorf("The root imports %s, want packages of plugin only", ours)
			}
		}
		if isPlugin {
			seen++
			if !known {
				t.Errorf("Package %s is in no row of arrows", name)
			}
		}
	}
	if seen != len(arrows) {
		t.Errorf("go list has %d packages of plugin, want the %d of arrows", seen, len(arrows))
	}
}

// TestCaddyFiles checks which files of the root package import caddy.
func TestCaddyFiles(t *testing.T) {
	var got []string
	for name, file := range parseFolder(t, "..") {
		for _, i := range file.Imports {
			if strings.HasPrefix(i.Path.Value, `"github.com/coredns/caddy`) {
				got = append(got, name)
			}
		}
	}
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, caddyFiles) {
		t.Errorf("caddy is imported by %q, want %q", got, caddyFiles)
	}
}

// TestArithmetic checks that the packages that are arithmetic are so.
func TestArithmetic(t *testing.T) {
	forbidden := []string{"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc", "time.NewTimer", "time.NewTicker",
		"sync.Mutex", "sync.RWMutex", "net.Dial", "net.Listen", "os.Open", "os.ReadFile"}
	for _, name := range arithmetic {
		for file, tree := range parseFolder(t, filepath.Join("..", "plugin", name)) {
			ast.Inspect(tree, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s/%s starts a goroutine", name, file)
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && slices.Contains(forbidden, x.Name+"."+n.Sel.Name) {
						t.Errorf("%s/%s uses %s.%s", name, file, x.Name, n.Sel.Name)
					}
				}
				return true
			})
			for _, i := range tree.Imports {
				if path := strings.Trim(i.Path.Value, `"`); path == "log" || strings.HasSuffix(path, "/pkg/log") {
					t.Errorf("%s/%s imports %s", name, file, path)
				}
			}
		}
	}
}

// parseFolder parses the Go files of a folder, without tests, by their names.
func parseFolder(t *testing.T, folder string) map[string]*ast.File {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]*ast.File)
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			if files[name], err = parser.ParseFile(token.NewFileSet(), filepath.Join(folder, name), nil, parser.SkipObjectResolution); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(files) == 0 {
		t.Fatalf("%s has no Go files", folder)
	}
	return files
}
