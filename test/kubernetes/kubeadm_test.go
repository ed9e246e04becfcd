package kubernetes

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	tmpl "text/template"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kubeadm is an object of the DNS that kubeadm installs, by the name that its template has in kubeadm's source.
func kubeadm(t testing.TB, name string) *unstructured.Unstructured {
	t.Helper()
	dir := strings.TrimSpace(run(t, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"))
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, "cmd/kubeadm/app/phases/addons/dns/manifests.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.ValueSpec); ok && s.Names[0].Name == name {
			text, err = strconv.Unquote(s.Values[0].(*ast.BasicLit).Value)
		}
		return true
	})
	var b bytes.Buffer
	if err == nil {
		err = tmpl.Must(tmpl.New(name).Parse(text)).Execute(&b, map[string]any{"DeploymentName": "coredns", "Replicas": 3,
			"Image": "registry.example.org/coredns:v1.14.2", "ControlPlaneTaintKey": "node-role.kubernetes.io/control-plane",
			"DNSDomain": "cluster.local"})
	}
	objects := parse(t, b.Bytes())
	if err != nil || len(objects) != 1 {
		t.Fatalf("kubeadm's %s is %v, %v", name, objects, err)
	}
	return objects[0]
}

// The addon is put over what kubeadm has installed: the names of the cluster stay what they were, and so do the replicas.
func TestAddonOverKubeadm(t *testing.T) {
	stock, _, _ := unstructured.NestedString(kubeadm(t, "CoreDNSConfigMap").Object, "data", "Corefile")
	ours := corefileOf(t, "addon")
	if i := strings.Index(ours, ".:53 {"); i < 0 || !slices.Equal(strings.Fields(ours[i:]), strings.Fields(stock)) {
		t.Errorf("The addon has\n%s\nand kubeadm\n%s", ours, stock)
	}

	c := startCluster(t)
	c.restrict(t, "kube-system")
	deployments := c.dynamic.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace("kube-system")
	_ = deployments.Delete(t.Context(), "coredns", meta.DeleteOptions{})
	if _, err := deployments.Create(t.Context(), kubeadm(t, "CoreDNSDeployment"), meta.CreateOptions{FieldManager: "kubeadm"}); err != nil {
		t.Fatal(err)
	}
	c.warnings.take() // of kubeadm's pod, which is not what the restricted standard wants
	for _, o := range kustomize(t, filepath.Join(root, "deploy/kubernetes/addon")) {
		if err := c.apply(t.Context(), o, false); err != nil {
			t.Fatal(err)
		}
	}
	got, err := deployments.Get(t.Context(), "coredns", meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.apply(t.Context(), podOf(t, got), true); err != nil {
		t.Errorf("The pod of both: %v", err)
	}
	if said := c.warnings.take(); len(said) > 0 {
		t.Errorf("The server warns: %s", strings.Join(said, "; "))
	}
	replicas, _, _ := unstructured.NestedInt64(got.Object, "spec", "replicas")
	containers, _, _ := unstructured.NestedSlice(got.Object, "spec", "template", "spec", "containers")
	container := containers[0].(map[string]any)
	ports, _, _ := unstructured.NestedSlice(container, "ports")
	if image, _ := container["image"].(string); replicas != 3 || len(containers) != 1 || len(ports) != 5 || !strings.Contains(image, "coredns-failover") {
		t.Errorf("There are %d replicas of %v, want 3 with our image and kubeadm's ports", replicas, containers)
	}
}
