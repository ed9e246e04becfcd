package probe

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestTCP(t *testing.T) {
	// pieces says the parts with a pause between them, and is silent then.
	pieces := func(parts ...string) func(net.Conn) {
		return func(c net.Conn) {
			for _, part := range parts {
				io.WriteString(c, part)
				time.Sleep(20 * time.Millisecond)
			}
			silent(c)
		}
	}
	redis := func(c net.Conn) {
		got := make([]byte, len("PING\r\n"))
		if _, err := io.ReadFull(c, got); err == nil && string(got) == "PING\r\n" {
			says("+PONG\r\n")(c)
		}
	}
	many := strings.Repeat("A", 80)
	tests := map[string]struct {
		words  string
		member func(net.Conn)
		want   string
	}{
		"accepts":           {"", silent, ""},
		"hangs up":          {"", hangsUp, ""},
		"greets":            {"expect ^220", says("220 mail\r\n"), ""},
		"greets to the dot": {"expect ^220$", says("220"), ""},
		"greets in pieces":  {"expect ^220\\s.*ready", pieces("2", "20 mail", " ready"), ""},
		"greets slowly":     {"expect xxx", drips("x"), ""},
		"greets after much": {"expect B$", says(strings.Repeat("A", maxText-1) + "B"), ""},
		"answers":           {`send \x50ING\r\n expect ^\+PONG`, redis, ""},
		"hears nothing":     {"send x", silent, ""},

		"greets wrongly": {"expect ^220", func(c net.Conn) { io.WriteString(c, "421 busy\r\n") },
			`got "421 busy\r\n", want match for "^220"`},
		"greets wrongly and waits": {"expect ^220", says("421 busy\r\n"),
			`timeout while reading: got "421 busy\r\n", want match for "^220"`},
		"asked wrongly":   {"send PING expect ^.PONG", redis, `timeout while reading: got nothing, want match for "^.PONG"`},
		"says no word":    {"expect ^220", hangsUp, `got nothing, want match for "^220"`},
		"is silent":       {"expect ^220", silent, `timeout while reading: got nothing, want match for "^220"`},
		"drips":           {"expect ^220", drips("22"), `timeout while reading: got "22...`},
		"floods":          {"expect B", floods("", "A"), `got "` + many + `"... (65536 bytes), want match for "B"`},
		"greets too late": {"expect B", says(strings.Repeat("A", maxText) + "B"), `got "` + many + `"... (65536 bytes), want match for "B"`},
		"says garbage":    {"expect ^220", func(c net.Conn) { io.WriteString(c, "\x00\xff\x1b[2J") }, `got "\x00\xff\x1b[2J", want match for "^220"`},
		"resets":          {"expect ^220", resets, `connection reset by peer while reading: got nothing, want match for "^220"`},
		"does not read":   {"send " + strings.Repeat("x", 16<<20), func(net.Conn) { time.Sleep(2 * brief) }, "timeout while sending"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := soon
			if strings.HasPrefix(tc.want, "timeout") {
				timeout = brief
			}
			words := append([]string{"tcp://"}, strings.Fields(tc.words)...)
			for family, address := range loopback {
				if timeout < soon && family != "v4" {
					continue // one is long enough to wait for
				}
				wantError(t, ask(t, mustParse(t, words...), serve(t, address, tc.member), timeout), tc.want)
			}
		})
	}
}

func TestUnescape(t *testing.T) {
	tests := map[string]string{
		`PING`:              "PING",
		`\r\n\t\\`:          "\r\n\t\\",
		`\x00\xfF\x41\\x41`: "\x00\xff\x41\\x41",
		"ü":                 "ü",
	}
	for word, want := range tests {
		if got, err := unescape(word); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", word, got, err, want)
		}
	}
}
