//go:build !unix || solaris || aix

package state

import "os"

// lockFile opens a file. There is no lock here that ends with its process.
func lockFile(name string) (*os.File, error) { return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600) }
