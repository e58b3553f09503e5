// The benchmark: asks several CRI runtimes for the same pods in turn and compares how long each RPC takes.
//
// hack/bench starts the runtimes and this program. Rounds alternate between the runtimes (A B C A B C ...), so that
// what else the machine does meets all of them alike.
package main

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

var (
	rounds   = flag.Int("rounds", 30, "pods that each runtime starts and stops one after the other")
	pulls    = flag.Int("pulls", 5, "times that each runtime pulls the 8-layer image")
	bursts   = flag.Int("bursts", 3, "times that each runtime starts 40 pods, 8 at once")
	jsonPath = flag.String("json", "", "write samples and summary to this file")
	work     = flag.String("work", os.TempDir(), "directory for container logs")
	parent   = flag.String("cgroup-parent", "/husk-bench", "the pods' cgroups are below this one")
	check    = flag.Bool("check", false, "fail unless the second runtime reaches the project's targets")
)

const (
	warmups     = 3
	execsPerPod = 5
	standing    = 20
	burstPods   = 40
	burstAtOnce = 8
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: benchmark [flags] NAME=SOCKET,DAEMON_PID...   (the first is the baseline)")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	var subjects []*subject
	for _, argument := range arguments {
		s, err := newSubject(argument, *work)
		if err != nil {
			return err
		}
		subjects = append(subjects, s)
	}
	phases := []struct {
		name    string
		times   int
		measure func(*subject) error
	}{
		{"warming up", 1, warmUp},
		{"one pod after the other", *rounds, onePod},
		{fmt.Sprintf("%d pods, %d at once", burstPods, burstAtOnce), *bursts, burst},
		{fmt.Sprintf("memory and statistics of %d pods", standing), 1, standingPods},
		{"image pulls", *pulls, pullOnce},
	}
	for _, phase := range phases {
		fmt.Fprintln(os.Stderr, "benchmark:", phase.name)
		for range phase.times {
			for _, s := range subjects {
				if err := phase.measure(s); err != nil {
					// What was measured before is worth seeing.
					printTable(os.Stdout, subjects)
					return err
				}
			}
		}
	}
	printTable(os.Stdout, subjects)
	if *jsonPath != "" {
		if err := writeJSON(*jsonPath, subjects); err != nil {
			return err
		}
	}
	if *check && len(subjects) > 1 {
		return checkTargets(subjects[0], subjects[1])
	}
	return nil
}

func warmUp(s *subject) error {
	if err := s.pull("PullImage", podImage); err != nil {
		return err
	}
	for range warmups {
		if err := cycle(s); err != nil {
			return err
		}
	}
	return nil
}

func onePod(s *subject) error {
	recording = true
	defer func() { recording = false }()
	return cycle(s)
}

func cycle(s *subject) error {
	p, err := s.start()
	if err != nil {
		return err
	}
	for range execsPerPod {
		if err := s.exec(p); err != nil {
			return err
		}
	}
	return s.stop(p)
}

// together starts count pods, atOnce at a time, and returns them.
func together(s *subject, count, atOnce int) ([]pod, error) {
	var group sync.WaitGroup
	pods, errors := make([]pod, count), make([]error, count)
	tickets := make(chan int)
	for range atOnce {
		group.Go(func() {
			for i := range tickets {
				pods[i], errors[i] = s.start()
			}
		})
	}
	for i := range count {
		tickets <- i
	}
	close(tickets)
	group.Wait()
	for _, err := range errors {
		if err != nil {
			return nil, err
		}
	}
	return pods, nil
}

func stopAll(s *subject, pods []pod) error {
	for _, p := range pods {
		if err := s.stop(p); err != nil {
			return err
		}
	}
	return nil
}

func burst(s *subject) error {
	began := time.Now()
	pods, err := together(s, burstPods, burstAtOnce)
	if err != nil {
		return err
	}
	s.results.put("pods per second", burstPods/time.Since(began).Seconds())
	return stopAll(s, pods)
}

func standingPods(s *subject) error {
	before, err := processes()
	if err != nil {
		return err
	}
	pods, err := together(s, standing, 1)
	if err != nil {
		return err
	}
	// Lets what starts pods lazily, and Go's scavenger, come to rest.
	time.Sleep(3 * time.Second)
	overhead, err := podOverhead(before)
	if err != nil {
		return err
	}
	s.results.put("PSS per pod", overhead/standing)
	daemon, err := pss(s.daemonPid)
	if err != nil {
		return err
	}
	s.results.put("daemon PSS", daemon)
	recording = true
	for range 20 {
		if err := s.stats(standing); err != nil {
			return err
		}
	}
	recording = false
	return stopAll(s, pods)
}

func pullOnce(s *subject) error {
	// The image of the round before is gone, and what it left to write is written, before the clock starts.
	if err := s.removeImage(pullImage); err != nil {
		return err
	}
	syscall.Sync()
	recording = true
	defer func() { recording = false }()
	return s.pull("PullImage", pullImage)
}

// checkTargets compares with what the project has promised.
func checkTargets(baseline, s *subject) error {
	for _, target := range []struct {
		what string
		want float64
	}{{"pod start", 15}, {"ExecSync", 20}, {"teardown", 8}, {"PullImage", 2}} {
		if ratio := (row{what: target.what}).ratio(baseline, s); ratio < target.want {
			return fmt.Errorf("%s is %.1f times faster, not %g", target.what, ratio, target.want)
		}
	}
	for what, most := range map[string]float64{"PSS per pod": 0.4, "daemon PSS": 20} {
		if is := s.results.percentile(what, 50); is > most {
			return fmt.Errorf("%s is %.2f MiB, more than %g", what, is, most)
		}
	}
	return nil
}
