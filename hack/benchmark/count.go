package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"husk.invalid/hack/benchmark/report"
)

// counter counts what RPCs cost one runtime.
type counter struct {
	*subject
	work string
	// calls of each RPC that the sums are divided by.
	calls  int
	before map[int]bool
	counts map[string]report.Count
}

// count measures no time: strace makes everything many times slower.
func count(arguments []string) error {
	var o options
	flags := flag.NewFlagSet("benchmark count", flag.ContinueOnError)
	o.shared(flags)
	calls := flags.Int("calls", 10, "calls of each RPC")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	document := &report.Document{Machine: machine(), Homes: homes(o.work), Parameters: map[string]any{"calls": *calls}}
	for _, argument := range flags.Args() {
		s, err := newSubject(argument, o.work, o.parent)
		if err != nil {
			return err
		}
		say("counting: %s", s.name)
		quiet := s.muted()
		c := &counter{subject: quiet, work: o.work, calls: *calls, counts: map[string]report.Count{}}
		if err := c.all(); err != nil {
			return err
		}
		document.Runtimes = append(document.Runtimes, report.Runtime{Name: s.name, Version: s.version, Notes: quiet.notes, Counts: c.counts})
	}
	document.CountTable(os.Stdout)
	if o.json == "" {
		return nil
	}
	return document.Save(o.json)
}

// all takes every RPC of a pod's life with each tool that there is.
func (c *counter) all() error {
	if err := c.pull("PullImage", podImage); err != nil {
		return err
	}
	for range warmups {
		if err := cycle(c.subject); err != nil {
			return err
		}
	}
	tools := []string{"strace"}
	if _, err := exec.LookPath("perf"); err == nil {
		tools = append(tools, "perf")
	} else {
		c.note("instructions are not counted: there is no perf")
	}
	for _, tool := range tools {
		if err := c.life(tool); err != nil {
			return fmt.Errorf("%s: %s: %w", c.name, tool, err)
		}
	}
	for _, count := range c.counts {
		if len(tools) == 2 && count.Instructions == 0 {
			c.note("instructions are not counted: perf cannot read the processor's counters here")
			break
		}
	}
	return nil
}

// life goes through some pods' lives with all of them at the same point, so that a tool sees one kind of RPC at a time.
func (c *counter) life(tool string) (err error) {
	if c.before, err = processes(); err != nil {
		return err
	}
	pods := make([]pod, c.calls)
	steps := []struct {
		name string
		call func(*pod) error
	}{
		{report.RunPodSandbox, func(p *pod) (err error) { *p, err = c.runSandbox(); return err }},
		{report.CreateContainer, func(p *pod) (err error) { p.container, err = c.create(report.CreateContainer, *p, "main"); return err }},
		{report.StartContainer, func(p *pod) error { return c.startContainer(report.StartContainer, p.container) }},
		{report.ExecSync, func(p *pod) error { return c.exec(*p) }},
		{report.StopContainer, func(p *pod) error { return c.stopContainer(report.StopContainer, p.container) }},
		{"RemoveContainer", func(p *pod) error {
			return call(func(ctx context.Context) error {
				_, err := c.runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: p.container})
				return err
			})
		}},
		{report.StopPodSandbox, func(p *pod) error { return c.stopSandbox(*p) }},
		{report.RemovePodSandbox, func(p *pod) error { return c.removeSandbox(*p) }},
	}
	for _, step := range steps {
		if step.name == report.StopContainer {
			for _, p := range pods {
				if err := c.run(p.container, awaitReady); err != nil {
					return err
				}
			}
		}
		if err := c.watched(tool, step.name, func(i int) error { return step.call(&pods[i]) }); err != nil {
			return err
		}
	}
	return nil
}

// watched calls the step for each pod, one after the other, with the tool attached to all processes of the runtime.
func (c *counter) watched(tool, name string, step func(int) error) error {
	pids, err := overhead(c.before)
	if err != nil {
		return err
	}
	tracer, err := attach(c.work, tool, append(pids, c.daemonPid))
	if err != nil {
		return err
	}
	failure := forEach(c.calls, 1, step)
	text, err := tracer.detach()
	if failure != nil {
		return fmt.Errorf("%s: %w", name, failure)
	}
	if err != nil {
		return err
	}
	count := c.counts[name]
	if tool == "perf" {
		instructions, _ := parsePerf(text)
		count.Instructions = instructions / float64(c.calls)
		c.counts[name] = count
		return nil
	}
	calls, err := parseStrace(text)
	if err != nil {
		return err
	}
	count.ByName = map[string]float64{}
	for system, number := range calls {
		count.ByName[system] = number / float64(c.calls)
		count.SystemCalls += count.ByName[system]
	}
	c.counts[name] = count
	return nil
}
