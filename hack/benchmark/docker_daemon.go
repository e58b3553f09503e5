package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"husk.invalid/hack/benchmark/report"
)

// dockerAPI is spoken by all that are measured.
const dockerAPI = "/v1.41"

// dockerDaemon is a daemon behind Docker's API: one column of the table.
type dockerDaemon struct {
	name    string
	socket  string
	version string
	image   string
	client  *http.Client
	samples *samples
}

func newDockerDaemon(name, socket, image string) (*dockerDaemon, error) {
	d := &dockerDaemon{name: name, socket: socket, image: image, samples: newSamples()}
	d.client = &http.Client{
		Timeout: deadline,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}},
	}
	var version struct {
		Version  string
		Platform struct{ Name string }
	}
	if err := d.ask("GET", "/version", nil, &version); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d.version = version.Platform.Name + " " + version.Version
	return d, nil
}

// ask sends a request and decodes its answer, unless that is nil; the answer is read to its end.
func (d *dockerDaemon) ask(method, path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, "http://docker"+dockerAPI+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := d.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, bytes.TrimSpace(text))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// attach is a connection of its own, over which the container's output comes once it runs.
func (d *dockerDaemon) attach(id string) (io.ReadCloser, error) {
	connection, err := net.Dial("unix", d.socket)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(connection, "POST %s/containers/%s/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n",
		dockerAPI, id)
	connection.SetReadDeadline(time.Now().Add(deadline))
	reader := bufio.NewReader(connection)
	response, err := http.ReadResponse(reader, nil)
	if err == nil && response.StatusCode != http.StatusSwitchingProtocols && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("attach: %s", response.Status)
	}
	if err != nil {
		connection.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{reader, connection}, nil
}

func (d *dockerDaemon) warmUp() error {
	if err := d.ask("POST", "/images/create?fromImage="+url.QueryEscape(d.image), nil, nil); err != nil {
		return err
	}
	muted := *d
	muted.samples = nil
	for range warmups {
		if err := muted.run(); err != nil {
			return err
		}
	}
	return nil
}

// run is what `docker run --rm IMAGE true` asks for, in its order.
func (d *dockerDaemon) run() error {
	began := time.Now()
	var container struct {
		ID string `json:"Id"`
	}
	config := map[string]any{
		"Image": d.image, "Cmd": []string{"true"}, "AttachStdout": true, "AttachStderr": true,
		"HostConfig": map[string]any{"NetworkMode": "default"},
	}
	if err := d.ask("POST", "/containers/create", config, &container); err != nil {
		return err
	}
	created := time.Now()
	output, err := d.attach(container.ID)
	if err != nil {
		return err
	}
	defer output.Close()
	ended := make(chan error, 1)
	var end struct{ StatusCode int }
	go func() { ended <- d.ask("POST", "/containers/"+container.ID+"/wait?condition=next-exit", nil, &end) }()
	attached := time.Now()
	if err := d.ask("POST", "/containers/"+container.ID+"/start", nil, nil); err != nil {
		return err
	}
	started := time.Now()
	if _, err := io.Copy(io.Discard, output); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	if err := <-ended; err != nil {
		return err
	}
	if err := expect("the exit code of true", end.StatusCode, 0); err != nil {
		return err
	}
	waited := time.Now()
	if err := d.ask("DELETE", "/containers/"+container.ID+"?force=1&v=1", nil, nil); err != nil {
		return err
	}
	removed := time.Now()
	d.samples.took(report.DockerCreate, created.Sub(began))
	d.samples.took(report.DockerStart, started.Sub(attached))
	d.samples.took(report.DockerEnd, waited.Sub(started))
	d.samples.took(report.DockerRemove, removed.Sub(waited))
	d.samples.took(report.DockerRun, removed.Sub(began))
	return nil
}
