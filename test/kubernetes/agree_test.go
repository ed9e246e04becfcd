package kubernetes

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// folder is a folder of manifests, with what it has.
type folder struct {
	deployment apps.Deployment
	config     core.ConfigMap
	service    core.Service
	budget     policy.PodDisruptionBudget
	scaler     autoscaling.HorizontalPodAutoscaler
	network    networking.NetworkPolicy
	monitor    *unstructured.Unstructured
}

func readFolder(t testing.TB, name string) *folder {
	t.Helper()
	f := new(folder)
	into := map[string]any{"Deployment": &f.deployment, "ConfigMap": &f.config, "Service": &f.service, "PodDisruptionBudget": &f.budget,
		"HorizontalPodAutoscaler": &f.scaler, "NetworkPolicy": &f.network}
	for _, o := range kustomize(t, filepath.Join(root, "deploy/kubernetes", name)) {
		if o.GetKind() == "ServiceMonitor" {
			f.monitor = o
		}
		typed, ok := into[o.GetKind()]
		if !ok {
			continue
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, typed); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// port is whether the pod has a port, by name or number.
func (f *folder) port(want intstr.IntOrString, protocol core.Protocol) bool {
	return slices.ContainsFunc(f.deployment.Spec.Template.Spec.Containers[0].Ports, func(p core.ContainerPort) bool {
		return p.Protocol == protocol && (p.Name == want.StrVal || p.ContainerPort == want.IntVal)
	})
}

// reaches is whether the NetworkPolicy lets a probe out to a member.
func (f *folder) reaches(member netip.AddrPort) bool {
	return slices.ContainsFunc(f.network.Spec.Egress, func(r networking.NetworkPolicyEgressRule) bool {
		return slices.ContainsFunc(r.To, func(p networking.NetworkPolicyPeer) bool {
			return p.IPBlock != nil && netip.MustParsePrefix(p.IPBlock.CIDR).Contains(member.Addr())
		}) && slices.ContainsFunc(r.Ports, func(p networking.NetworkPolicyPort) bool {
			return p.Port.IntValue() == int(member.Port()) && *p.Protocol == core.ProtocolTCP
		})
	})
}

var (
	listens = regexp.MustCompile(`(?m)^\S+:(\d+) \{`)
	lames   = regexp.MustCompile(`lameduck (\S+)`)
	members = regexp.MustCompile(`=(\d[\d.]+:\d+)`)
)

// The folders fit together, in what an API server does not look at: ports, probes, and the time that a pod has to end.
func TestManifestsAgree(t *testing.T) {
	for _, name := range []string{"addon", "standalone", "example"} {
		f := readFolder(t, name)
		corefile, spec := f.config.Data["Corefile"], f.deployment.Spec.Template.Spec
		container := spec.Containers[0]
		for _, plugin := range []string{"ready\n", "reload", "health {", "prometheus :9153"} {
			if !strings.Contains(corefile, plugin) {
				t.Errorf("The Corefile of %s has no %s", name, plugin)
			}
		}
		if volume := spec.Volumes[0].ConfigMap; volume.Name != f.config.Name || spec.Volumes[0].Name != container.VolumeMounts[0].Name {
			t.Errorf("The pod of %s mounts %s, and there is %s", name, volume.Name, f.config.Name)
		}
		for _, port := range listens.FindAllStringSubmatch(corefile, -1) {
			n, _ := strconv.Atoi(port[1])
			if at := intstr.FromInt(n); !f.port(at, core.ProtocolUDP) || !f.port(at, core.ProtocolTCP) {
				t.Errorf("The pod of %s has no port %d for UDP and TCP", name, n)
			}
		}
		for _, probe := range []*core.Probe{container.LivenessProbe, container.ReadinessProbe} {
			if !f.port(probe.HTTPGet.Port, core.ProtocolTCP) {
				t.Errorf("The pod of %s has no port for %s", name, probe.HTTPGet.Path)
			}
		}
		// After lameduck there are five seconds for connections to end.
		lame, err := time.ParseDuration(lames.FindStringSubmatch(corefile)[1])
		if grace := time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second; err != nil || grace <= lame+5*time.Second {
			t.Errorf("The pods of %s have %v to end, and lameduck is %v (%v)", name, grace, lame, err)
		}
	}
}

// What stands around the pods of standalone means them.
func TestStandaloneAgrees(t *testing.T) {
	for _, name := range []string{"standalone", "example"} {
		f := readFolder(t, name)
		pod := labels.Set(f.deployment.Spec.Template.Labels)
		for what, s := range map[string]*meta.LabelSelector{
			"Deployment":          f.deployment.Spec.Selector,
			"Service":             meta.SetAsLabelSelector(f.service.Spec.Selector),
			"PodDisruptionBudget": f.budget.Spec.Selector,
			"NetworkPolicy":       &f.network.Spec.PodSelector,
		} {
			if selector, err := meta.LabelSelectorAsSelector(s); err != nil || selector.Empty() || !selector.Matches(pod) {
				t.Errorf("The %s of %s selects %v (%v), and not %v", what, name, selector, err, pod)
			}
		}
		if to := f.scaler.Spec.ScaleTargetRef; to.Kind != "Deployment" || to.Name != f.deployment.Name || f.deployment.Spec.Replicas != nil {
			t.Errorf("The autoscaler of %s is for %v, and the Deployment says %v", name, to, f.deployment.Spec.Replicas)
		}
		for _, p := range f.service.Spec.Ports {
			if !f.port(p.TargetPort, p.Protocol) {
				t.Errorf("The pod of %s has no port %s for that of the Service, %d", name, p.TargetPort.String(), p.Port)
			}
		}
		for _, rule := range f.network.Spec.Ingress {
			for _, p := range rule.Ports {
				if !f.port(*p.Port, *p.Protocol) {
					t.Errorf("The pod of %s has no port %v for the NetworkPolicy", name, p.Port)
				}
			}
		}
		found := members.FindAllStringSubmatch(f.config.Data["Corefile"], -1)
		for _, m := range found {
			if !f.reaches(netip.MustParseAddrPort(m[1])) {
				t.Errorf("The NetworkPolicy of %s lets nothing out to %s", name, m[1])
			}
		}
		if len(found) < 2 {
			t.Errorf("The Corefile of %s has the members %v", name, found)
		}
		if f.monitor == nil {
			continue
		}
		matches, _, _ := unstructured.NestedStringMap(f.monitor.Object, "spec", "selector", "matchLabels")
		if !labels.SelectorFromSet(matches).Matches(labels.Set(f.service.Labels)) {
			t.Errorf("The ServiceMonitor selects %v, and not the Service, %v", matches, f.service.Labels)
		}
	}
}
