package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tick is the shortest time between two looks at what has waited too long: all attempts are looked at
// together, so that none costs a timer of its own.
const tick = 10 * time.Millisecond

// A Dialer makes TCP connections, any number at once. One that is waited for is a descriptor and an entry
// in a table, and a single goroutine hears from the kernel what becomes of all of them (epoll).
type Dialer struct {
	done  func(who any, c net.Conn, err error)
	epoll *os.File // the runtime waits for it
	fd    int      // of epoll
	wg    sync.WaitGroup
	epoch time.Time
	v4    syscall.SockaddrInet4 // where Dial connects to, as it would else be
	v6    syscall.SockaddrInet6 // garbage,
	begun []attempt             // and so would this

	mu       sync.Mutex // guards the rest
	attempts []attempt  // by descriptor
	turn     int32      // of the latest attempt
	patience *time.Timer
	until    time.Duration // when patience ends, counted from epoch
	closed   bool
}

// attempt is a connection in the making.
type attempt struct {
	who    any // nil: there is none
	until  time.Duration
	target netip.AddrPort
	fd     int32
	turn   int32 // tells it from an earlier one with the same descriptor
	keep   bool
}

// NewDialer returns a Dialer that tells done what becomes of each attempt: its connection, or nil where it
// was not to be kept, or an error as a Prober returns it. It is nil where the system has no epoll to give.
// done may be called by several goroutines at once, also before Dial returns.
func NewDialer(done func(who any, c net.Conn, err error)) *Dialer {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	syscall.SetNonblock(fd, true) // else os.File would not have the runtime wait for it
	d := &Dialer{done: done, epoll: os.NewFile(uintptr(fd), "epoll"), fd: fd, epoch: time.Now(), until: math.MaxInt64}
	ready, err := d.epoll.SyscallConn()
	if err != nil {
		d.epoll.Close()
		return nil
	}
	d.patience = time.AfterFunc(math.MaxInt64, d.expire)
	d.wg.Go(func() { d.run(ready) })
	return d
}

// Dial begins to make the connections of calls. One goroutine at a time may call it. All of them are on their
// way before the first is looked at: those of a near target are there by then, and need not be waited for.
// Closing a connection is a reset, as with connect.
func (d *Dialer) Dial(calls []Call) {
	now := time.Since(d.epoch)
	begun := d.begun[:0]
	for _, c := range calls {
		fd, err := d.begin(c.Target)
		a := attempt{who: c.Who, until: now + c.Timeout, target: c.Target, fd: int32(fd), keep: c.Keep} // #nosec G115 -- a descriptor
		if err == syscall.EINPROGRESS {
			begun = append(begun, a)
			continue
		}
		d.end(a, err)
	}
	left := begun[:0]
	for _, a := range begun {
		// To connect again is to ask what has become of it.
		if err := d.connect(int(a.fd), a.target); err == syscall.EALREADY {
			left = append(left, a)
		} else {
			d.end(a, err)
		}
	}
	for _, a := range d.await(left) {
		d.end(a, errCanceled)
	}
	clear(begun)
	d.begun = begun
}

// begin is a socket on its way to target.
func (d *Dialer) begin(target netip.AddrPort) (fd int, err error) {
	if err := dialable(target); err != nil {
		return -1, err
	}
	family := syscall.AF_INET
	if target.Addr().Is6() && !target.Addr().Is4In6() {
		family = syscall.AF_INET6
	}
	fd, err = syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &reset)
	return fd, d.connect(fd, target)
}

func (d *Dialer) connect(fd int, target netip.AddrPort) error {
	if addr := target.Addr().Unmap(); addr.Is4() {
		d.v4.Port, d.v4.Addr = int(target.Port()), addr.As4()
		return syscall.Connect(fd, &d.v4)
	}
	d.v6.Port, d.v6.Addr = int(target.Port()), target.Addr().As16()
	return syscall.Connect(fd, &d.v6)
}

// reset has the kernel forget a connection that is closed.
var reset = syscall.Linger{Onoff: 1}

// await has run told what becomes of attempts, and returns those for which it is too late.
func (d *Dialer) await(begun []attempt) (late []attempt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return begun
	}
	first := time.Duration(math.MaxInt64)
	for _, a := range begun {
		d.turn++
		a.turn = d.turn
		for len(d.attempts) <= int(a.fd) {
			d.attempts = append(d.attempts, attempt{})
		}
		d.attempts[a.fd] = a
		first = min(first, a.until)
		event := syscall.EpollEvent{Events: syscall.EPOLLOUT | syscall.EPOLLONESHOT, Fd: a.fd, Pad: a.turn}
		syscall.EpollCtl(d.fd, syscall.EPOLL_CTL_ADD, int(a.fd), &event) // what the kernel has no memory for times out
	}
	if first < d.until {
		d.until = first
		d.patience.Reset(first - time.Since(d.epoch))
	}
	return nil
}

