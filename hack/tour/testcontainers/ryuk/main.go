// Ryuk's part in Testcontainers: it runs in a container with Docker's socket and removes what a test run leaves behind when that run has ended,
// however it ended. Ryuk itself is an image that is pulled and its module is not to be had from Go's module proxy; this program speaks its
// protocol and asks of the daemon what it asks, for the image that both libraries start by the name "testcontainers/ryuk".
//
// A run connects and writes a line of filters ("label=a=b&label=c=d"), which is answered by "ACK". When the last connection has been closed for
// RYUK_RECONNECTION_TIMEOUT, or none came within RYUK_CONNECTION_TIMEOUT, all that matches a line is removed, and the program ends.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

const (
	reaperLabel    = "org.testcontainers.ryuk"
	requestTimeout = 10 * time.Second
	removeAttempts = 10
)

func main() {
	log.SetFlags(log.Ltime)
	log.SetOutput(os.Stdout)
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	docker, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	if _, err := docker.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return err
	}
	port := os.Getenv("RYUK_PORT")
	if port == "" {
		port = "8080"
	}
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	// Libraries wait for this word.
	log.Print("Started on ", listener.Addr())
	runs := &runs{changed: make(chan int)}
	go runs.accept(listener)
	runs.wait(duration("RYUK_CONNECTION_TIMEOUT", time.Minute), duration("RYUK_RECONNECTION_TIMEOUT", 10*time.Second))
	listener.Close()
	return reap(ctx, docker, runs.all())
}

func duration(variable string, otherwise time.Duration) time.Duration {
	if value, err := time.ParseDuration(os.Getenv(variable)); err == nil {
		return value
	}
	return otherwise
}

// runs is what is known of the test runs that have connected.
type runs struct {
	mutex   sync.Mutex
	filters []client.Filters
	changed chan int // 1 for a connection that came, -1 for one that went
}

func (r *runs) all() []client.Filters {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.filters
}

// wait returns when nobody is connected, and was not for long enough.
func (r *runs) wait(first, again time.Duration) {
	connected := 0
	patience := time.NewTimer(first)
	for {
		select {
		case change := <-r.changed:
			connected += change
			patience.Stop()
			if connected == 0 {
				patience.Reset(again)
			}
		case <-patience.C:
			return
		}
	}
}

func (r *runs) accept(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		r.changed <- 1
		go func() {
			r.serve(connection)
			connection.Close()
			r.changed <- -1
		}()
	}
}

func (r *runs) serve(connection net.Conn) {
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		query, err := url.ParseQuery(lines.Text())
		if err != nil || len(query) == 0 {
			log.Printf("no filters: %q", lines.Text())
			continue
		}
		filters := make(client.Filters)
		for term, values := range query {
			filters.Add(term, values...)
		}
		log.Print("filters: ", query)
		r.mutex.Lock()
		r.filters = append(r.filters, filters)
		r.mutex.Unlock()
		fmt.Fprintln(connection, "ACK")
	}
}

// kind is one kind of thing that a run leaves.
type kind struct {
	name   string
	list   func(context.Context, client.Filters) ([]thing, error)
	remove func(context.Context, string) error
}

type thing struct {
	id      string
	created time.Time
}

// reap removes what matches any of the filters: containers first, which use the rest.
func reap(ctx context.Context, docker *client.Client, filters []client.Filters) error {
	var failures []error
	for _, kind := range kinds(docker) {
		things, err := settled(ctx, kind, filters)
		failures = append(failures, err)
		removed := 0
		for _, thing := range things {
			if err := persistently(ctx, thing.id, kind.remove); err != nil {
				failures = append(failures, fmt.Errorf("%s %s: %w", kind.name, thing.id, err))
				continue
			}
			removed++
		}
		log.Printf("removed %d of %d %ss", removed, len(things), kind.name)
	}
	return errors.Join(failures...)
}

// settled lists a kind when nothing of it is new: a run that ends may still be making something.
func settled(ctx context.Context, kind kind, filters []client.Filters) ([]thing, error) {
	for {
		var things []thing
		fresh := false
		for _, filter := range filters {
			request, cancel := context.WithTimeout(ctx, requestTimeout)
			found, err := kind.list(request, filter)
			cancel()
			if err != nil {
				return nil, fmt.Errorf("list of %ss: %w", kind.name, err)
			}
			for _, thing := range found {
				fresh = fresh || time.Since(thing.created) < time.Second
			}
			things = append(things, found...)
		}
		if !fresh {
			return things, nil
		}
		time.Sleep(time.Second)
	}
}

func persistently(ctx context.Context, id string, remove func(context.Context, string) error) error {
	for attempt := 1; ; attempt++ {
		request, cancel := context.WithTimeout(ctx, requestTimeout)
		err := remove(request, id)
		cancel()
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		log.Printf("%s: %v", id, err)
		if attempt == removeAttempts {
			return err
		}
		time.Sleep(time.Second)
	}
}

func kinds(docker *client.Client) []kind {
	return []kind{
		{"container", func(ctx context.Context, filters client.Filters) ([]thing, error) {
			answer, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
			var things []thing
			for _, item := range answer.Items {
				// Reapers go by themselves.
				if item.Labels[reaperLabel] != "true" {
					things = append(things, thing{item.ID, time.Unix(item.Created, 0)})
				}
			}
			return things, err
		}, func(ctx context.Context, id string) error {
			_, err := docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{RemoveVolumes: true, Force: true})
			return err
		}},
		{"network", func(ctx context.Context, filters client.Filters) ([]thing, error) {
			answer, err := docker.NetworkList(ctx, client.NetworkListOptions{Filters: filters})
			var things []thing
			for _, item := range answer.Items {
				things = append(things, thing{item.ID, item.Created})
			}
			return things, err
		}, func(ctx context.Context, id string) error {
			_, err := docker.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
			return err
		}},
		{"volume", func(ctx context.Context, filters client.Filters) ([]thing, error) {
			answer, err := docker.VolumeList(ctx, client.VolumeListOptions{Filters: filters})
			var things []thing
			for _, item := range answer.Items {
				created, err := time.Parse(time.RFC3339, item.CreatedAt)
				if err != nil {
					return nil, err
				}
				things = append(things, thing{item.Name, created})
			}
			return things, err
		}, func(ctx context.Context, id string) error {
			_, err := docker.VolumeRemove(ctx, id, client.VolumeRemoveOptions{Force: true})
			return err
		}},
		{"image", func(ctx context.Context, filters client.Filters) ([]thing, error) {
			answer, err := docker.ImageList(ctx, client.ImageListOptions{Filters: filters})
			var things []thing
			for _, item := range answer.Items {
				things = append(things, thing{item.ID, time.Unix(item.Created, 0)})
			}
			return things, err
		}, func(ctx context.Context, id string) error {
			_, err := docker.ImageRemove(ctx, id, client.ImageRemoveOptions{PruneChildren: true})
			return err
		}},
	}
}
