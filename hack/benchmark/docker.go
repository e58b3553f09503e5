package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"husk.invalid/hack/benchmark/report"
)

// dockerBench measures `docker run --rm busybox true` through the sockets of several daemons that speak Docker's API: what the client asks for, without
// the client, whose own start would be most of what the clock shows.
func dockerBench(arguments []string) error {
	var o options
	flags := flag.NewFlagSet("benchmark docker", flag.ContinueOnError)
	o.shared(flags)
	flags.IntVar(&o.rounds, "rounds", 100, "containers that each daemon runs, one after the other")
	flags.StringVar(&o.check, "check", "", "fail unless this daemon reaches the project's targets")
	image := flags.String("image", "busybox:latest", "the image; the daemons pull it")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	var daemons []*dockerDaemon
	for _, argument := range flags.Args() {
		name, socket, ok := strings.Cut(argument, "=")
		if !ok {
			return fmt.Errorf("%q is not NAME=SOCKET", argument)
		}
		d, err := newDockerDaemon(name, socket, *image)
		if err != nil {
			return err
		}
		daemons = append(daemons, d)
	}
	say("docker: warming up")
	for _, d := range daemons {
		if err := d.warmUp(); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	say("docker: %d containers one after the other", o.rounds)
	for range o.rounds {
		for _, d := range daemons {
			if err := d.run(); err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
		}
	}
	document := &report.Document{Machine: machine(), Homes: homes(o.work), Parameters: map[string]any{"rounds": o.rounds}}
	var samples []report.Samples
	for _, d := range daemons {
		document.Runtimes = append(document.Runtimes, report.Runtime{Name: d.name, Version: d.version})
		samples = append(samples, d.samples.values)
	}
	document.Summarize(samples)
	document.Table(os.Stdout)
	if o.json != "" {
		if err := document.Save(o.json); err != nil {
			return err
		}
	}
	if o.check == "" {
		return nil
	}
	return document.Check(o.check)
}
