package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"husk.invalid/hack/benchmark/report"
)

// pod is a running sandbox with one container.
type pod struct {
	sandbox, container string
	config             *cri.PodSandboxConfig
}

var podNumber atomic.Int64

// start runs a pod as a kubelet would ask for it: pod network, default seccomp profile, limits, masked paths.
func (s *subject) start() (pod, error) {
	began := time.Now()
	p, err := s.runSandbox()
	if err != nil {
		return p, err
	}
	if p.container, err = s.create(report.CreateContainer, p, "main"); err != nil {
		return p, err
	}
	err = s.startContainer(report.StartContainer, p.container)
	s.samples.took(report.PodStart, time.Since(began))
	return p, err
}

func (s *subject) runSandbox() (pod, error) {
	var p pod
	name := fmt.Sprintf("bench-%d", podNumber.Add(1))
	logs := filepath.Join(s.logs, name)
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return p, err
	}
	p.config = s.sandboxConfig(name, logs)
	err := s.timed(report.RunPodSandbox, func(ctx context.Context) error {
		answer, err := s.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p.config, RuntimeHandler: s.handler})
		p.sandbox = answer.GetPodSandboxId()
		return err
	})
	return p, err
}

func (s *subject) create(key string, p pod, name string) (string, error) {
	// As the kubelet does.
	if err := os.MkdirAll(filepath.Join(p.config.LogDirectory, name), 0o755); err != nil {
		return "", err
	}
	id := ""
	err := s.timed(key, func(ctx context.Context) error {
		config := containerConfig(p.config.Metadata.Name, name)
		answer, err := s.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.sandbox, Config: config, SandboxConfig: p.config})
		id = answer.GetContainerId()
		return err
	})
	return id, err
}

func (s *subject) startContainer(key, id string) error {
	return s.timed(key, func(ctx context.Context) error {
		_, err := s.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id})
		return err
	})
}

func (s *subject) stopContainer(key, id string) error {
	return s.timed(key, func(ctx context.Context) error {
		_, err := s.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 30})
		return err
	})
}

// another runs a second container in the pod and removes it, as a restart of a container does.
func (s *subject) another(p pod) error {
	quiet := s.muted()
	began := time.Now()
	id, err := quiet.create(report.CreateContainer, p, "another")
	if err == nil {
		err = quiet.startContainer(report.StartContainer, id)
	}
	if err != nil {
		return err
	}
	s.samples.took(report.ContainerStart, time.Since(began))
	if err := quiet.run(id, awaitReady); err != nil {
		return err
	}
	began = time.Now()
	if err := quiet.stopContainer(report.StopContainer, id); err != nil {
		return err
	}
	err = call(func(ctx context.Context) error {
		_, err := s.runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
		return err
	})
	s.samples.took(report.ContainerEnd, time.Since(began))
	return err
}

func (s *subject) exec(p pod) error { return s.run(p.container, []string{"true"}) }

func (s *subject) run(container string, command []string) error {
	return s.timed(report.ExecSync, func(ctx context.Context) error {
		answer, err := s.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: container, Cmd: command, Timeout: 60})
		if err == nil && answer.ExitCode != 0 {
			err = fmt.Errorf("exit code %d: %s", answer.ExitCode, answer.Stderr)
		}
		return err
	})
}

// stop ends a pod in the kubelet's order.
func (s *subject) stop(p pod) error {
	if err := s.muted().run(p.container, awaitReady); err != nil {
		return err
	}
	began := time.Now()
	if err := s.stopContainer(report.StopContainer, p.container); err != nil {
		return err
	}
	if err := s.stopSandbox(p); err != nil {
		return err
	}
	err := s.removeSandbox(p)
	s.samples.took(report.Teardown, time.Since(began))
	return err
}

func (s *subject) stopSandbox(p pod) error {
	return s.timed(report.StopPodSandbox, func(ctx context.Context) error {
		_, err := s.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.sandbox})
		return err
	})
}

func (s *subject) removeSandbox(p pod) error {
	return s.timed(report.RemovePodSandbox, func(ctx context.Context) error {
		_, err := s.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.sandbox})
		return err
	})
}

// forEach calls f with 0 to count-1, atOnce at a time.
func forEach(count, atOnce int, f func(int) error) error {
	var group sync.WaitGroup
	errs := make([]error, count)
	tickets := make(chan int)
	for range atOnce {
		group.Go(func() {
			for i := range tickets {
				errs[i] = f(i)
			}
		})
	}
	for i := range count {
		tickets <- i
	}
	close(tickets)
	group.Wait()
	return errors.Join(errs...)
}

// together starts count pods, atOnce at a time; nothing of it is recorded.
func together(s *subject, count, atOnce int) ([]pod, error) {
	pods, quiet := make([]pod, count), s.muted()
	return pods, forEach(count, atOnce, func(i int) error {
		var err error
		pods[i], err = quiet.start()
		return err
	})
}

func stopAll(s *subject, pods []pod, atOnce int) error {
	quiet := s.muted()
	return forEach(len(pods), atOnce, func(i int) error { return quiet.stop(pods[i]) })
}
