package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// What stands between escape and m in the sequences that set a terminal's colour.
const (
	plain = ""
	bold  = "1"
	dim   = "2"
	green = "32"
)

// A screen prints lines with the time since the demo began. It is also where CoreDNS logs to,
// which it does from many goroutines.
type screen struct {
	mu    sync.Mutex
	out   io.Writer
	color bool
	began time.Time
}

func newScreen(f *os.File) *screen {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	color := terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return &screen{out: f, color: color, began: time.Now()}
}

// indented prints what a person could take away and use.
func (s *screen) indented(text string) {
	fmt.Fprintf(s.out, "\n    %s\n\n", strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    "))
}

func (s *screen) printf(style, format string, args ...any) {
	s.line(style, fmt.Sprintf(format, args...))
}

func (s *screen) line(style, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.color && style != plain {
		text = "\x1b[" + style + "m" + text + "\x1b[0m"
	}
	fmt.Fprintf(s.out, "%6.2fs  %s\n", time.Since(s.began).Seconds(), text)
}

// Write takes what the log package writes, a line at a time.
func (s *screen) Write(p []byte) (int, error) {
	s.line(dim, string(bytes.TrimRight(p, "\n")))
	return len(p), nil
}
