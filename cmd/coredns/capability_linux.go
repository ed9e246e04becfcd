package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// takeLowPorts makes the capability to bind ports below 1024 effective where the process is permitted it. In the
// image the file has it as permitted only, because the kernel does not start a file that has it as effective where
// a pod has dropped it. Where this fails, the port's own error says what is wrong.
func takeLowPorts() {
	const bind = 1 << unix.CAP_NET_BIND_SERVICE
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if unix.Capget(&header, &sets[0]) != nil || sets[0].Permitted&bind == 0 || sets[0].Effective&bind != 0 {
		return
	}
	sets[0].Effective |= bind
	// A thread's capabilities are its own. With cgo this is not to be had, and says so.
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0)
}
