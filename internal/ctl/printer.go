package ctl

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What stands between escape and m in the sequences that set a terminal's colour.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// A printer writes for people, or for programs. It stops at its first error, which is err.
type printer struct {
	w     io.Writer
	color bool
	zone  *time.Location
	err   error
}

// text is a piece of what is shown, without letters that would do something to a terminal, and its colour.
type text struct{ words, style string }

func plain(words string) text { return text{words: legible(words)} }

func styled(style, words string) text { return text{legible(words), style} }

// legible is text, which a server may have sent, without the letters that do something to a terminal.
func legible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' || r == '\t' {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

func (p *printer) write(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
	}
}

// printf is fmt.Fprintf. What strings there are among its arguments is made legible; a text has its colour.
func (p *printer) printf(format string, args ...any) {
	for i, arg := range args {
		switch a := arg.(type) {
		case string:
			args[i] = legible(a)
		case text:
			args[i] = p.paint(a)
		}
	}
	p.write(fmt.Sprintf(format, args...))
}

func (p *printer) paint(t text) string {
	if !p.color || t.style == "" || t.words == "" {
		return t.words
	}
	return "\x1b[" + t.style + "m" + t.words + "\x1b[0m"
}

// json writes a value for programs.
func (p *printer) json(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	p.write(string(b) + "\n")
	return nil
}

// jsonLine writes a value in one line.
func (p *printer) jsonLine(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	p.write(string(b) + "\n")
	return nil
}

// table is rows of columns.
type table [][]text

func (t *table) add(row ...text) { *t = append(*t, row) }

// table writes rows with their columns below each other.
func (p *printer) table(t table) {
	var widths []int
	for _, row := range t {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell.words))
		}
	}
	for _, row := range t {
		last := len(row) - 1
		for last > 0 && row[last].words == "" {
			last--
		}
		for i, cell := range row[:last+1] {
			p.write(p.paint(cell))
			if i < last {
				p.write(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell.words)+2))
			}
		}
		p.write("\n")
	}
}

// flags writes what flags there are.
func (p *printer) flags(fs *flag.FlagSet) {
	var t table
	fs.VisitAll(func(f *flag.Flag) {
		value, does := flag.UnquoteUsage(f)
		if value == "string" || value == "value" {
			value = ""
		}
		if f.DefValue != "" && f.DefValue != "false" {
			does += " (" + f.DefValue + ")"
		}
		t.add(plain(strings.TrimRight("  -"+f.Name+" "+value, " ")), plain(does))
	})
	p.table(t)
}

// at is a time, as a person reads it.
func (p *printer) at(t time.Time) string { return t.In(p.zone).Format("2006-01-02 15:04:05") }

// rough is a duration in its largest unit or two: "3d4h", "12m", "7s".
func rough(d time.Duration) string {
	units := []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	if d < time.Second {
		return fmt.Sprintf("%.1gs", max(0, d.Truncate(100*time.Millisecond).Seconds()))
	}
	i := slices.IndexFunc(units, func(u struct {
		of   time.Duration
		name string
	}) bool {
		return d >= u.of
	})
	words := fmt.Sprintf("%d%s", d/units[i].of, units[i].name)
	if rest := d % units[i].of; i+1 < len(units) && d < 10*units[i].of && rest >= units[i+1].of {
		words += fmt.Sprintf("%d%s", rest/units[i+1].of, units[i+1].name)
	}
	return words
}

// seconds is a duration that a document has in seconds.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// exact is a duration without the zero units that time.Duration prints.
func exact(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// count is a number with its noun: "1 pool", "2 pools".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
