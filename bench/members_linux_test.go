package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
)

func init() {
	children["members"] = members
	children["mortal"] = mortal
}

// mortal is one member, to be killed.
func mortal() error {
	l, err := net.Listen("tcp", os.Getenv("ADDRESS"))
	if err != nil {
		return err
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		c.Close()
	}
}

// members listens on two ports of every address of the loopback device, and of no other, until it is killed.
// On the first it accepts connections, on the second it answers HTTP requests.
func members() error {
	hangUp := func(c net.Conn) { c.Close() }
	page := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nok")
	answer := func(c net.Conn) {
		request := make([]byte, 1024)
		c.Read(request)
		c.Write(page)
		c.Close()
	}
	only := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, "lo")
		})
		return err
	}}
	for _, handle := range []func(net.Conn){hangUp, answer} {
		l, err := only.Listen(context.Background(), "tcp4", "0.0.0.0:0")
		if err != nil {
			return err
		}
		fmt.Println(l.Addr().(*net.TCPAddr).Port)
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				handle(c)
			}
		}()
	}
	select {}
}

// startMembers returns the ports of members in a process of its own.
func startMembers(tb testing.TB) (accepts, answers uint16) {
	tb.Helper()
	lines, stop := child(tb, "members")
	tb.Cleanup(stop)
	for _, port := range []*uint16{&accepts, &answers} {
		if !lines.Scan() {
			tb.Fatal("The members have not begun")
		}
		fmt.Sscan(lines.Text(), port)
	}
	return accepts, answers
}
