package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// killed is how often the process is killed.
const killed = 6

// A process that is killed while statuses change leaves a whole file, and the next begins with the answer that was the
// last before.
func TestStateAfterKill(t *testing.T) {
	hosts := members(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	file, port := filepath.Join(t.TempDir(), "state"), freePort(t)
	corefile := strings.Replace(block("", fmt.Sprintf("failover {\n state %s\n interval 300ms\n recheck 300ms\n fall 2\n}\n"+
		"failover www.example.org %s %s {\n probe http://\n backup %s\n }", file, hosts[0], hosts[1], hosts[2])), ":0 ", ":"+port+" ", 1)
	client := &dns.Client{Timeout: 100 * time.Millisecond}
	answer := func() string {
		r, _, err := client.Exchange(question("www.example.org.", dns.TypeA), home+":"+port)
		if err != nil {
			return ""
		}
		return strings.Join(addresses(r), " ")
	}
	changes, last := 0, ""
	for round := range killed {
		process, _, end := program(t, corefile)
		first := ""
		eventually(t, 30*time.Second, "it answers", func() bool { first = answer(); return first != "" })
		if round > 0 && first != last {
			t.Errorf("Round %d: the first answer is %q, and the last before was %q", round, first, last)
		}
		// What is answered changes, until it has been the same for the time that a disk may take.
		stop, since := time.Now().Add(time.Duration(500+rand.IntN(1000))*time.Millisecond), time.Now()
		last = first
		for time.Now().Before(stop) || time.Since(since) < 300*time.Millisecond {
			h := hosts[rand.IntN(len(hosts))]
			h.answer([]int{http.StatusOK, http.StatusServiceUnavailable}[rand.IntN(2)])
			time.Sleep(10 * time.Millisecond)
			if now := answer(); now != "" && now != last {
				last, since = now, time.Now()
				changes++
			}
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-end
		data, err := os.ReadFile(file)
		if err != nil || !json.Valid(data) {
			t.Fatalf("Round %d: the file is %q, %v", round, data, err)
		}
	}
	if changes == 0 {
		t.Error("The answer never changed")
	}
	names, err := filepath.Glob(file + "*")
	if err != nil || len(names) > 3 || !slices.Contains(names, file) {
		t.Errorf("There are the files %v, %v", names, err)
	}
}
