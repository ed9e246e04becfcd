package failover

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-failover/failover/plugin/health"
	"github.com/coredns-failover/failover/plugin/pool"
	"github.com/coredns-failover/failover/plugin/probe"
	"github.com/coredns-failover/failover/plugin/state"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

// Plan is what a Corefile asks of this plugin.
type Plan struct {
	Pools []PlannedPool // in the order of the Corefile

	corefile *corefile // nil: there is no failover in it
	context  caddy.Context
}

// PlannedPool is one pool or overlay, with all that the Corefile and the defaults say of it.
type PlannedPool struct {
	pool.Pool
	Names         []string
	Block         string // the keys of its server block
	View          string // of its server block; "": it has none
	Overlay       bool
	Probes        []probe.Spec
	Require       int // how many of them have to pass, from 1
	Settings      health.Settings
	Position      string   // of its directive: "Corefile:3"
	TierPositions []string // of each tier

	said, defaults map[string]property
	server         *dnsserver.Config
}

// StateTrouble is what the server would warn of as to its state file when it starts, and where that is written. No error:
// nothing, or no such file to be. What this process may not look at is left to the server's user.
func (p *Plan) StateTrouble() (at string, err error) {
	if p.corefile == nil || p.corefile.generation.state == nil {
		return "", nil
	}
	s := p.corefile.generation.state
	_, err = state.Read(s.file, s.maxAge, time.Now())
	if err == nil {
		if info, e := os.Stat(filepath.Dir(s.file)); e != nil {
			err = e
		} else if !info.IsDir() {
			err = fmt.Errorf("%s is no directory", filepath.Dir(s.file))
		}
	}
	if errors.Is(err, fs.ErrPermission) {
		err = nil
	}
	return s.String(), err
}

// At is where a property of the pool stands in the Corefile, with it or with the defaults; where it does not, where the
// pool does.
func (p *PlannedPool) At(word string) string {
	for _, said := range []map[string]property{p.said, p.defaults} {
		if at, ok := said[word]; ok {
			return at.String()
		}
	}
	return p.Position
}

func (p position) String() string { return p.file + ":" + strconv.Itoa(p.line) }

// planning is the Plan that is being made. CoreDNS does not hand out the instance in which it only validates.
var planning struct {
	mu  sync.Mutex // held by who makes one
	now atomic.Pointer[Plan]
}

// ReadPlan reads a Corefile as CoreDNS does that is about to start with it, up to where something would be started:
// no probe is sent, and no listener opened. What it returns as an error, CoreDNS would refuse, too.
//
// The process must have all plugins that the Corefile names, and must not start another meanwhile.
func ReadPlan(input caddy.Input) (*Plan, error) {
	planning.mu.Lock()
	defer planning.mu.Unlock()
	plan := new(Plan)
	planning.now.Store(plan)
	defer planning.now.Store(nil)

	if err := caddy.ValidateAndExecuteDirectives(input, nil, true); err != nil {
		return nil, err
	}
	if plan.corefile == nil {
		return plan, nil
	}
	if _, err := plan.context.MakeServers(); err != nil { // the plugins do not know of each other before
		return nil, err
	}
	if err := plan.corefile.check(); err != nil {
		return nil, err
	}
	for i := range plan.Pools {
		plan.Pools[i].View = plan.Pools[i].server.ViewName // known only now
	}
	return plan, nil
}

// add takes up a server block.
func (p *Plan) add(all *corefile, c *caddy.Controller, server *dnsserver.Config, configs []*config) {
	p.corefile, p.context = all, c.Context()
	for _, config := range configs {
		planned := PlannedPool{
			Pool:     config.Pool,
			Names:    config.names,
			Block:    strings.Join(c.ServerBlockKeys, " "),
			Overlay:  config.from,
			Probes:   config.specs,
			Require:  cmp.Or(config.require, len(config.specs)),
			Settings: config.settings,
			Position: config.position.String(),
			said:     config.said,
			defaults: config.defaults,
			server:   server,
		}
		for _, at := range config.tierAt {
			planned.TierPositions = append(planned.TierPositions, at.String())
		}
		p.Pools = append(p.Pools, planned)
	}
}
