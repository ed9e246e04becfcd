package kubernetes

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/coredns-failover/failover/test/sandbox"

	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// The addresses of the sandbox. EndpointSlices may not have those of loopback, and an overlay would not probe them.
const (
	serviceRange = "10.96.0.0/16"
	apiAddress   = "10.96.0.1" // as in a cluster: the first of the range, which the server's certificate has
	apiPort      = "6443"
	adminToken   = "admin"
)

// cluster is a Kubernetes API server with its etcd, and no nodes.
type cluster struct {
	api, etcd *sandbox.Process
	config    *rest.Config
	clients   *kubernetes.Clientset
	dynamic   dynamic.Interface
	ca        string // the file with the server's certificate
	warnings  *warnings
}

// warnings are what the server has to say about what it accepts.
type warnings struct {
	mu   sync.Mutex
	said []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

// take returns what has been said since the last time.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return said
}

// theCluster is started by the first test that needs it, and ends with the sandbox.
var theCluster *cluster

// start starts the cluster, or returns the one that is there.
func startCluster(t testing.TB) *cluster {
	t.Helper()
	if theCluster != nil {
		return theCluster
	}
	needs(t, "etcd", "it keeps the API server's data")
	server, err := filepath.Abs("kube-apiserver")
	if err != nil {
		t.Fatal(err)
	}
	needs(t, server, "make test-kubernetes compiles it")
	dir, err := os.MkdirTemp("", "cluster") //nolint:usetesting // it outlives the test
	if err != nil {
		t.Fatal(err)
	}
	put(t, apiAddress)
	c := &cluster{ca: filepath.Join(dir, "apiserver.crt"), warnings: new(warnings)}
	begin := time.Now()
	daemon := func(program string, args ...string) *sandbox.Process {
		p, err := sandbox.Start(exec.Command(program, args...))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	c.etcd = daemon("etcd", "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", "http://127.0.0.1:2379",
		"--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signing, tokens := filepath.Join(dir, "signing.pem"), filepath.Join(dir, "tokens")
	for path, content := range map[string]string{
		signing: string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		tokens:  adminToken + ",admin,1,system:masters\n",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.api = daemon(server, "--etcd-servers", "http://127.0.0.1:2379", "--cert-dir", dir, "--bind-address", apiAddress,
		"--advertise-address", apiAddress, "--secure-port", apiPort, "--service-cluster-ip-range", serviceRange,
		"--service-account-key-file", signing, "--service-account-signing-key-file", signing,
		"--service-account-issuer", "https://kubernetes.default.svc", "--authorization-mode", "RBAC",
		"--token-auth-file", tokens, "--disable-admission-plugins", "ServiceAccount", "--endpoint-reconciler-type", "none")
	c.config = &rest.Config{Host: "https://" + apiAddress + ":" + apiPort, BearerToken: adminToken, QPS: 500, Burst: 500,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, WarningHandler: c.warnings, Timeout: 10 * time.Second}
	if c.clients, err = kubernetes.NewForConfig(c.config); err != nil {
		t.Fatal(err)
	}
	if c.dynamic, err = dynamic.NewForConfig(c.config); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			said := c.api.Said()
			t.Logf("etcd said:\n%s\nkube-apiserver said:\n%s", c.etcd.Said(), said[max(0, len(said)-8000):])
		}
	}()
	within(t, 2*time.Minute, "the API server is ready", func() bool {
		if c.api.Ended() || c.etcd.Ended() {
			t.Fatal("The API server or etcd has ended")
		}
		code := 0
		c.clients.Discovery().RESTClient().Get().AbsPath("/readyz").Do(t.Context()).StatusCode(&code)
		return code == http.StatusOK
	})
	for _, namespace := range []string{"kube-system", "default"} {
		within(t, time.Minute, "the namespace "+namespace+" is there", func() bool {
			_, err := c.clients.CoreV1().Namespaces().Get(t.Context(), namespace, meta.GetOptions{})
			return err == nil
		})
	}
	version, err := c.clients.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Kubernetes %s is ready after %v", version.GitVersion, time.Since(begin).Round(100*time.Millisecond))
	c.warnings.take()
	theCluster = c
	return c
}

// stopCluster ends the API server before its etcd: the other way round it waits for etcd.
func stopCluster() {
	if theCluster != nil {
		theCluster.api.End(5 * time.Second)
		theCluster.etcd.End(5 * time.Second)
		theCluster = nil
	}
}

// put gives the sandbox addresses of its own.
func put(t testing.TB, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		if err := sandbox.Run("ip addr replace " + addr + "/32 dev lo"); err != nil {
			t.Fatal(err)
		}
	}
}

