package ctl

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	f := serve(t)
	for words, want := range map[string]string{
		"":                             strings.Join(slices.Sorted(slices.Values(names())), " "),
		"dr":                           "drain",
		"-s":                           "-server",
		"status -un":                   "-unwell",
		"explain db":                   "db.example.org",
		"watch ":                       "api.example.org db.example.org www.example.org",
		"-o ":                          "json text",
		"drain ":                       "192.0.2.10:443 192.0.2.20:5432 192.0.2.21:5432 192.0.2.22:5432 192.0.2.40:443 198.51.100.10:443",
		"drain -label n":               "nyc",
		"drain -pool db":               "db.example.org",
		"drain -pool db.example.org d": "db1 db2",
		"drain -reason moving -pool www.example.org 19": "192.0.2.10:443 198.51.100.10:443",
		"drain --pool=www.example.org f":                "fra",
		"drain 192.0.2.10 -fo":                          "-for -force",
		"drain 192.0.2.10 1":                            "",
		"clear -fo":                                     "-force",
		"up -reason ":                                   "",
		"help wa":                                       "watch",
		"completion ":                                   "bash fish zsh",
		"check ":                                        "",
		"nonsense ":                                     "",
		"-server http://127.0.0.1:1 drain ":             "",
	} {
		got := run(t, append([]string{"$FAILOVER_SERVER=" + f.URL, "completion", "words", "--"}, strings.Split(words, " ")...)...)
		if found := strings.Join(strings.Fields(got.out), " "); got.status != good || got.err != "" || found != want {
			t.Errorf("%q is completed with %q, want %q; the status is %d: %s", words, found, want, got.status, got.err)
		}
	}
}

// Bash understands its script, and asks for what stands before the cursor.
func TestCompletionInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("There is no bash")
	}
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	fake := "#!/bin/sh\nprintf '%s|' \"$@\" >" + asked + "\necho 192.0.2.10:443\necho 192.0.2.10:444\n"
	if err := os.WriteFile(filepath.Join(dir, "failoverctl"), []byte(fake), 0o700); err != nil {
		t.Fatal(err)
	}
	script := scripts["bash"] + `
left="failoverctl drain -pool a.example.org 192.0.2.10:4"
COMP_LINE="$left -force"
COMP_POINT=${#left}
_failoverctl
printf '%s ' "${COMPREPLY[@]}"
`
	cmd := exec.Command(bash, "--norc", "-c", script)
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "443 444 " {
		t.Errorf("Bash completes with %q, want what follows the colon: %v", out, err)
	}
	words, err := os.ReadFile(asked)
	if want := "completion|words|--|drain|-pool|a.example.org|192.0.2.10:4|"; err != nil || string(words) != want {
		t.Errorf("Bash asks for %q, want %q: %v", words, want, err)
	}
}

// The manual page has every command and every flag, and no others.
func TestManual(t *testing.T) {
	page, err := os.ReadFile("../../man/failoverctl.1")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(`\-`, "-", `\fB`, "`", `\fR`, "'", `\fP`, "'", `\fI`, "`", `\fC`, "").Replace(string(page))
	flags := make(map[string]bool)
	for _, c := range commands() {
		s := &session{World: World{Getenv: func(string) string { return "" }}, command: c}
		fs := s.commandFlags()
		all := []string{}
		fs.VisitAll(func(f *flag.Flag) { all = append(all, f.Name) })
		for _, name := range all {
			flags[name] = true
		}
		if !regexp.MustCompile(`(?m)^failoverctl .*\b` + c.name + `\b`).MatchString(text) {
			t.Errorf("The manual page has no synopsis of %s", c.name)
		}
	}
	for name := range flags {
		if !strings.Contains(text, "`-"+name+"'") {
			t.Errorf("The manual page says nothing of -%s", name)
		}
	}
	for _, m := range regexp.MustCompile("(?:`|\\[|\\| )-([a-z][a-z-]*)").FindAllStringSubmatch(text, -1) {
		if !flags[m[1]] {
			t.Errorf("The manual page has -%s, which is no flag", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^failoverctl (?:\[FLAGS\] )?([a-z|]+)`).FindAllStringSubmatch(text, -1) {
		for name := range strings.SplitSeq(m[1], "|") {
			if !slices.Contains(names(), name) {
				t.Errorf("The manual page has the command %s, which is none", name)
			}
		}
	}
}
