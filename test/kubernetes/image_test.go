package kubernetes

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// layout is where `make image` leaves the images.
func layout(t testing.TB) string {
	t.Helper()
	path := filepath.Join(root, "image")
	if _, err := os.Stat(filepath.Join(path, "index.json")); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("There is no image; make image: %v", err)
		}
		t.Skipf("There is no image; make image: %v", err)
	}
	return path
}

// blob reads a JSON document of an OCI layout.
func blob(t testing.TB, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// descriptor is how an OCI layout points at a document.
type descriptor struct {
	Digest      string            `json:"digest"`
	Annotations map[string]string `json:"annotations"`
}

func (d descriptor) path(layout string) string {
	return filepath.Join(layout, "blobs", strings.Replace(d.Digest, ":", "/", 1))
}

// images are the tags of the layout.
func images(t testing.TB, layout string) map[string]descriptor {
	t.Helper()
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	blob(t, filepath.Join(layout, "index.json"), &index)
	tags := make(map[string]descriptor)
	for _, m := range index.Manifests {
		tags[m.Annotations["org.opencontainers.image.ref.name"]] = m
	}
	return tags
}

// unpack unpacks an image into a bundle that runc can run.
func unpack(t testing.TB, tag string) string {
	t.Helper()
	needs(t, "umoci", "it unpacks images")
	bundle := filepath.Join(t.TempDir(), "bundle")
	run(t, "umoci", "unpack", "--image", layout(t)+":"+tag, bundle)
	return bundle
}

// The image says what a kubelet has to know, for both processors.
func TestImageConfig(t *testing.T) {
	path := layout(t)
	tags := images(t, path)
	for _, arch := range []string{"amd64", "arm64"} {
		at, ok := tags[arch]
		if !ok {
			t.Errorf("There is no image for %s", arch)
			continue
		}
		var manifest struct {
			Config descriptor   `json:"config"`
			Layers []descriptor `json:"layers"`
		}
		blob(t, at.path(path), &manifest)
		var image struct {
			Architecture, OS string
			Config           struct {
				User, WorkingDir string
				Entrypoint, Cmd  []string
				ExposedPorts     map[string]struct{}
				Labels           map[string]string
			}
		}
		blob(t, manifest.Config.path(path), &image)
		config := image.Config
		if image.Architecture != arch || image.OS != "linux" || config.User != "65532:65532" || config.WorkingDir != "/" ||
			!slices.Equal(config.Entrypoint, []string{"/coredns"}) || len(config.Cmd) > 0 || len(manifest.Layers) != 1 {
			t.Errorf("The image for %s is %+v, with %d layers", arch, image, len(manifest.Layers))
		}
		for _, port := range []string{"53/tcp", "53/udp"} {
			if _, ok := config.ExposedPorts[port]; !ok {
				t.Errorf("The image for %s does not expose %s: %v", arch, port, config.ExposedPorts)
			}
		}
		for _, label := range []string{"title", "description", "source", "documentation", "licenses", "revision"} {
			if config.Labels["org.opencontainers.image."+label] == "" {
				t.Errorf("The image for %s has no label %s", arch, label)
			}
		}
	}
}

// The image holds two files: a static program for its processor, and the CA roots.
func TestImageContent(t *testing.T) {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for arch, machine := range machines {
		t.Run(arch, func(t *testing.T) {
			rootfs := filepath.Join(unpack(t, arch), "rootfs")
			var files []string
			err := filepath.WalkDir(rootfs, func(path string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					files = append(files, strings.TrimPrefix(path, rootfs))
				}
				return err
			})
			if want := []string{"/coredns", "/etc/ssl/certs/ca-certificates.crt"}; err != nil || !slices.Equal(files, want) {
				t.Errorf("The image has the files %v (%v), want %v", files, err, want)
			}
			program := filepath.Join(rootfs, "coredns")
			f, err := elf.Open(program)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Machine != machine || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
				t.Errorf("The program is for %v, or needs a linker", f.Machine)
			}
			// struct vfs_cap_data: revision 2 without the flag for effective, and the permitted set.
			capability := make([]byte, 64)
			n, err := unix.Getxattr(program, "security.capability", capability)
			if want := []byte{0, 0, 0, 2, 0, 4, 0, 0}; err != nil || !bytes.Equal(capability[:min(n, 8)], want) {
				t.Errorf("The file's capabilities are %v (%v), want %v", capability[:max(n, 0)], err, want)
			}
			if info, err := os.Stat(program); err != nil || info.Mode().Perm()&0o022 != 0 || info.Sys().(*syscall.Stat_t).Uid != 0 {
				t.Errorf("The program may be written by others: %v, %v", info, err)
			}
			roots, err := os.ReadFile(filepath.Join(rootfs, "etc/ssl/certs/ca-certificates.crt"))
			if err != nil {
				t.Fatal(err)
			}
			count := 0
			for block, rest := pem.Decode(roots); block != nil; block, rest = pem.Decode(rest) {
				if _, err := x509.ParseCertificate(block.Bytes); err == nil {
					count++
				}
			}
			if count < 50 {
				t.Errorf("There are %d CA roots", count)
			}
			args := []string{program, "-version"}
			if arch != runtime.GOARCH {
				emulator := map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}[arch]
				needs(t, emulator, "it runs programs for another processor")
				args = append([]string{emulator}, args...)
			}
			said := run(t, args[0], args[1:]...)
			if !strings.Contains(said, "+failover-") || !strings.Contains(said, "linux/"+arch) {
				t.Errorf("-version says %q", said)
			}
		})
	}
}

