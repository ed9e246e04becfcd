package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/coredns-failover/failover"

	"github.com/coredns/caddy"
)

func checkFlags(fs *flag.FlagSet, o *options) {
	fs.BoolVar(&o.noProbe, "no-probe", false, "do not probe the members")
	fs.BoolVar(&o.strict, "strict", false, "exit with status 1 for a note, too")
}

// report is what check has found out.
type report struct {
	Corefile string    `json:"corefile"`
	Refused  string    `json:"refused,omitempty"` // CoreDNS's error; then there is nothing else
	Pools    int       `json:"pools"`
	Members  int       `json:"members"`
	Findings []finding `json:"findings"`
	Probes   []asked   `json:"probes"` // empty with -no-probe
	Failed   int       `json:"failed"` // members with too few probes that passed
}

// check reads a Corefile as CoreDNS would, says what is suspicious about it, and probes each member once.
func check(ctx context.Context, s *session) error {
	input, err := s.corefile(s.args[0])
	if err != nil {
		return err
	}
	r := report{Corefile: input.Path(), Findings: []finding{}, Probes: []asked{}}
	plan, err := failover.ReadPlan(input)
	if err != nil {
		r.Refused = err.Error()
		if s.output == "json" {
			if err := s.say.json(r); err != nil {
				return err
			}
		}
		return fmt.Errorf("CoreDNS would refuse %s: %w", input.Path(), err)
	}
	r.Pools = len(plan.Pools)
	for i := range plan.Pools {
		r.Members += plan.Pools[i].Size()
	}
	r.Findings = append(r.Findings, findings(plan)...)
	if s.output == "text" {
		s.say.printf("%s: %s, %s\n", r.Corefile, count(r.Pools, "pool"), count(r.Members, "member"))
		s.say.findings(r.Findings)
	}
	if !s.noProbe && r.Members > 0 {
		if s.output == "text" {
			s.say.printf("\n")
		}
		r.Probes, r.Failed = probeAll(ctx, plan)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	shared := sharedCertificates(plan, r.Probes)
	r.Findings = append(r.Findings, shared...)
	if s.output == "json" {
		err = s.say.json(r)
	} else {
		s.say.asked(r.Probes)
		if len(shared) > 0 {
			s.say.printf("\n")
			s.say.findings(shared)
		}
	}
	if err != nil {
		return err
	}
	return r.verdict(s.strict)
}

// verdict is nil where all is well.
func (r *report) verdict(strict bool) error {
	warnings, notes := 0, 0
	for _, f := range r.Findings {
		if f.Level == warning {
			warnings++
		} else {
			notes++
		}
	}
	var bad []string
	if r.Failed > 0 {
		bad = append(bad, count(r.Failed, "member")+" failed")
	}
	if warnings > 0 {
		bad = append(bad, count(warnings, "warning"))
	}
	if notes > 0 && strict {
		bad = append(bad, count(notes, "note"))
	}
	if len(bad) == 0 {
		return nil
	}
	return saidNo{errors.New(r.Corefile + ": " + strings.Join(bad, ", "))}
}

// corefile reads a Corefile; - is the standard input.
func (s *session) corefile(name string) (caddy.Input, error) {
	var b []byte
	var err error
	if name == "-" {
		name = "stdin"
		b, err = io.ReadAll(s.In)
	} else {
		b, err = os.ReadFile(filepath.Clean(name))
	}
	if err != nil {
		return nil, err
	}
	return caddy.CaddyfileInput{Contents: b, Filepath: name, ServerTypeName: "dns"}, nil
}

// findings writes what is suspicious.
func (p *printer) findings(all []finding) {
	for _, f := range all {
		level := styled(yellow, f.Level)
		if f.Level == warning {
			level = styled(red, f.Level)
		}
		p.printf("%s: %s: %s\n", f.At, level, f.Words)
	}
}

// asked writes the table of probes.
func (p *printer) asked(all []asked) {
	if len(all) == 0 {
		return
	}
	t := table{{styled(bold, "POOL"), styled(bold, "MEMBER"), styled(bold, "PROBE"), styled(bold, "RESULT"), styled(bold, "TIME"), text{}}}
	for _, a := range all {
		t.add(plain(a.Pool), plain(a.Member), plain(a.Probe), styled(map[string]string{pass: green, fail: red}[a.Result], a.Result), plain(took(seconds(a.Took))), plain(a.Words))
	}
	p.table(t)
}
