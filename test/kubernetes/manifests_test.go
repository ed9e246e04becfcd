package kubernetes

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// parse reads the objects of a YAML stream.
func parse(t testing.TB, stream []byte) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), 4096); ; {
		o := new(unstructured.Unstructured)
		err := d.Decode(o)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, stream)
		}
		if len(o.Object) > 0 {
			objects = append(objects, o)
		}
	}
}

// kustomize is what `kubectl kustomize` makes of a folder.
func kustomize(t testing.TB, folder string) []*unstructured.Unstructured {
	t.Helper()
	result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := result.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, stream)
}

// restrict makes a namespace refuse every pod that the restricted standard does not allow.
func (c *cluster) restrict(t testing.TB, namespace string) {
	t.Helper()
	for _, o := range parse(t, []byte("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: "+namespace+
		"\n  labels:\n    pod-security.kubernetes.io/enforce: restricted\n    pod-security.kubernetes.io/warn: restricted\n")) {
		if err := c.apply(t.Context(), o, false); err != nil {
			t.Fatal(err)
		}
	}
}

// podOf is the pod that a Deployment makes.
func podOf(t testing.TB, deployment *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	template, ok, err := unstructured.NestedMap(deployment.Object, "spec", "template")
	if !ok || err != nil {
		t.Fatalf("%s has no template: %v", deployment.GetName(), err)
	}
	p := &unstructured.Unstructured{Object: template}
	p.SetAPIVersion("v1")
	p.SetKind("Pod")
	p.SetNamespace(deployment.GetNamespace())
	p.SetName(deployment.GetName() + "-0")
	return p
}

// monitors is as much of the Prometheus operator's CustomResourceDefinition as the ServiceMonitor uses.
const monitors = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {plural: servicemonitors, singular: servicemonitor, kind: ServiceMonitor, listKind: ServiceMonitorList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [endpoints, selector]
            properties:
              endpoints:
                type: array
                items:
                  type: object
                  properties: {port: {type: string}, interval: {type: string}}
              selector:
                type: object
                properties:
                  matchLabels: {type: object, additionalProperties: {type: string}}
`

// Every folder is accepted by a real API server, field by field, and its pods by the restricted standard; without a
// warning, and then for good.
func TestManifests(t *testing.T) {
	c := startCluster(t)
	for _, o := range parse(t, []byte(monitors)) {
		if err := c.apply(t.Context(), o, false); err != nil {
			t.Fatal(err)
		}
	}
	within(t, 30*time.Second, "the server knows ServiceMonitors", func() bool {
		_, err := c.dynamic.Resource(schema.GroupVersionResource{Group: "monitoring.coreos.com", Version: "v1", Resource: "servicemonitors"}).
			List(t.Context(), meta.ListOptions{})
		return err == nil
	})
	for folder, want := range map[string]string{
		"addon":      "ConfigMap Deployment",
		"standalone": "ConfigMap Deployment HorizontalPodAutoscaler Namespace NetworkPolicy PodDisruptionBudget Service",
		"example":    "ConfigMap Deployment HorizontalPodAutoscaler Namespace NetworkPolicy PodDisruptionBudget Service ServiceMonitor",
	} {
		t.Run(folder, func(t *testing.T) {
			objects := kustomize(t, filepath.Join(root, "deploy/kubernetes", folder))
			kinds := make(map[string]bool)
			for _, o := range objects {
				kinds[o.GetKind()] = true
			}
			if got := strings.Join(slices.Sorted(maps.Keys(kinds)), " "); got != want {
				t.Errorf("There are %s, want %s", got, want)
			}
			namespace := objects[0].GetNamespace()
			if objects[0].GetKind() == "Namespace" {
				namespace = objects[0].GetName()
			}
			c.restrict(t, namespace)
			for _, o := range objects {
				// A Service keeps its address, and the folder before this one may have made it without.
				if o.GetKind() == "Service" {
					_ = c.clients.CoreV1().Services(namespace).Delete(t.Context(), o.GetName(), meta.DeleteOptions{})
				}
			}
			for _, dryRun := range []bool{true, false} {
				for _, o := range objects {
					if err := c.apply(t.Context(), o, dryRun); err != nil {
						t.Errorf("%s %s, dry run %v: %v", o.GetKind(), o.GetName(), dryRun, err)
					}
					if o.GetKind() != "Deployment" {
						continue
					}
					// A Deployment that breaks the standard is accepted, with a warning; it is its pods that are refused.
					if err := c.apply(t.Context(), podOf(t, o), true); err != nil {
						t.Errorf("The pod of %s: %v", o.GetName(), err)
					}
				}
			}
			if said := c.warnings.take(); len(said) > 0 {
				t.Errorf("The server warns: %s", strings.Join(said, "; "))
			}
		})
	}
}

// What the test above would not find, it could not find.
func TestManifestsRefused(t *testing.T) {
	c := startCluster(t)
	c.restrict(t, "refused")
	deployment := func() *unstructured.Unstructured {
		for _, o := range kustomize(t, filepath.Join(root, "deploy/kubernetes/standalone")) {
			if o.GetKind() == "Deployment" {
				o.SetNamespace("refused")
				return o
			}
		}
		t.Fatal("There is no Deployment")
		return nil
	}
	container := func(o *unstructured.Unstructured, path ...string) map[string]any {
		list, _, _ := unstructured.NestedSlice(o.Object, path...)
		return list[0].(map[string]any)
	}
	for name, change := range map[string]func(*unstructured.Unstructured){
		"unknown field": func(o *unstructured.Unstructured) {
			_ = unstructured.SetNestedField(o.Object, "x", "spec", "template", "spec", "terminationGracePeriod")
		},
		"wrong type": func(o *unstructured.Unstructured) {
			_ = unstructured.SetNestedField(o.Object, "two", "spec", "replicas")
		},
	} {
		o := deployment()
		change(o)
		if err := c.apply(t.Context(), o, true); err == nil {
			t.Errorf("A Deployment with %s is accepted", name)
		}
	}
	for name, context := range map[string]map[string]any{
		"no security context": {},
		"the capability NET_RAW": {"allowPrivilegeEscalation": false, "capabilities": map[string]any{
			"drop": []any{"ALL"}, "add": []any{"NET_RAW"}}},
	} {
		o := podOf(t, deployment())
		first := container(o, "spec", "containers")
		first["securityContext"] = context
		_ = unstructured.SetNestedSlice(o.Object, []any{first}, "spec", "containers")
		if err := c.apply(t.Context(), o, true); err == nil || !strings.Contains(err.Error(), "restricted") {
			t.Errorf("A pod with %s is not refused for it: %v", name, err)
		}
	}
	c.warnings.take()
}
