# husk: every command a developer or CI needs. `make help` lists them.
PREFIX ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= /etc
UNITDIR ?= /usr/lib/systemd/system

.DEFAULT_GOAL := help
.PHONY: help deps build deb rpm dist run test test-vm test-cluster test-kind test-oci node-e2e conformance test-docker test-package test-dashboards check unit e2e critest bench deny features fuzz kill-test load install uninstall clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1|\2/' | column -t -s '|'

deps: ## install what building and testing need (Debian packages; checks Rust and Go)
	hack/install-deps

build: ## build huskd, husk, husk-oci, husk-podmon and husk-pause into target/dist
	hack/build

deb: build ## a Debian package of them in target/package (VERSION=x.y.z)
	hack/package deb $(if $(VERSION),--version $(VERSION))

rpm: build ## an RPM package of them in target/package (VERSION=x.y.z)
	hack/package rpm $(if $(VERSION),--version $(VERSION))

dist: build ## a tarball for other distributions in target/package, with SHA256SUMS (VERSION=x.y.z)
	hack/package dist $(if $(VERSION),--version $(VERSION))

run: deps build ## start husk on its embedded network, run a real pod, show its logs, clean up
	hack/run

test: ## everything: deps, formatting, lints, unit and kernel tests, end-to-end tests
	hack/test

test-vm: build ## critest and the end-to-end suite on cgroup v2 with AppArmor, in a virtual machine (root)
	hack/test-vm

test-package: build ## install, upgrade and purge the packages in a throw-away root (root)
	hack/test-package

test-dashboards: build ## dashboard and alert rules against a Prometheus that scrapes huskd (root; minutes)
	hack/test-dashboards

check: ## formatting, lints and the repository's own rules (no root needed)
	hack/test check

unit: ## unit and kernel-facing tests (root)
	hack/test unit

e2e: ## end-to-end tests against the built daemon (root)
	hack/test e2e

critest: build ## the CRI conformance suite against a huskd of its own (FOCUS=regex)
	hack/critest $(if $(FOCUS),"$(FOCUS)")

bench: build ## compare with containerd in one run and print the ratios
	hack/bench

deny: ## licences, sources and wrapped dependencies by cargo-deny (ADVISORIES=1 asks RustSec too)
	hack/deny $(if $(ADVISORIES),--advisories)

features: ## every crate with each of its features alone
	hack/test features

fuzz: ## the parsers under a coverage-guided fuzzer (TARGET=name, SECONDS=60 for each)
	hack/fuzz $(TARGET) $(if $(SECONDS),--seconds $(SECONDS))

kill-test: build ## kill huskd, monitors and plugins 1000 times and look for what was lost (root; minutes)
	hack/kill-test

load: build ## 300 pods with 600 containers while huskd is killed: times, failures, memory (root; minutes)
	hack/load

test-cluster: build ## a cluster of three nodes by kubeadm, and what its users see of husk (root; minutes; CHECKS="job drain")
	hack/cluster test $(CHECKS)

test-kind: build ## a cluster by the real kind on a dockerd of its own, and what kind and minikube ask of a node (root; minutes; CHECKS="load logs")
	hack/kind test $(CHECKS)

test-oci: build ## runc's own tests on husk-oci, with crun as control (root; half an hour; FILES="run.bats exec.bats")
	hack/oci-bats $(FILES)
	hack/oci-bats --cgroups v1 --runtime crun $(FILES)

node-e2e: build ## Kubernetes' own tests of a node on a real kubelet, API server and etcd (root; half an hour; FOCUS=regex)
	hack/node-e2e $(if $(FOCUS),"$(FOCUS)")

conformance: build ## Kubernetes' conformance suite on a cluster of three nodes (root; hours on two cores; FOCUS=regex RUNTIME=containerd)
	hack/conformance $(if $(FOCUS),--focus "$(FOCUS)") $(if $(RUNTIME),--runtime $(RUNTIME))

test-docker: build ## what tutorials of Docker teach, by the real docker and docker compose on a huskd of its own (root; minutes; STEPS="compose ports" CLIENT=old)
	hack/docker-tour --husk $(if $(CLIENT),--client $(CLIENT)) $(STEPS)

install: build ## install binaries, the systemd unit and the default configuration under $(DESTDIR)
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin target/dist/huskd target/dist/husk target/dist/husk-oci
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/libexec/husk target/dist/husk-podmon target/dist/husk-pause
	install -d -m 0755 $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSCONFDIR)/husk
	sed 's|@PREFIX@|$(PREFIX)|g' manifests/husk.service >$(DESTDIR)$(UNITDIR)/husk.service
	test -e $(DESTDIR)$(SYSCONFDIR)/husk/husk.toml || target/dist/huskd config default >$(DESTDIR)$(SYSCONFDIR)/husk/husk.toml

uninstall: ## remove what install put in place but the configuration; for what huskd made, `huskd uninstall` goes first
	rm -f $(DESTDIR)$(PREFIX)/bin/huskd $(DESTDIR)$(PREFIX)/bin/husk $(DESTDIR)$(PREFIX)/bin/husk-oci $(DESTDIR)$(UNITDIR)/husk.service
	rm -rf $(DESTDIR)$(PREFIX)/libexec/husk

clean: ## remove what the build made
	rm -rf target
