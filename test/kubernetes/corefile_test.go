package kubernetes

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// corefileOf is the Corefile of a folder of manifests.
func corefileOf(t testing.TB, folder string) string {
	t.Helper()
	for _, o := range kustomize(t, filepath.Join(root, "deploy/kubernetes", folder)) {
		if o.GetKind() == "ConfigMap" {
			corefile, _, _ := unstructured.NestedString(o.Object, "data", "Corefile")
			return corefile
		}
	}
	t.Fatalf("%s has no ConfigMap", folder)
	return ""
}

// The addon as it is, as a pod would be: its own service account, and port 53. It is the cluster's DNS and has the names
// that fail over.
func TestAddonRuns(t *testing.T) {
	c := startCluster(t)
	// Its upstream, which is not there, and is not ourselves.
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 10.64.0.53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "--bind", resolv, path)
	defer run(t, "umount", path)
	put(t, "192.0.2.10", "198.51.100.10")
	account := c.account(t, "kube-system", "coredns")
	c.allowed(t, "kube-system", "coredns")
	daemon := coredns(t, corefileOf(t, "addon"), account)
	within(t, 30*time.Second, "it is ready", func() bool { return get("127.0.0.1:8181", "/ready") == http.StatusOK })
	// Nobody serves the members here, so the answer is all of them.
	wantAnswers(t, 10*time.Second, "127.0.0.1:53", "www.example.org.", "192.0.2.10", "198.51.100.10")
	wantAnswers(t, 10*time.Second, "127.0.0.1:53", "kubernetes.default.svc.cluster.local.", apiAddress)
	if said := daemon.Said(); strings.Contains(said, "forbidden") || strings.Contains(said, "panic") {
		t.Errorf("It says\n%s", said)
	}
}

