package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"husk.invalid/hack/benchmark/report"
)

// options are what the command line decides.
type options struct {
	parts      string
	variants   string
	rounds     int
	pulls      int
	bursts     int
	pods       int
	budget     time.Duration
	containers int
	idlePods   int
	window     time.Duration
	json       string
	work       string
	parent     string
	check      string
}

// bench is one run: the runtimes, in the order of the columns, and how much is measured.
type bench struct {
	options
	// reached is how many pods the scaling part could start.
	reached  map[*subject]int
	subjects []*subject
}

// part is what --parts can choose.
type part struct {
	name string
	run  func(*bench) error
}

// parts in the order in which they run.
var parts = []part{
	{"start", (*bench).startPart},
	{"exec", (*bench).execPart},
	{"memory", (*bench).memoryPart},
	{"lists", (*bench).listsPart},
	{"pull", (*bench).pullPart},
	{"idle", (*bench).idlePart},
	{"scale", (*bench).scalePart},
}

func (o *options) shared(flags *flag.FlagSet) {
	flags.StringVar(&o.json, "json", "", "write the run to this file")
	flags.StringVar(&o.work, "work", os.TempDir(), "directory of the run; container logs go below it")
	flags.StringVar(&o.parent, "cgroup-parent", "/husk-bench", "the pods' cgroups are below this one")
}

func parseRun(arguments []string) (*bench, error) {
	b := &bench{reached: map[*subject]int{}}
	flags := flag.NewFlagSet("benchmark run", flag.ContinueOnError)
	b.shared(flags)
	flags.StringVar(&b.parts, "parts", "start,exec,memory,lists,pull", "what is measured; also idle and scale")
	flags.StringVar(&b.variants, "variants", "", "subjects that only take the parts start, exec and memory")
	flags.IntVar(&b.rounds, "rounds", 100, "pods that each runtime starts and stops one after the other")
	flags.IntVar(&b.pulls, "pulls", 10, "pulls of the image of 8 gzip layers; the other shapes get a third as many")
	flags.IntVar(&b.bursts, "bursts", 3, "times that each runtime starts 40 pods, 8 at once")
	flags.IntVar(&b.pods, "pods", 300, "pods of the scaling part")
	flags.DurationVar(&b.budget, "budget", 4*time.Minute, "how long one runtime may take to start them; it gets fewer then")
	flags.IntVar(&b.containers, "containers", 1000, "containers of the long list")
	flags.IntVar(&b.idlePods, "idle-pods", 100, "pods of the idle node")
	flags.DurationVar(&b.window, "window", 20*time.Second, "how long the idle node is watched")
	flags.StringVar(&b.check, "check", "", "fail unless this runtime reaches the project's targets")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(b.parts, ",") {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return nil, fmt.Errorf("no part is named %q", name)
		}
	}
	for _, argument := range flags.Args() {
		s, err := newSubject(argument, b.work, b.parent)
		if err != nil {
			return nil, err
		}
		s.variant = slices.Contains(strings.Split(b.variants, ","), s.name)
		b.subjects = append(b.subjects, s)
	}
	if len(b.subjects) == 0 {
		return nil, errors.New("no runtime is named")
	}
	return b, nil
}

func run(arguments []string) error {
	b, err := parseRun(arguments)
	if err != nil {
		return err
	}
	failure := b.measure()
	// What was measured before a failure is worth seeing.
	document := b.document()
	document.Table(os.Stdout)
	if b.json != "" && failure == nil {
		failure = document.Save(b.json)
	}
	if failure != nil || b.check == "" {
		return failure
	}
	return document.Check(b.check)
}

func (b *bench) measure() error {
	if b.chosen("memory") {
		if err := b.freshPart(); err != nil {
			return err
		}
	}
	if err := b.warmUp(); err != nil {
		return err
	}
	for _, part := range parts {
		if !b.chosen(part.name) {
			continue
		}
		if err := part.run(b); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

func (b *bench) chosen(part string) bool { return slices.Contains(strings.Split(b.parts, ","), part) }

// say tells a person who waits what is being measured.
func say(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "benchmark: %s: %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, values...))
}

// alternate measures each of the subjects in turn, so many times.
func alternate(times int, subjects []*subject, measure func(*subject) error) error {
	for range times {
		for _, s := range subjects {
			if err := measure(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// runtimes are the subjects without the variants of them.
func (b *bench) runtimes() []*subject {
	return slices.DeleteFunc(slices.Clone(b.subjects), func(s *subject) bool { return s.variant })
}

// warmUp also finds out which variants work here: another OCI runtime does not know every kind of cgroups.
func (b *bench) warmUp() error {
	say("warming up")
	working := b.subjects[:0:0]
	for _, s := range b.subjects {
		err := s.muted().pull("PullImage", podImage)
		for range warmups {
			if err == nil {
				err = cycle(s.muted())
			}
		}
		if err != nil && s.handler == "" {
			return err
		}
		if err != nil {
			say("%s is left out: %v", s.name, err)
			continue
		}
		working = append(working, s)
	}
	b.subjects = working
	return nil
}

func (b *bench) document() *report.Document {
	document := &report.Document{
		Machine: machine(),
		Homes:   homes(b.work),
		Parameters: map[string]any{
			"parts": b.parts, "rounds": b.rounds, "pulls": b.pulls, "bursts": b.bursts, "pods": b.pods, "containers": b.containers,
			"idle_pods": b.idlePods, "window_seconds": b.window.Seconds(),
		},
	}
	var samples []report.Samples
	for _, s := range b.subjects {
		document.Runtimes = append(document.Runtimes, report.Runtime{
			Name: s.name, Version: s.version, Pods: b.reached[s], Notes: s.notes, Series: s.series,
		})
		samples = append(samples, s.samples.values)
	}
	document.Summarize(samples)
	return document
}
