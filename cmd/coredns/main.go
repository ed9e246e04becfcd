// Command coredns is CoreDNS with all of its own plugins, and failover.
package main

import (
	"fmt"
	"os"

	"github.com/coredns-failover/failover"
	"github.com/coredns-failover/failover/internal/directives"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/core/plugin" // Plug in CoreDNS.
	"github.com/coredns/coredns/coremain"
)

func main() {
	takeLowPorts()
	if err := directives.Insert(); err != nil {
		fmt.Fprintln(os.Stderr, "coredns:", err)
		os.Exit(1)
	}
	// Build metadata, as SemVer has it: -version, version.bind and dnstap tell both versions, and
	// whoever parses the first three numbers still finds CoreDNS's. What metrics and the kubernetes
	// plugin report is a constant of CoreDNS.
	caddy.AppVersion = coremain.CoreVersion + "+failover-" + failover.Version
	coremain.Run()
}
