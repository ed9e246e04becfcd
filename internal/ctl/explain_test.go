package ctl

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/coredns-failover/failover/plugin/api"
	"github.com/coredns-failover/failover/plugin/override"
)

// The end of an override is not the end of a wait that it hides.
func TestExplainEndOfOverride(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for failback, want := range map[string]string{
		"auto":   "ends, and it is what its probes say, now up\n",
		"manual": "ends, and it is what its probes say, now up; if it has been down, it waits to be cleared\n",
	} {
		var out bytes.Buffer
		p := &printer{w: &out, zone: time.UTC}
		p.future(&api.Pool{Failback: failback, Answer: api.Answer{Tier: "0"}, Tiers: []api.Tier{{Members: []api.Member{{
			Member: "fra 192.0.2.20:5432", Status: "up", Probed: "up", Override: &override.Override{Action: override.Drain, Until: now.Add(time.Hour)},
		}}}}}, now)
		if !strings.HasSuffix(out.String(), want) {
			t.Errorf("With failback %s it is %q, want %q at its end", failback, &out, want)
		}
	}
}