var (
	errTimeout  = errors.New("timeout " + connecting)
	errCanceled = errors.New("canceled " + connecting)
)

// run takes what the kernel has to say, until epoll is closed.
func (d *Dialer) run(ready syscall.RawConn) {
	events := make([]syscall.EpollEvent, 128)
	for {
		n := 0
		err := ready.Read(func(fd uintptr) bool {
			n, _ = syscall.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, event := range events[:n] {
			if a, ok := d.take(event.Fd, event.Pad); ok {
				d.end(a, outcome(int(a.fd)))
			}
		}
	}
}

// take takes an attempt out of the table, if it is still there: what the kernel says may be of one whose
// descriptor has been closed since, and opened again.
func (d *Dialer) take(fd, turn int32) (a attempt, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a = d.attempts[fd]; a.who == nil || a.turn != turn {
		return a, false
	}
	d.attempts[fd] = attempt{}
	return a, true
}

// outcome is what became of a socket's connection.
func outcome(fd int) error {
	code, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return syscall.Errno(code) // #nosec G115 -- the kernel's
	}
	return nil
}

// isOwn says whether a socket that is connected to target has met itself. That happens where nobody listens, on
// this host, and the kernel has given the socket the very port that it is to connect to.
func isOwn(fd int, target netip.AddrPort) bool {
	if localPort(fd) != target.Port() {
		return false
	}
	switch own, _ := syscall.Getsockname(fd); own := own.(type) {
	case *syscall.SockaddrInet4:
		return own.Port == int(target.Port()) && own.Addr == target.Addr().Unmap().As4()
	case *syscall.SockaddrInet6:
		return own.Port == int(target.Port()) && own.Addr == target.Addr().As16()
	}
	return false
}

// localPort is the port that a socket has on this side; 0: it has none. Getsockname would leave 32 bytes of garbage for
// each connection: in a process that only probes that is most of what there is.
func localPort(fd int) uint16 {
	var begin [4]byte // how the address of either family begins: with the family, and the port
	size := uint32(len(begin))
	unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&begin)), uintptr(unsafe.Pointer(&size))) // #nosec G103 -- as package syscall does it
	return binary.BigEndian.Uint16(begin[2:])
}

// end makes the result of an attempt known.
func (d *Dialer) end(a attempt, err error) {
	if err == nil && isOwn(int(a.fd), a.target) {
		err = syscall.ECONNREFUSED
	}
	if err == nil && a.keep {
		d.done(a.who, socket{os.NewFile(uintptr(a.fd), "")}, nil) // #nosec G115 -- a descriptor
		return
	}
	if a.fd >= 0 {
		syscall.Close(int(a.fd))
	}
	if isOurs(err) {
		err = fmt.Errorf("%w: %w", ErrNotAsked, err)
	}
	d.done(a.who, nil, err)
}

// expire ends the attempts that have waited long enough. Patience begins anew for the rest.
func (d *Dialer) expire() {
	for _, a := range d.overdue(time.Since(d.epoch)) {
		err := outcome(int(a.fd)) // run may not have come to it yet
		if _, alone := syscall.Getpeername(int(a.fd)); err == nil && alone != nil {
			err = errTimeout
		}
		d.end(a, err)
	}
}

func (d *Dialer) overdue(now time.Duration) []attempt {
	d.mu.Lock()
	defer d.mu.Unlock()
	var over []attempt
	next := time.Duration(math.MaxInt64)
	for fd := range d.attempts {
		switch a := &d.attempts[fd]; {
		case a.who == nil:
		case a.until <= now:
			over = append(over, *a)
			*a = attempt{}
		default:
			next = min(next, a.until)
		}
	}
	if d.until = next; next < math.MaxInt64 {
		d.until = max(next, now+tick)
		d.patience.Reset(d.until - now)
	}
	return over
}

// Close breaks off every attempt, and returns when done has been told of all of them.
func (d *Dialer) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.patience.Stop()
	d.epoll.Close()
	d.wg.Wait()
	for _, a := range d.overdue(math.MaxInt64) {
		d.end(a, errCanceled)
	}
}

// A socket is a connection without addresses: who has made it knows them.
type socket struct{ *os.File }

// LocalAddr is nil.
func (socket) LocalAddr() net.Addr { return nil }

// RemoteAddr is nil.
func (socket) RemoteAddr() net.Addr { return nil }
