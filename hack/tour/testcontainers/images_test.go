package testcontainers

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/pkg/authconfig"
	api "github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// contextOf is a directory with a Dockerfile.
func contextOf(t *testing.T, dockerfile string) string {
	directory := t.TempDir()
	check(t, os.WriteFile(filepath.Join(directory, "Dockerfile"), []byte(dockerfile), 0o644))
	check(t, os.WriteFile(filepath.Join(directory, "greeting"), []byte("hello, "), 0o644))
	return directory
}

func TestDockerfile(t *testing.T) {
	world := "world"
	log := &strings.Builder{}
	from := tc.FromDockerfile{
		Context: contextOf(t, "FROM busybox\nARG WHO\nCOPY greeting /\nRUN echo \"$WHO\" >>/greeting && echo it was built\nCMD [\"cat\", \"/greeting\"]\n"),
		Repo:    "of-testcontainers", Tag: "go", BuildArgs: map[string]*string{"WHO": &world}, BuildLogWriter: log,
	}
	box := start(t, "", tc.WithDockerfile(from), tc.WithWaitStrategy(wait.ForExit()))
	output, err := box.Logs(t.Context())
	is(t, "what it says", read(t, output, err), "hello, world\n")
	is(t, "that the build is shown", strings.Contains(log.String(), "it was built"), true)
	docker := daemon(t)
	_, err = docker.ImageInspect(t.Context(), "of-testcontainers:go")
	check(t, err)
	check(t, box.Terminate(t.Context()))
	_, err = docker.ImageInspect(t.Context(), "of-testcontainers:go")
	fails(t, err, "No such image")
}

func TestDockerfileThatFails(t *testing.T) {
	log := &strings.Builder{}
	from := tc.FromDockerfile{Context: contextOf(t, "FROM busybox\nRUN echo before the end; exit 9\n"), BuildLogWriter: log}
	_, err := tc.Run(t.Context(), "", tc.WithDockerfile(from))
	fails(t, err, "9")
	is(t, "that the build is shown", strings.Contains(log.String(), "before the end"), true)
}

func TestNoSuchImage(t *testing.T) {
	// By the registry's address, because a failure that may pass is tried again for a long time, and Docker's own registry may be out of reach.
	_, err := tc.Run(t.Context(), os.Getenv("TOUR_REGISTRY")+"/library/busybox:no-such-tag")
	fails(t, err, "not found")
}

func TestPlatform(t *testing.T) {
	box := start(t, "busybox", tc.WithImagePlatform("linux/amd64"), tc.WithCmd("uname", "-m"), tc.WithWaitStrategy(wait.ForExit()))
	output, err := box.Logs(t.Context())
	is(t, "the machine", read(t, output, err), "x86_64\n")
}

// A registry that asks for a password gets it from the environment, as CI services have it.
func TestPrivateRegistry(t *testing.T) {
	registry, docker := os.Getenv("TOUR_PRIVATE"), daemon(t)
	name := registry + "/testcontainers/private:1"
	secret, err := authconfig.Encode(api.AuthConfig{Username: "tour", Password: "secret", ServerAddress: registry})
	check(t, err)
	_, err = docker.ImageTag(t.Context(), client.ImageTagOptions{Source: "busybox", Target: name})
	check(t, err)
	push, err := docker.ImagePush(t.Context(), name, client.ImagePushOptions{RegistryAuth: secret})
	check(t, err)
	check(t, push.Wait(t.Context()))
	_, err = docker.ImageRemove(t.Context(), name, client.ImageRemoveOptions{})
	check(t, err)
	t.Setenv("DOCKER_AUTH_CONFIG", fmt.Sprintf(`{"auths": {%q: {"username": "tour", "password": "wrong"}}}`, registry))
	_, err = tc.Run(t.Context(), name)
	fails(t, err, "unauthorized: authentication required")
	t.Setenv("DOCKER_AUTH_CONFIG", fmt.Sprintf(`{"auths": {%q: {"username": "tour", "password": "secret"}}}`, registry))
	is(t, "a program in it", says(t, start(t, name, tc.WithCmd("sleep", "1000")), "echo", "yes"), "0 yes\n")
}

func TestSavedImages(t *testing.T) {
	provider, err := tc.NewDockerProvider()
	check(t, err)
	defer provider.Close()
	check(t, provider.Health(t.Context()))
	file := filepath.Join(t.TempDir(), "images.tar")
	check(t, provider.SaveImages(t.Context(), file, "busybox:latest", "nginx:latest"))
	saved, err := os.Open(file)
	check(t, err)
	defer saved.Close()
	for entries := tar.NewReader(saved); ; {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			t.Fatal("it has no manifest.json")
		}
		check(t, err)
		if entry.Name == "manifest.json" {
			manifest := read(t, entries, nil)
			is(t, "that both are there", strings.Contains(manifest, `"busybox:latest"`) && strings.Contains(manifest, `"nginx:latest"`), true)
			return
		}
	}
}
