// An NRI plugin for tests, on the stub of containerd/nri: it writes down what it is told, and does in each call what a file
// tells it to.
//
// A line of JSON goes to the events file for each call. The file <call>.json in the control directory, if it is there, says
// what the call is to do:
//
//	{"block": true}              not return before the file is gone
//	{"hang": true}               not return at all
//	{"die": true}                end the process
//	{"error": "text"}            fail
//	{"once": true}               remove the file first: only this call is concerned
//	{"adjust": {...}}            a ContainerAdjustment, for CreateContainer
//	{"update": [{...}]}          ContainerUpdates, for calls that can have them
//	{"reject": "reason"}         for ValidateContainerAdjustment
//
// UpdateContainers.json makes it ask for updates by itself; the answer is an event of that name.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// settings come from flags, or from the configuration of a plugin that was launched.
type settings struct {
	Events  string `json:"events"`
	Control string `json:"control"`
}

type order struct {
	Block  bool              `json:"block"`
	Hang   bool              `json:"hang"`
	Die    bool              `json:"die"`
	Once   bool              `json:"once"`
	Error  string            `json:"error"`
	Reject string            `json:"reject"`
	Adjust json.RawMessage   `json:"adjust"`
	Update []json.RawMessage `json:"update"`
}

type plugin struct {
	settings
	stub stub.Stub
	mu   sync.Mutex
}

func (p *plugin) record(event string, fields map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fields["event"] = event
	fields["time"] = time.Now().UnixNano()
	line, err := json.Marshal(fields)
	if err != nil {
		fatal(err)
	}
	file, err := os.OpenFile(p.Events, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(append(line, '\n')); err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "nri-plugin:", err)
	os.Exit(1)
}

func message(m proto.Message) json.RawMessage {
	text, err := protojson.Marshal(m)
	if err != nil {
		fatal(err)
	}
	return text
}

func messages[M proto.Message](all []M) []json.RawMessage {
	texts := make([]json.RawMessage, 0, len(all))
	for _, m := range all {
		texts = append(texts, message(m))
	}
	return texts
}

// obey does what the call's file says, and returns it.
func (p *plugin) obey(call string) (*order, error) {
	path := filepath.Join(p.Control, call+".json")
	text, err := os.ReadFile(path)
	if err != nil {
		return &order{}, nil
	}
	o := &order{}
	if err := json.Unmarshal(text, o); err != nil {
		fatal(fmt.Errorf("%s: %w", path, err))
	}
	if o.Once {
		os.Remove(path)
	}
	if o.Die {
		os.Exit(0)
	}
	if o.Hang {
		select {}
	}
	for o.Block {
		if _, err := os.Stat(path); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if o.Error != "" {
		return o, errors.New(o.Error)
	}
	return o, nil
}

func updates(texts []json.RawMessage) []*api.ContainerUpdate {
	all := make([]*api.ContainerUpdate, 0, len(texts))
	for _, text := range texts {
		u := &api.ContainerUpdate{}
		if err := protojson.Unmarshal(text, u); err != nil {
			fatal(err)
		}
		all = append(all, u)
	}
	return all
}

func (p *plugin) pod(call string, pod *api.PodSandbox) error {
	p.record(call, map[string]any{"pod": message(pod)})
	_, err := p.obey(call)
	return err
}

func (p *plugin) container(call string, pod *api.PodSandbox, container *api.Container) (*order, error) {
	p.record(call, map[string]any{"pod": message(pod), "container": message(container)})
	return p.obey(call)
}

func (p *plugin) Configure(_ context.Context, config, runtime, version string) (stub.EventMask, error) {
	if config != "" {
		if err := json.Unmarshal([]byte(config), &p.settings); err != nil {
			return 0, err
		}
	}
	p.record("Configure", map[string]any{"config": config, "runtime": runtime, "version": version, "args": os.Args, "env": os.Environ()})
	_, err := p.obey("Configure")
	return 0, err
}

func (p *plugin) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	p.record("Synchronize", map[string]any{"pods": messages(pods), "containers": messages(containers)})
	o, err := p.obey("Synchronize")
	p.record("Synchronized", map[string]any{})
	return updates(o.Update), err
}

func (p *plugin) RunPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.pod("RunPodSandbox", pod)
}