// apply applies one object on the server's side, with every field checked.
func (c *cluster) apply(ctx context.Context, object *unstructured.Unstructured, dryRun bool) error {
	groups, err := restmapper.GetAPIGroupResources(c.clients.Discovery())
	if err != nil {
		return err
	}
	kind := object.GroupVersionKind()
	mapping, err := restmapper.NewDiscoveryRESTMapper(groups).RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	options := meta.PatchOptions{FieldManager: "test", FieldValidation: meta.FieldValidationStrict, Force: new(true)}
	if dryRun {
		options.DryRun = []string{meta.DryRunAll}
	}
	body, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = c.dynamic.Resource(mapping.Resource).Namespace(object.GetNamespace()).Patch(ctx, object.GetName(), types.ApplyPatchType, body, options)
	return err
}

// service makes a Service without a selector, headless where it has no address.
func (c *cluster) service(t testing.TB, namespace, name, clusterIP string, port int32) {
	t.Helper()
	if clusterIP == "" {
		clusterIP = core.ClusterIPNone
	}
	s := &core.Service{ObjectMeta: meta.ObjectMeta{Name: name}, Spec: core.ServiceSpec{ClusterIP: clusterIP,
		Ports: []core.ServicePort{{Name: "http", Port: port, Protocol: core.ProtocolTCP}}}}
	if _, err := c.clients.CoreV1().Services(namespace).Create(t.Context(), s, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// endpoints sets what an EndpointSlice of a Service has.
func (c *cluster) endpoints(t testing.TB, namespace, service, slice string, port int32, addrs ...string) {
	t.Helper()
	s := &discovery.EndpointSlice{
		ObjectMeta:  meta.ObjectMeta{Name: slice, Labels: map[string]string{discovery.LabelServiceName: service}},
		AddressType: discovery.AddressTypeIPv4,
		Ports:       []discovery.EndpointPort{{Name: new("http"), Port: &port, Protocol: new(core.ProtocolTCP)}},
	}
	for _, addr := range addrs {
		s.Endpoints = append(s.Endpoints, discovery.Endpoint{Addresses: []string{addr}, Conditions: discovery.EndpointConditions{Ready: new(true)}})
	}
	client := c.clients.DiscoveryV1().EndpointSlices(namespace)
	_, err := client.Update(t.Context(), s, meta.UpdateOptions{})
	if err != nil {
		_, err = client.Create(t.Context(), s, meta.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// namespace makes a namespace.
func (c *cluster) namespace(t testing.TB, name string) {
	t.Helper()
	n := &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: name}}
	if _, err := c.clients.CoreV1().Namespaces().Create(t.Context(), n, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// account makes a service account, and returns the folder that a pod of it has in
// /var/run/secrets/kubernetes.io/serviceaccount.
func (c *cluster) account(t testing.TB, namespace, name string) string {
	t.Helper()
	accounts := c.clients.CoreV1().ServiceAccounts(namespace)
	if _, err := accounts.Create(t.Context(), &core.ServiceAccount{ObjectMeta: meta.ObjectMeta{Name: name}}, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := accounts.CreateToken(t.Context(), name, &authentication.TokenRequest{}, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(c.ca)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for file, content := range map[string]string{"token": token.Status.Token, "ca.crt": string(ca), "namespace": namespace} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// coredns runs the program with a Corefile, with the service account of a pod where there is one.
func coredns(t testing.TB, corefile, account string, env ...string) *sandbox.Process {
	t.Helper()
	program := filepath.Join(root, "coredns")
	needs(t, program, "make builds it")
	path := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(path, []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{program, "-conf", path}
	if account != "" {
		// In mounts of its own, so that each has its own account.
		script := `mkdir -p "$1" && mount --bind "$0" "$1" && shift && exec "$@"`
		args = append([]string{"unshare", "--mount", "sh", "-e", "-c", script, account, "/var/run/secrets/kubernetes.io/serviceaccount"}, args...)
		env = append(env, "KUBERNETES_SERVICE_HOST="+apiAddress, "KUBERNETES_SERVICE_PORT="+apiPort)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	p, err := sandbox.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.End(20*time.Second) && !t.Failed() {
			t.Error("CoreDNS did not end")
		}
		if t.Failed() {
			t.Logf("CoreDNS said:\n%s", p.Said())
		}
	})
	return p
}

// allowed lets a service account read what the kubernetes plugin reads.
func (c *cluster) allowed(t testing.TB, namespace, account string) {
	t.Helper()
	for _, object := range []string{`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: coredns-reader}
rules:
- {apiGroups: [""], resources: [endpoints, services, pods, namespaces], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
`, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[2]s-reads}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: coredns-reader}
subjects:
- {kind: ServiceAccount, namespace: %[1]s, name: %[2]s}
`, namespace, account)} {
		for _, o := range parse(t, []byte(object)) {
			if err := c.apply(t.Context(), o, false); err != nil {
				t.Fatal(err)
			}
		}
	}
}