// pod is how a container of the image is run.
type pod struct {
	corefile string
	capable  bool // NET_BIND_SERVICE is added to what is left after all are dropped
	sysctl   map[string]string
}

// start runs the image as containerd would, with the security context of the restricted standard, a read-only root, a
// network namespace of its own, and its Corefile mounted as a ConfigMap is. It returns the process, and the number of
// the container's first one.
func (p pod) start(t testing.TB) (func() string, func() bool, int) {
	t.Helper()
	needs(t, "runc", "it runs containers")
	bundle := unpack(t, runtime.GOARCH)
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "Corefile"), []byte(p.corefile), 0o644); err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	path := filepath.Join(bundle, "config.json")
	blob(t, path, &config)
	process := config["process"].(map[string]any)
	process["terminal"] = false
	process["args"] = []string{"/coredns", "-conf", "/etc/coredns/Corefile"}
	process["noNewPrivileges"] = true
	none, own := []string{}, []string{}
	if p.capable {
		own = []string{"CAP_NET_BIND_SERVICE"}
	}
	process["capabilities"] = map[string]any{"bounding": own, "effective": own, "permitted": own, "inheritable": none, "ambient": none}
	config["root"].(map[string]any)["readonly"] = true
	config["mounts"] = []any{
		map[string]any{"destination": "/proc", "type": "proc", "source": "proc"},
		map[string]any{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755"}},
		map[string]any{"destination": "/etc/coredns", "type": "bind", "source": dir, "options": []string{"bind", "ro"}},
	}
	namespaces := []any{}
	for _, kind := range []string{"pid", "network", "ipc", "uts", "mount"} {
		namespaces = append(namespaces, map[string]any{"type": kind})
	}
	config["linux"] = map[string]any{"namespaces": namespaces, "sysctl": p.sysctl}
	b, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	state, name := filepath.Join(t.TempDir(), "runc"), "pod"
	daemon := beside(t, "runc", "--root", state, "run", "--bundle", bundle, name)
	t.Cleanup(func() { _ = exec.Command("runc", "--root", state, "delete", "--force", name).Run() })
	pid := 0
	within(t, 20*time.Second, "the container runs, or has ended", func() bool {
		if daemon.Ended() {
			return true
		}
		var s struct {
			Pid    int    `json:"pid"`
			Status string `json:"status"`
		}
		out, err := exec.Command("runc", "--root", state, "state", name).Output()
		if err != nil || json.Unmarshal(out, &s) != nil || s.Status != "running" {
			return false
		}
		pid = s.Pid
		return true
	})
	return daemon.Said, daemon.Ended, pid
}

// status is one line of what the kernel says of a process.
func status(t testing.TB, pid int, field string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	t.Fatalf("The kernel says no %s", field)
	return ""
}

