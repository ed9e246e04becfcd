//go:build !unix

package probe

import "os/exec"

// ownGroup does nothing: there are no process groups here.
func ownGroup(*exec.Cmd) {}

// killGroup ends cmd, and not what it started.
func killGroup(cmd *exec.Cmd) error { return cmd.Process.Kill() }
