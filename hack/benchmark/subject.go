package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"husk.invalid/hack/benchmark/report"
)

const deadline = 2 * time.Minute

// subject is a runtime that is measured: one column of the table.
type subject struct {
	name      string
	socket    string
	daemonPid int
	// handler is the RuntimeHandler of its pods; "" is the default.
	handler string
	// variant is one that only takes the parts that start pods.
	variant bool
	version string
	logs    string
	parent  string

	connection *grpc.ClientConn
	runtime    cri.RuntimeServiceClient
	images     cri.ImageServiceClient

	samples *samples
	series  map[string][]report.Point
	notes   []string
}

// newSubject connects to NAME=SOCKET,PID[,HANDLER].
func newSubject(argument, work, parent string) (*subject, error) {
	name, rest, ok := strings.Cut(argument, "=")
	fields := strings.Split(rest, ",")
	if !ok || len(fields) < 2 || len(fields) > 3 {
		return nil, fmt.Errorf("%q is not NAME=SOCKET,PID[,HANDLER]", argument)
	}
	pid, err := strconv.Atoi(fields[1])
	if err != nil {
		return nil, fmt.Errorf("%q: %w", argument, err)
	}
	s := &subject{
		name: name, socket: fields[0], daemonPid: pid, logs: filepath.Join(work, "logs-"+name), parent: parent + "/" + name,
		samples: newSamples(), series: map[string][]report.Point{},
	}
	if len(fields) == 3 {
		s.handler = fields[2]
	}
	if err := s.connect(); err != nil {
		return nil, err
	}
	err = call(func(ctx context.Context) error {
		answer, err := s.runtime.Version(ctx, &cri.VersionRequest{})
		s.version = answer.GetRuntimeName() + " " + answer.GetRuntimeVersion()
		return err
	})
	return s, err
}

// connect makes a new connection: a daemon that was started again would else be tried a second later.
func (s *subject) connect() error {
	if s.connection != nil {
		s.connection.Close()
	}
	connection, err := grpc.NewClient("unix://"+s.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return err
	}
	s.connection, s.runtime, s.images = connection, cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection)
	return nil
}

// muted is the same subject, nothing of which is recorded.
func (s *subject) muted() *subject {
	copied := *s
	copied.samples = nil
	return &copied
}

func (s *subject) note(format string, values ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, values...))
}

func call(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return f(ctx)
}

// timed calls f and records how long it took.
func (s *subject) timed(key string, f func(context.Context) error) error {
	start := time.Now()
	if err := call(f); err != nil {
		return fmt.Errorf("%s: %s: %w", s.name, key, err)
	}
	s.samples.took(key, time.Since(start))
	return nil
}