func podCorefile(port int, pool string) string {
	return fmt.Sprintf("example.org:%d {\n errors\n health\n ready\n failover www.example.org %s\n}\n", port, pool)
}

// Members of pods: one that cannot be reached, and the pod itself, which answers pings.
const (
	unreachable = "192.0.2.1:443 {\n startup 100ms\n }"
	pinged      = "127.0.0.1 {\n probe icmp://\n }"
)

// With NET_BIND_SERVICE, with nothing, and with the sysctl instead of it.
func TestImageAsPod(t *testing.T) {
	const sysctl, group = "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"
	for _, c := range []struct {
		name  string
		pod   pod
		port  int
		allow string // the effective capabilities
	}{
		{"port 53 with NET_BIND_SERVICE", pod{podCorefile(53, unreachable), true, map[string]string{sysctl: "1024"}}, 53, "0000000000000400"},
		{"port 1053 without capabilities", pod{podCorefile(1053, unreachable), false, map[string]string{sysctl: "1024"}}, 1053, "0000000000000000"},
		{"port 53 with the sysctl", pod{podCorefile(53, unreachable), false, map[string]string{sysctl: "53"}}, 53, "0000000000000000"},
		{"pings with the sysctl", pod{podCorefile(1053, pinged), false, map[string]string{group: "65532 65532"}}, 1053, "0000000000000000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			said, ended, pid := c.pod.start(t)
			if pid == 0 || ended() {
				t.Fatalf("It has not started:\n%s", said())
			}
			server := fmt.Sprintf("127.0.0.1:%d", c.port)
			for _, network := range []string{"udp", "tcp"} {
				within(t, 20*time.Second, "it answers over "+network, func() bool {
					var m *dns.Msg
					var err error
					enter(t, pid, func() { m, err = ask(server, network, "www.example.org.", dns.TypeA) })
					return err == nil && m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1
				})
			}
			for path, host := range map[string]string{"/health": "127.0.0.1:8080", "/ready": "127.0.0.1:8181"} {
				within(t, 20*time.Second, path+" is 200", func() bool {
					code := 0
					enter(t, pid, func() { code = get(host, path) })
					return code == http.StatusOK
				})
			}
			if strings.Contains(c.pod.corefile, "icmp:") {
				within(t, 10*time.Second, "the log says that the ping has come back", func() bool { return strings.Contains(said(), "Started 1 pool: 1 member up, 0 down") })
			}
			want := map[string]string{"Uid": "65532 65532 65532 65532", "Gid": "65532 65532 65532 65532", "NoNewPrivs": "1",
				"CapEff": c.allow, "CapPrm": c.allow, "CapBnd": c.allow, "CapInh": "0000000000000000", "CapAmb": "0000000000000000"}
			for field, value := range want {
				if got := status(t, pid, field); got != value {
					t.Errorf("Its %s is %s, want %s", field, got, value)
				}
			}
			mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
			if first, _, _ := strings.Cut(string(mounts), "\n"); err != nil || !strings.Contains(first, " / / ro") && !strings.Contains(first, "/rootfs / ro") {
				t.Errorf("Its root is not read-only: %s, %v", first, err)
			}
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			within(t, 10*time.Second, "it ends", ended)
		})
	}
}

// What it may not do the program says itself.
func TestImageMayNot(t *testing.T) {
	for want, p := range map[string]pod{
		"listen tcp :53: bind: permission denied": {podCorefile(53, unreachable), false, map[string]string{"net.ipv4.ip_unprivileged_port_start": "1024"}},
		"net.ipv4.ping_group_range":               {podCorefile(1053, pinged), false, map[string]string{"net.ipv4.ping_group_range": "1 0"}},
	} {
		said, ended, _ := p.start(t)
		within(t, 20*time.Second, "it ends", ended)
		if !strings.Contains(said(), want) {
			t.Errorf("It says nothing of %s:\n%s", want, said())
		}
	}
}

// get is the status of a page, 0 where there is none. It keeps to its thread, and so to the thread's namespace.
func get(host, path string) int {
	conn, err := net.DialTimeout("tcp", host, 2*time.Second)
	if err != nil {
		return 0
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path)
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	r.Body.Close()
	return r.StatusCode
}