// The standalone Corefile behind the address of its Service, with the stub domain of the cluster's DNS and NodeLocal
// DNSCache before it, as pods ask. The primary fails and returns, and a changed ConfigMap is reloaded meanwhile.
func TestStandaloneRuns(t *testing.T) {
	const east, west, service, node, cluster = "192.0.2.10", "198.51.100.10", "10.96.0.53", "169.254.20.10", "10.96.0.10"
	put(t, east, west, service, node, cluster)
	ca := newAuthority(t)
	serve := func(addr string) *http.Server { return ca.serve(t, addr+":443", "www.example.org") }
	primary := serve(east)
	serve(west)

	// As the kubelet mounts it: the file is a link into a folder whose link is exchanged. The port is the Service's.
	corefile := strings.Replace(corefileOf(t, "standalone"), "example.org:1053 {", "example.org:53 {\n    bind "+service, 1)
	dir := t.TempDir()
	mount := func(version int, text string) {
		t.Helper()
		folder := fmt.Sprintf("..%d", version)
		if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{
			os.WriteFile(filepath.Join(dir, folder, "Corefile"), []byte(text), 0o600),
			os.Symlink(folder, filepath.Join(dir, "..tmp")),
			os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	mount(1, corefile)
	if err := os.Symlink("..data/Corefile", filepath.Join(dir, "Corefile")); err != nil {
		t.Fatal(err)
	}
	daemon := coredns(t, "import "+filepath.Join(dir, "Corefile"), "", "SSL_CERT_FILE="+ca.file)
	for _, f := range []struct{ file, bind string }{{"nodelocal.Corefile", node}, {"stub-domain.Corefile", cluster}} {
		b, err := os.ReadFile(filepath.Join(root, "deploy/kubernetes", f.file))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if !strings.Contains(text, "bind "+f.bind) {
			text = strings.Replace(text, "errors\n", "errors\n    bind "+f.bind+"\n", 1)
		}
		coredns(t, text, "")
	}
	servers := []string{service + ":53", cluster + ":53", node + ":53"}
	const name = "www.example.org."
	all := func(bound time.Duration, what, addr string) {
		t.Helper()
		begin := time.Now()
		for i, server := range servers {
			wantAnswers(t, bound, server, name, addr)
			t.Logf("%s: %s after %v", what, []string{"failover", "by the stub domain", "by NodeLocal DNSCache"}[i], time.Since(begin).Round(100*time.Millisecond))
		}
	}
	within(t, 30*time.Second, "it is ready", func() bool { return get("127.0.0.1:8181", "/ready") == http.StatusOK })
	all(10*time.Second, "at first", east)
	primary.Close()
	all(30*time.Second, "the primary is stopped", west)
	// Another Corefile: a reload, and nothing is forgotten.
	mount(2, strings.Replace(corefile, "    failover www", "    failover new.example.org 192.0.2.10:443\n    failover www", 1))
	within(t, 40*time.Second, "the new ConfigMap is in force", func() bool { return slices.Equal(answers(servers[0], "new.example.org."), []string{east}) })
	if got := answers(servers[0], name); !slices.Equal(got, []string{west}) {
		t.Errorf("After the reload the answer is %v", got)
	}
	if said := daemon.Said(); !strings.Contains(said, "Reloaded 2 pools: 1 member up, 2 down") || strings.Count(said, east+":443: up -> down") != 1 {
		t.Errorf("The reload has forgotten what was known:\n%s", said)
	}
	serve(east)
	all(30*time.Second, "the primary is back", east)
	for _, network := range []string{"udp", "tcp"} {
		if m, err := ask(servers[0], network, name, dns.TypeA); err != nil || len(m.Answer) != 1 {
			t.Errorf("Over %s: %v, %v", network, m, err)
		}
	}
	// It goes on answering for as long as its lameduck lasts, and is gone before the kubelet's patience is over.
	begin := time.Now()
	daemon.Signal(15)
	for time.Since(begin) < 9*time.Second {
		if got := answers(servers[0], name); !slices.Equal(got, []string{east}) {
			t.Fatalf("%v after SIGTERM the answer is %v", time.Since(begin), got)
		}
		time.Sleep(20 * time.Millisecond)
	}
	within(t, 21*time.Second, "it has ended", daemon.Ended)
	t.Logf("It ended %v after SIGTERM", time.Since(begin).Round(100*time.Millisecond))
}

// chartKeys are the values of the chart that its README documents and that ours set.
var chartKeys = []string{"affinity", "image.repository", "image.tag", "isClusterService", "livenessProbe.enabled",
	"livenessProbe.failureThreshold", "livenessProbe.initialDelaySeconds", "livenessProbe.periodSeconds",
	"livenessProbe.successThreshold", "livenessProbe.timeoutSeconds", "podDisruptionBudget", "rbac.create",
	"readinessProbe.enabled", "readinessProbe.failureThreshold", "readinessProbe.initialDelaySeconds",
	"readinessProbe.periodSeconds", "readinessProbe.successThreshold", "readinessProbe.timeoutSeconds", "replicaCount",
	"resources.limits.cpu", "resources.limits.memory", "resources.requests.cpu", "resources.requests.memory",
	"securityContext", "servers", "terminationGracePeriodSeconds"}

// chartServer is a server block as the chart's values have it.
type chartServer struct {
	Zones []struct {
		Zone   string `json:"zone"`
		Scheme string `json:"scheme"`
		UseTCP bool   `json:"use_tcp"`
	} `json:"zones"`
	Port    int `json:"port"`
	Plugins []struct {
		Name        string `json:"name"`
		Parameters  any    `json:"parameters"`
		ConfigBlock string `json:"configBlock"`
	} `json:"plugins"`
}

// The chart itself is not in this repository. With CHART, the folder of a copy of it, a real helm renders it; without,
// the values are checked against those that the chart documents, and the Corefile is put together as it says.
func TestHelmValues(t *testing.T) {
	path := filepath.Join(root, "deploy/helm/values.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(b, &values); err != nil {
		t.Fatal(err)
	}
	documented := func(key string) bool { return slices.Contains(chartKeys, key) }
	var walk func(prefix string, m map[string]any)
	walk = func(prefix string, m map[string]any) {
		for key, value := range m {
			inner, ok := value.(map[string]any)
			switch {
			case documented(prefix + key):
			case ok:
				walk(prefix+key+".", inner)
			default:
				t.Errorf("The chart documents no %s", prefix+key)
			}
		}
	}
	walk("", values)
	var servers struct {
		Servers []chartServer `json:"servers"`
	}
	if err := yaml.UnmarshalStrict(b, &servers, yaml.DisallowUnknownFields); err == nil {
		t.Error("Only servers are in it")
	} else if err := yaml.Unmarshal(b, &servers); err != nil {
		t.Fatal(err)
	}
	corefile := ""
	for _, s := range servers.Servers {
		for _, z := range s.Zones {
			if !z.UseTCP || z.Scheme != "dns://" {
				t.Errorf("The Service has no TCP for %s", z.Zone)
			}
			corefile += z.Scheme + z.Zone + " "
		}
		corefile = strings.TrimSuffix(corefile, " ") + fmt.Sprintf(":%d {\n", s.Port)
		for _, p := range s.Plugins {
			corefile += "    " + p.Name
			if p.Parameters != nil {
				corefile += fmt.Sprint(" ", p.Parameters)
			}
			if p.ConfigBlock != "" {
				corefile += " {\n" + p.ConfigBlock + "\n    }"
			}
			corefile += "\n"
		}
		corefile += "}\n"
	}
	if chart := os.Getenv("CHART"); chart != "" {
		out, err := exec.Command("helm", "template", "failover-dns", chart, "-f", path, "--namespace", "failover-dns").Output()
		if err != nil {
			t.Fatal(err)
		}
		c := startCluster(t)
		c.restrict(t, "failover-dns")
		for _, o := range parse(t, out) {
			switch o.GetKind() {
			case "ConfigMap":
				corefile, _, _ = unstructured.NestedString(o.Object, "data", "Corefile")
			case "Service":
				if ports, _, _ := unstructured.NestedSlice(o.Object, "spec", "ports"); len(ports) != 2 {
					t.Errorf("The ports of the Service are %v", ports)
				}
			}
			o.SetNamespace("failover-dns")
			if err := c.apply(t.Context(), o, true); err != nil {
				t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
			}
			if o.GetKind() == "Deployment" {
				if err := c.apply(t.Context(), podOf(t, o), true); err != nil {
					t.Errorf("The pod of %s: %v", o.GetName(), err)
				}
			}
		}
	} else {
		t.Log("The chart is not here, so helm has rendered nothing; CHART=folder names a copy of it")
	}
	put(t, "192.0.2.10", "198.51.100.10")
	coredns(t, corefile, "")
	within(t, 30*time.Second, "it is ready", func() bool { return get("127.0.0.1:8181", "/ready") == http.StatusOK })
	wantAnswers(t, 10*time.Second, "127.0.0.1:53", "www.example.org.", "192.0.2.10", "198.51.100.10")
}

// Every Corefile on the page about Kubernetes starts.
func TestDocs(t *testing.T) {
	c := startCluster(t)
	account := c.account(t, "default", "docs")
	c.allowed(t, "default", "docs")
	b, err := os.ReadFile(filepath.Join(root, "docs/kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(b), "~~~ corefile\n")[1:]
	if len(blocks) == 0 {
		t.Error("There is none")
	}
	for _, block := range blocks {
		corefile, _, _ := strings.Cut(block, "~~~")
		daemon := coredns(t, corefile, account)
		within(t, 30*time.Second, "it has started", func() bool { return strings.Contains(daemon.Said(), "CoreDNS-") || daemon.Ended() })
		if daemon.Ended() {
			t.Errorf("It does not start:\n%s\n%s", corefile, daemon.Said())
		}
	}
}
