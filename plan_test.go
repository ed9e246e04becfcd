package failover

import (
	"net"
	"slices"
	"testing"

	"github.com/coredns-failover/failover/plugin/api"
)

// What was only read, and never started, is dropped sometime. It takes nothing from one that is about to start.
func TestDroppedWhileOpening(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	g, dropped := process.newGeneration(), process.newGeneration()
	g.listens = []listen{{Listen: api.Listen{Address: address}}}
	if err := process.open(g); err != nil {
		t.Fatal(err)
	}
	dropped.stop()
	if !slices.Contains(process.listeners.Opened(), address) {
		t.Error("The listener of the one that opens is closed")
	}
	process.settle()
	if !slices.Contains(process.listeners.Opened(), address) {
		t.Error("The listener of the one that opens is closed when others change")
	}
	g.start()
	g.stop()
	if slices.Contains(process.listeners.Opened(), address) {
		t.Error("The listener is open after its generation has stopped")
	}
}
