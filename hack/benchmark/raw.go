package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// undecoded is a codec that leaves answers as they came: with a thousand containers, Go's decoding would be most of what
// the clock shows, and it is the client's.
type undecoded struct{}

func (undecoded) Name() string { return "proto" }

func (undecoded) Marshal(value any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(value.([]byte))}, nil
}

func (undecoded) Unmarshal(data mem.BufferSlice, value any) error {
	*value.(*[]byte) = data.Materialize()
	return nil
}

// ask calls a list without arguments, records the time until its answer was received, and decodes that afterwards.
func (s *subject) ask(key, method string, answer proto.Message) error {
	var raw []byte
	err := s.timed(key, func(ctx context.Context) error {
		return s.connection.Invoke(ctx, "/runtime.v1.RuntimeService/"+method, []byte{}, &raw, grpc.ForceCodecV2(undecoded{}))
	})
	if err != nil {
		return err
	}
	return proto.Unmarshal(raw, answer)
}

func expect(what string, is, want int) error {
	if is != want {
		return fmt.Errorf("%s: %d, expected %d", what, is, want)
	}
	return nil
}

func (s *subject) listContainers(key string, want int) error {
	answer := &cri.ListContainersResponse{}
	if err := s.ask(key, "ListContainers", answer); err != nil {
		return err
	}
	return expect("ListContainers", len(answer.Containers), want)
}

func (s *subject) listContainerStats(key string, want int) error {
	answer := &cri.ListContainerStatsResponse{}
	if err := s.ask(key, "ListContainerStats", answer); err != nil {
		return err
	}
	return expect("ListContainerStats", len(answer.Stats), want)
}

func (s *subject) listPodStats(want int) error {
	answer := &cri.ListPodSandboxStatsResponse{}
	if err := s.ask("ListPodSandboxStats", "ListPodSandboxStats", answer); err != nil {
		return err
	}
	return expect("ListPodSandboxStats", len(answer.Stats), want)
}

func (s *subject) listPodMetrics(want int) error {
	answer := &cri.ListPodSandboxMetricsResponse{}
	if err := s.ask("ListPodSandboxMetrics", "ListPodSandboxMetrics", answer); err != nil {
		return err
	}
	return expect("ListPodSandboxMetrics", len(answer.PodMetrics), want)
}

func (s *subject) listPods(key string, want int) error {
	answer := &cri.ListPodSandboxResponse{}
	if err := s.ask(key, "ListPodSandbox", answer); err != nil {
		return err
	}
	return expect("ListPodSandbox", len(answer.Items), want)
}
