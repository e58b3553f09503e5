// Package testcontainers has tests that start containers as a Go program's tests do, by Testcontainers, on the daemon that DOCKER_HOST names.
package testcontainers

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
)

// start runs an image until the test has ended.
func start(t *testing.T, image string, options ...tc.ContainerCustomizer) *tc.DockerContainer {
	t.Helper()
	container, err := tc.Run(t.Context(), image, options...)
	// What these containers run does not end when it is asked to.
	tc.CleanupContainer(t, container, tc.StopTimeout(0))
	check(t, err)
	return container
}

// busybox runs a script, and then goes on until it is killed.
func busybox(t *testing.T, script string, options ...tc.ContainerCustomizer) *tc.DockerContainer {
	t.Helper()
	return start(t, "busybox", append([]tc.ContainerCustomizer{shell(script + "\nexec sleep 1000")}, options...)...)
}

func shell(script string) tc.CustomizeRequestOption { return tc.WithCmd("sh", "-c", script) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// is compares how both are printed.
func is(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s is %q instead of %q", what, fmt.Sprint(got), fmt.Sprint(want))
	}
}

// fails wants an error that has this in it.
func fails(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("the error is %v, without %q", err, part)
	}
}

func read(t *testing.T, from io.Reader, err error) string {
	t.Helper()
	check(t, err)
	if closer, ok := from.(io.Closer); ok {
		defer closer.Close()
	}
	content, err := io.ReadAll(from)
	check(t, err)
	return string(content)
}

// says is the exit code of a command in a container, and all that it says.
func says(t *testing.T, container tc.Container, command ...string) string {
	t.Helper()
	code, output, err := container.Exec(t.Context(), command, exec.Multiplexed())
	return fmt.Sprintf("%d %s", code, read(t, output, err))
}

// page is the text of a page that a container serves.
func page(t *testing.T, container tc.Container, port, path string) string {
	t.Helper()
	address, err := container.PortEndpoint(t.Context(), port, "http")
	check(t, err)
	answer, err := (&http.Client{Timeout: 5 * time.Second}).Get(address + path)
	check(t, err)
	is(t, "the status of "+path, answer.StatusCode, 200)
	return read(t, answer.Body, nil)
}

// daemon is a client without Testcontainers: the second opinion.
func daemon(t *testing.T) *client.Client {
	t.Helper()
	docker, err := client.New(client.FromEnv)
	check(t, err)
	t.Cleanup(func() { docker.Close() })
	return docker
}

func eventually(seconds int, condition func() bool) bool {
	for deadline := time.Now().Add(time.Duration(seconds) * time.Second); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
