//go:build !linux

package main

// takeLowPorts is for Linux.
func takeLowPorts() {}
