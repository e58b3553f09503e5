package main

import (
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const podImage = "registry.k8s.io/e2e-test-images/busybox:1.29-2"

// Handles SIGTERM: as the first process of its pid namespace it would otherwise ignore it, and every stop would last
// its whole grace period. So would one that comes before the shell has got that far: the file says that it has.
var podCommand = []string{"/bin/sh", "-c", "trap 'exit 0' TERM; : >/tmp/ready; while :; do sleep 3600 & wait; done"}

// awaitReady is run in the container before it is stopped.
var awaitReady = []string{"/bin/sh", "-c", "until [ -e /tmp/ready ]; do :; done"}

func (s *subject) sandboxConfig(name, logs string) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "bench"},
		Hostname:     name,
		LogDirectory: logs,
		DnsConfig:    &cri.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"bench.svc.cluster.local"}, Options: []string{"ndots:5"}},
		Labels:       map[string]string{"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "bench", "io.kubernetes.pod.uid": name},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: s.parent,
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: namespaces(),
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
		},
	}
}

func namespaces() *cri.NamespaceOption {
	return &cri.NamespaceOption{Network: cri.NamespaceMode_POD, Ipc: cri.NamespaceMode_POD, Pid: cri.NamespaceMode_CONTAINER}
}

func containerConfig(pod, name string) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: podImage, UserSpecifiedImage: podImage},
		Command:  podCommand,
		Envs:     []*cri.KeyValue{{Key: "KUBERNETES_SERVICE_HOST", Value: []byte("10.96.0.1")}, {Key: "KUBERNETES_SERVICE_PORT", Value: []byte("443")}},
		Labels:   map[string]string{"io.kubernetes.container.name": name, "io.kubernetes.pod.name": pod},
		LogPath:  name + "/0.log",
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{
				CpuPeriod: 100000, CpuQuota: 100000, CpuShares: 1024, MemoryLimitInBytes: 128 << 20, OomScoreAdj: 900,
			},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: namespaces(),
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
				MaskedPaths: []string{"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
					"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"},
				ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			},
		},
	}
}
