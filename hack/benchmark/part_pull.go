package main

import (
	"context"
	"syscall"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"husk.invalid/hack/benchmark/report"
)

const pullRepository = "registry.k8s.io/husk-bench/layers:"

// shapes of an image, by tag; hack/images makes them.
var shapes = []struct{ tag, key string }{
	{"8-zstd", report.PullZstd},
	{"1-gib", report.PullBig},
	{"60", report.PullSmall},
}

// pullPart: the daemon's size is taken after the pulls of the first shape, before others tell on it.
func (b *bench) pullPart() error {
	say("pull: 8 gzip layers, %d times", b.pulls)
	runtimes := b.runtimes()
	if err := alternate(b.pulls, runtimes, func(s *subject) error { return s.pullOnce("8", report.PullGzip) }); err != nil {
		return err
	}
	time.Sleep(rest)
	if err := alternate(1, runtimes, func(s *subject) error { return s.putDaemonSize(report.DaemonPulls) }); err != nil {
		return err
	}
	for _, shape := range shapes {
		times := max(b.pulls/3, 1)
		say("pull: %s, %d times", shape.tag, times)
		if err := alternate(times, runtimes, func(s *subject) error { return s.pullOnce(shape.tag, shape.key) }); err != nil {
			return err
		}
	}
	return nil
}

// pullOnce removes the image again, because another shape has the same layers once they are unpacked; what that left to
// write is written before the next clock starts.
func (s *subject) pullOnce(tag, key string) error {
	image := pullRepository + tag
	syscall.Sync()
	if err := s.pull(key, image); err != nil {
		return err
	}
	return call(func(ctx context.Context) error {
		_, err := s.images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: image}})
		return err
	})
}

func (s *subject) pull(key, image string) error {
	return s.timed(key, func(ctx context.Context) error {
		_, err := s.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}})
		return err
	})
}
