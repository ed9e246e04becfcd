package probe

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sh is a probe that runs a script.
func sh(t testing.TB, script string) Prober {
	t.Helper()
	return mustParse(t, "exec:///bin/sh", "-c", script)
}

func TestExec(t *testing.T) {
	target := netip.MustParseAddrPort("[2001:db8::1]:80")
	tests := map[string]struct{ script, want string }{
		"passes":            {"exit 0", ""},
		"passes and talks":  {"echo all is well; echo quite >&2", ""},
		"reads nothing":     {"if read x; then exit 1; fi", ""},
		"floods stdout":     {"yes | head -c 3000000", ""},
		"floods stderr":     {"yes | head -c 3000000 >&2; exit 3", "exit status 3: y"},
		"fails":             {"exit 2", "exit status 2, want exit status 0"},
		"fails and says":    {"echo no reply >&2; exit 2", "exit status 2: no reply"},
		"says the last":     {`printf 'a\nb\r\n\n  \n' >&2; exit 1`, "exit status 1: b"},
		"has words on out":  {"echo no reply; exit 1", "exit status 1, want exit status 0"},
		"says evil":         {`printf '\033[31m\000x' >&2; exit 1`, "exit status 1: \ufffd[31m\ufffdx"},
		"says much":         {"head -c 3000 /dev/zero | tr '\\0' a >&2; exit 1", "exit status 1: " + strings.Repeat("a", 500) + "..."},
		"is killed":         {"kill -SEGV $$", "signal: segmentation fault..."},
		"hangs":             {"sleep 60", "timeout while the program ran"},
		"hangs and says":    {"echo waiting >&2; sleep 60", "timeout while the program ran: waiting"},
		"hangs and ignores": {"trap '' TERM INT HUP; sleep 60 & wait", "timeout while the program ran"},
		"floods for ever":   {"yes >&2", "timeout while the program ran: y"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := soon
			if strings.HasPrefix(tc.want, "timeout") {
				timeout = 2 * brief
			}
			wantError(t, ask(t, sh(t, tc.script), target, timeout), tc.want)
		})
	}
}

// The program gets its arguments as they are, and an environment that holds nothing else.
func TestExecEnvironment(t *testing.T) {
	t.Setenv("SECRET", "x")
	out := filepath.Join(t.TempDir(), "out")
	script := `for a; do echo "[$a]"; done >"$0"; pwd >>"$0"; tr '\0' '\n' </proc/self/environ >>"$0"`
	tests := []struct {
		url, name, target string
		want              string
	}{
		{"exec:///bin/sh", "www.example.org", "192.0.2.1:443", "FAILOVER_ADDRESS=192.0.2.1 FAILOVER_PORT=443 FAILOVER_NAME=www.example.org"},
		{"exec://:81/bin/sh", "www.example.org", "[2001:db8::1]:443", "FAILOVER_ADDRESS=2001:db8::1 FAILOVER_PORT=81 FAILOVER_NAME=www.example.org"},
		{"exec:///bin/%73h", "", "192.0.2.1:0", "FAILOVER_ADDRESS=192.0.2.1"},
	}
	for _, tc := range tests {
		s, err := Parse([]string{tc.url, "-c", script, out, "a b", "$HOME", "*", ""}, tc.name, "")
		if err != nil {
			t.Fatal(err)
		}
		target, err := s.Target(netip.MustParseAddrPort(tc.target))
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, ask(t, s, target, soon), "")
		got, _ := os.ReadFile(out)
		lines := strings.Split(strings.TrimSpace(string(got)), "\n")
		kept := lines[:0]
		for _, line := range lines {
			if line != "PWD=/" && line != "OLDPWD=/" && line != "SHLVL=0" && line != "_=/usr/bin/tr" { // the shell's own
				kept = append(kept, line)
			}
		}
		if got, want := strings.Join(kept, " "), "[a b] [$HOME] [*] [] / "+tc.want; got != want {
			t.Errorf("%s: the program sees\n%s, want\n%s", tc.url, got, want)
		}
	}
}

func TestExecCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	wantError(t, sh(t, "sleep 60").Probe(ctx, netip.AddrPort{}), "canceled while the program ran")
	wantError(t, sh(t, "exit 0").Probe(ctx, netip.AddrPort{}), "canceled while ...")
}

// What cannot be seen when the Corefile is read.
func TestExecNotRun(t *testing.T) {
	name := filepath.Join(t.TempDir(), "check")
	if err := os.WriteFile(name, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := mustParse(t, "exec://"+name)
	wantError(t, ask(t, p, netip.AddrPort{}, soon), "the program cannot be run: no such file or directory")
}

// gone waits for the processes whose numbers are in a file.
func gone(t *testing.T, file string, n int) {
	t.Helper()
	text, err := os.ReadFile(file)
	pids := strings.Fields(string(text))
	if err != nil || len(pids) != n {
		t.Fatalf("The processes are %q, %v, want %d", pids, err, n)
	}
	for _, word := range pids {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(soon); runs(pid); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("Process %d runs after the probe", pid)
			}
		}
	}
}

// runs says whether there is a process that is not merely waiting to be buried by whoever inherited it.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

// Whichever way a program ends, those that it started end with it.
func TestExecGroup(t *testing.T) {
	tests := map[string]struct{ script, want string }{
		"times out":                        {"wait", "timeout while the program ran"},
		"passes":                           {"exit 0", ""},
		"fails":                            {"echo no >&2; exit 1", "exit status 1: no"},
		"is killed":                        {"kill -9 $$", "signal: killed, want exit status 0"},
		"passes, and leaves stderr closed": {"exec 2>/dev/null; exit 0", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pids := filepath.Join(t.TempDir(), "pids")
			script := "(trap '' HUP TERM; sleep 60 & echo $! >>" + pids + "; sleep 60) & echo $! $$ >>" + pids + "; sleep .05; " + tc.script
			wantError(t, ask(t, sh(t, script), netip.AddrPort{}, 10*brief), tc.want)
			gone(t, pids, 3)
		})
	}
}

// One that left the group holds stderr, and is not waited for.
func TestExecEscaped(t *testing.T) {
	if _, err := os.Stat("/usr/bin/setsid"); err != nil {
		skip(t, "%v", err)
	}
	pid := filepath.Join(t.TempDir(), "pid")
	begun := time.Now()
	wantError(t, ask(t, sh(t, "setsid sh -c 'echo $$ >"+pid+"; exec sleep 60' & sleep .1"), netip.AddrPort{}, soon), "")
	if took := time.Since(begun); took > soon/2 {
		t.Errorf("The probe took %s", took)
	}
	text, _ := os.ReadFile(pid)
	if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		syscall.Kill(n, syscall.SIGKILL)
	}
}

// No more than so many run at once; the others wait, and say so when that takes too long.
func TestExecMany(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer wg.Wait()
	defer cancel()
	hang := sh(t, "echo >"+dir+"/$$; sleep 60")
	for range 2 * maxPrograms {
		wg.Go(func() { hang.Probe(ctx, netip.AddrPort{}) })
	}
	count := func() int {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Error(err)
		}
		return len(entries)
	}
	for end := time.Now().Add(soon); count() < maxPrograms; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d programs run, want %d", count(), maxPrograms)
		}
	}
	wantError(t, ask(t, sh(t, "exit 0"), netip.AddrPort{}, 2*brief), "not asked: timeout while waiting, with 16 other programs running")
	if n := count(); n != maxPrograms {
		t.Errorf("%d programs run, want %d at most", n, maxPrograms)
	}
	time.AfterFunc(2*brief, cancel) // then there are places, and half of the time is over
	wantError(t, ask(t, sh(t, "sleep 60"), netip.AddrPort{}, 4*brief), "timeout while the program ran, which had waited ...")
	wg.Wait()
	wantError(t, ask(t, sh(t, "exit 0"), netip.AddrPort{}, soon), "")
}

func BenchmarkExec(b *testing.B) {
	benchmark(b, netip.MustParseAddrPort("127.0.0.1:1"), "exec:///bin/true")
}