func (p *plugin) UpdatePodSandbox(_ context.Context, pod *api.PodSandbox, overhead, resources *api.LinuxResources) error {
	p.record("UpdatePodSandbox", map[string]any{"pod": message(pod), "overhead": message(overhead), "resources": message(resources)})
	_, err := p.obey("UpdatePodSandbox")
	return err
}

func (p *plugin) PostUpdatePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.pod("PostUpdatePodSandbox", pod)
}

func (p *plugin) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.pod("StopPodSandbox", pod)
}

func (p *plugin) RemovePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.pod("RemovePodSandbox", pod)
}

func (p *plugin) CreateContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	o, err := p.container("CreateContainer", pod, container)
	var adjust *api.ContainerAdjustment
	if len(o.Adjust) > 0 {
		adjust = &api.ContainerAdjustment{}
		if err := protojson.Unmarshal(o.Adjust, adjust); err != nil {
			fatal(err)
		}
	}
	return adjust, updates(o.Update), err
}

func (p *plugin) PostCreateContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) error {
	_, err := p.container("PostCreateContainer", pod, container)
	return err
}

func (p *plugin) StartContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) error {
	_, err := p.container("StartContainer", pod, container)
	return err
}

func (p *plugin) PostStartContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) error {
	_, err := p.container("PostStartContainer", pod, container)
	return err
}

func (p *plugin) UpdateContainer(_ context.Context, pod *api.PodSandbox, container *api.Container, resources *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	p.record("UpdateContainer", map[string]any{"pod": message(pod), "container": message(container), "resources": message(resources)})
	o, err := p.obey("UpdateContainer")
	return updates(o.Update), err
}

func (p *plugin) PostUpdateContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) error {
	_, err := p.container("PostUpdateContainer", pod, container)
	return err
}

func (p *plugin) StopContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) ([]*api.ContainerUpdate, error) {
	o, err := p.container("StopContainer", pod, container)
	return updates(o.Update), err
}

func (p *plugin) RemoveContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) error {
	_, err := p.container("RemoveContainer", pod, container)
	return err
}

func (p *plugin) ValidateContainerAdjustment(_ context.Context, request *api.ValidateContainerAdjustmentRequest) error {
	p.record("ValidateContainerAdjustment", map[string]any{"adjust": message(request.Adjust), "owners": message(request.Owners)})
	o, err := p.obey("ValidateContainerAdjustment")
	if o.Reject != "" {
		return errors.New(o.Reject)
	}
	return err
}

// ask looks for UpdateContainers.json.
func (p *plugin) ask() {
	for ; ; time.Sleep(5 * time.Millisecond) {
		if p.Control == "" {
			continue
		}
		path := filepath.Join(p.Control, "UpdateContainers.json")
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		o := &order{}
		if err := json.Unmarshal(text, o); err != nil {
			fatal(err)
		}
		os.Remove(path)
		failed, err := p.stub.UpdateContainers(updates(o.Update))
		fields := map[string]any{"failed": messages(failed)}
		if err != nil {
			fields["error"] = err.Error()
		}
		p.record("UpdateContainers", fields)
	}
}

func main() {
	p := &plugin{}
	socket := flag.String("socket", "", "the runtime's NRI socket")
	name := flag.String("name", "test", "name of the plugin")
	index := flag.String("index", "00", "two digits")
	flag.StringVar(&p.Events, "events", "", "file for the events")
	flag.StringVar(&p.Control, "control", "", "directory with orders")
	flag.Parse()

	var options []stub.Option
	if os.Getenv(api.PluginSocketEnvVar) == "" {
		options = append(options, stub.WithPluginName(*name), stub.WithPluginIdx(*index), stub.WithSocketPath(*socket))
	}
	// The stub tells of the end in a goroutine of its own; whichever is first records it.
	closed := sync.OnceFunc(func() {
		p.record("Closed", map[string]any{})
		os.Exit(0)
	})
	options = append(options, stub.WithOnClose(closed))
	s, err := stub.New(p, options...)
	if err != nil {
		fatal(err)
	}
	p.stub = s
	go p.ask()
	// Not Run, which takes a connection that ended for a failure.
	if err := s.Start(context.Background()); err != nil {
		fatal(err)
	}
	s.Wait()
	closed()
}
