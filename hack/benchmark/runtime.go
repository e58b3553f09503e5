package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	podImage  = "registry.k8s.io/e2e-test-images/busybox:1.29-2"
	pullImage = "registry.k8s.io/husk-bench/layers:8"
	deadline  = 5 * time.Minute
)

// Handles SIGTERM: as the first process of its pid namespace it would otherwise ignore it, and every stop would last
// its whole grace period.
var podCommand = []string{"/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"}

// subject is a runtime that is measured: one column of the table.
type subject struct {
	name      string
	daemonPid int
	version   string
	runtime   cri.RuntimeServiceClient
	images    cri.ImageServiceClient
	logs      string
	results   results
}

// pod is a running sandbox with one container.
type pod struct {
	sandbox, container string
}

var podNumber atomic.Int64

// newSubject connects to NAME=SOCKET,PID.
func newSubject(argument, work string) (*subject, error) {
	var socket string
	s := &subject{results: results{}}
	name, rest, ok := strings.Cut(argument, "=")
	if ok {
		socket, rest, ok = strings.Cut(rest, ",")
	}
	if _, err := fmt.Sscan(rest, &s.daemonPid); !ok || err != nil {
		return nil, fmt.Errorf("%q is not NAME=SOCKET,PID", argument)
	}
	s.name, s.logs = name, filepath.Join(work, "logs-"+name)
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		return nil, err
	}
	s.runtime, s.images = cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection)
	err = call(func(ctx context.Context) error {
		answer, err := s.runtime.Version(ctx, &cri.VersionRequest{})
		s.version = answer.GetRuntimeName() + " " + answer.GetRuntimeVersion()
		return err
	})
	return s, err
}

func call(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return f(ctx)
}

// timed calls f and, unless what is empty, records how long it took.
func (s *subject) timed(what string, f func(context.Context) error) error {
	start := time.Now()
	if err := call(f); err != nil {
		return fmt.Errorf("%s: %s: %w", s.name, what, err)
	}
	s.results.add(what, time.Since(start))
	return nil
}

// start runs a pod as a kubelet would ask for it: pod network, default seccomp profile, limits, masked paths.
func (s *subject) start() (pod, error) {
	var p pod
	name := fmt.Sprintf("bench-%d", podNumber.Add(1))
	logs := filepath.Join(s.logs, name)
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return p, err
	}
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "bench"},
		Hostname:     name,
		LogDirectory: logs,
		DnsConfig:    &cri.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"bench.svc.cluster.local"}, Options: []string{"ndots:5"}},
		Labels:       map[string]string{"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "bench", "io.kubernetes.pod.uid": name},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: *parent + "/" + s.name,
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: namespaces(),
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
		},
	}
	began := time.Now()
	err := s.timed("RunPodSandbox", func(ctx context.Context) error {
		answer, err := s.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
		p.sandbox = answer.GetPodSandboxId()
		return err
	})
	if err != nil {
		return p, err
	}
	err = s.timed("CreateContainer", func(ctx context.Context) error {
		answer, err := s.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.sandbox, Config: container(name), SandboxConfig: config})
		p.container = answer.GetContainerId()
		return err
	})
	if err != nil {
		return p, err
	}
	err = s.timed("StartContainer", func(ctx context.Context) error {
		_, err := s.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: p.container})
		return err
	})
	s.results.add("pod start", time.Since(began))
	return p, err
}

func (s *subject) exec(p pod) error {
	return s.timed("ExecSync", func(ctx context.Context) error {
		answer, err := s.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: p.container, Cmd: []string{"true"}, Timeout: 60})
		if err == nil && answer.ExitCode != 0 {
			err = fmt.Errorf("exit code %d: %s", answer.ExitCode, answer.Stderr)
		}
		return err
	})
}

// stop ends a pod in the kubelet's order.
func (s *subject) stop(p pod) error {
	began := time.Now()
	err := s.timed("StopContainer", func(ctx context.Context) error {
		_, err := s.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: p.container, Timeout: 30})
		return err
	})
	if err != nil {
		return err
	}
	err = s.timed("StopPodSandbox", func(ctx context.Context) error {
		_, err := s.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.sandbox})
		return err
	})
	if err != nil {
		return err
	}
	err = s.timed("RemovePodSandbox", func(ctx context.Context) error {
		_, err := s.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.sandbox})
		return err
	})
	s.results.add("teardown", time.Since(began))
	return err
}

func (s *subject) stats(containers int) error {
	return s.timed("ListContainerStats", func(ctx context.Context) error {
		answer, err := s.runtime.ListContainerStats(ctx, &cri.ListContainerStatsRequest{})
		if err == nil && len(answer.Stats) != containers {
			err = fmt.Errorf("%d containers, expected %d", len(answer.Stats), containers)
		}
		return err
	})
}

func (s *subject) pull(what, image string) error {
	return s.timed(what, func(ctx context.Context) error {
		_, err := s.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}})
		return err
	})
}

func (s *subject) removeImage(image string) error {
	return call(func(ctx context.Context) error {
		_, err := s.images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: image}})
		return err
	})
}

func namespaces() *cri.NamespaceOption {
	return &cri.NamespaceOption{Network: cri.NamespaceMode_POD, Ipc: cri.NamespaceMode_POD, Pid: cri.NamespaceMode_CONTAINER}
}

func container(name string) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "main"},
		Image:    &cri.ImageSpec{Image: podImage, UserSpecifiedImage: podImage},
		Command:  podCommand,
		Envs:     []*cri.KeyValue{{Key: "KUBERNETES_SERVICE_HOST", Value: []byte("10.96.0.1")}, {Key: "KUBERNETES_SERVICE_PORT", Value: []byte("443")}},
		Labels:   map[string]string{"io.kubernetes.container.name": "main", "io.kubernetes.pod.name": name},
		LogPath:  "main/0.log",
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
