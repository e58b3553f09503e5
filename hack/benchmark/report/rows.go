package report

// Row is a line of the table.
type Row struct {
	// Key is the row's name in the JSON.
	Key string
	// Label is its name in the table.
	Label string
	// Unit of the samples: ms, s, /s, MiB, or x for a growth.
	Unit string
	// Higher is set where more is better.
	Higher bool
	// Scaled is set where the number of pods is what the scaling part reached.
	Scaled bool
	// Least is the ratio to the baseline that `--check` insists on; 0 if none.
	Least float64
	// Most is the absolute value that `--check` insists on; 0 if none.
	Most float64
	// Goal is what the project is after.
	Goal Goal
}

// Goal is a ratio to the baseline at p50 and p99, or an absolute value, in the row's unit, that p50 may have; 0 is none.
type Goal struct {
	Ratio, Ratio99, Most float64
}

// The keys of the rows, by the part of the run that measures them.
const (
	RunPodSandbox    = "RunPodSandbox"
	CreateContainer  = "CreateContainer"
	StartContainer   = "StartContainer"
	PodStart         = "pod start"
	StopContainer    = "StopContainer"
	StopPodSandbox   = "StopPodSandbox"
	RemovePodSandbox = "RemovePodSandbox"
	Teardown         = "teardown"
	ContainerStart   = "container start"
	ContainerEnd     = "container end"
	PodsPerSecond    = "pods per second"

	ExecSync = "ExecSync"

	DaemonFresh    = "daemon PSS, fresh"
	DaemonStanding = "daemon PSS, 20 pods"
	PodOverhead    = "PSS per pod"

	PullGzip    = "PullImage, 8 gzip"
	PullZstd    = "PullImage, 8 zstd"
	PullBig     = "PullImage, 1 GiB"
	PullSmall   = "PullImage, 60 small"
	DaemonPulls = "daemon PSS, after pulls"

	ListFew   = "ListContainers, 20"
	ListMany  = "ListContainers, many"
	ListStats = "ListContainerStats, 20"

	FirstPod      = "first pod"
	LastPod       = "last pod"
	Growth        = "pod start, growth"
	DaemonStart   = "daemon start"
	DaemonScaled  = "daemon PSS, scaled"
	PodStats      = "ListPodSandboxStats"
	PodMetrics    = "ListPodSandboxMetrics"
	RestCPU       = "CPU at rest"
	ProbesCPU     = "CPU with probes"
	CPUPerProbe   = "CPU per probe"
	ProbesReached = "probes per second"

	DockerRun    = "docker run"
	DockerCreate = "docker create"
	DockerStart  = "docker start"
	DockerEnd    = "docker wait"
	DockerRemove = "docker rm"
)

// The names of the series: values by how many pods are running.
const (
	// SeriesStart is the time of a pod's start, in ms.
	SeriesStart = "pod start"
	// SeriesDaemon is the PSS of the daemon in MiB.
	SeriesDaemon = "daemon PSS"
	// SeriesPods is the PSS in MiB of what the pods need besides their containers.
	SeriesPods = "pods PSS"
)

// Rows are all lines of the table, in its order.
var Rows = []Row{
	{Key: RunPodSandbox, Label: "RunPodSandbox", Unit: "ms"},
	{Key: CreateContainer, Label: "CreateContainer", Unit: "ms"},
	{Key: StartContainer, Label: "StartContainer", Unit: "ms"},
	{Key: PodStart, Label: "**pod start** (the three above)", Unit: "ms", Least: 15, Goal: Goal{Ratio: 40, Ratio99: 30}},
	{Key: ExecSync, Label: "**ExecSync** `true`", Unit: "ms", Least: 20, Goal: Goal{Ratio: 60}},
	{Key: StopContainer, Label: "StopContainer", Unit: "ms"},
	{Key: StopPodSandbox, Label: "StopPodSandbox", Unit: "ms"},
	{Key: RemovePodSandbox, Label: "RemovePodSandbox", Unit: "ms"},
	{Key: Teardown, Label: "**teardown** (the three above)", Unit: "ms", Least: 8, Goal: Goal{Ratio: 60, Ratio99: 30}},
	{Key: ContainerStart, Label: "container in a running pod: create + start", Unit: "ms", Goal: Goal{Ratio: 40}},
	{Key: ContainerEnd, Label: "container in a running pod: stop + remove", Unit: "ms"},
	{Key: PodsPerSecond, Label: "pods started per second, 8 at once", Unit: "/s", Higher: true, Goal: Goal{Ratio: 40}},
	{Key: PodOverhead, Label: "PSS per pod without its container", Unit: "MiB", Most: 0.4, Goal: Goal{Ratio: 30, Most: 0.18}},
	{Key: DaemonFresh, Label: "PSS of the daemon, fresh", Unit: "MiB", Goal: Goal{Most: 10}},
	{Key: DaemonStanding, Label: "PSS of the daemon, 20 pods", Unit: "MiB", Most: 20, Goal: Goal{Most: 12}},
	{Key: DaemonPulls, Label: "PSS of the daemon, after the pulls", Unit: "MiB", Goal: Goal{Most: 12}},
	{Key: PullGzip, Label: "**PullImage**, 8 layers gzip, 214 MiB", Unit: "ms", Least: 2, Goal: Goal{Ratio: 5}},
	{Key: PullZstd, Label: "PullImage, the same as zstd", Unit: "ms", Goal: Goal{Ratio: 3}},
	{Key: PullBig, Label: "PullImage, one layer of 1 GiB", Unit: "ms", Goal: Goal{Ratio: 3}},
	{Key: PullSmall, Label: "PullImage, 60 small layers", Unit: "ms", Goal: Goal{Ratio: 3}},
	{Key: ListFew, Label: "ListContainers of 20", Unit: "ms", Goal: Goal{Ratio: 10}},
	{Key: ListMany, Label: "ListContainers of 1,000", Unit: "ms", Goal: Goal{Ratio: 10}},
	{Key: ListStats, Label: "ListContainerStats of 20", Unit: "ms", Goal: Goal{Ratio: 60}},
	{Key: FirstPod, Label: "pod start, the first of N", Unit: "ms", Scaled: true},
	{Key: LastPod, Label: "pod start with N running", Unit: "ms", Scaled: true},
	{Key: Growth, Label: "the last against the first", Unit: "x", Scaled: true, Goal: Goal{Most: 1.3}},
	{Key: DaemonStart, Label: "start of the daemon with N pods until ListPodSandbox answers", Unit: "ms", Scaled: true, Goal: Goal{Most: 150}},
	{Key: DaemonScaled, Label: "PSS of the daemon, N pods", Unit: "MiB", Scaled: true, Goal: Goal{Most: 25}},
	{Key: PodStats, Label: "ListPodSandboxStats of N", Unit: "ms", Scaled: true, Goal: Goal{Most: 15}},
	{Key: PodMetrics, Label: "ListPodSandboxMetrics of N", Unit: "ms", Scaled: true, Goal: Goal{Most: 40}},
	{Key: RestCPU, Label: "CPU of the node at rest, seconds a minute", Unit: "s"},
	{Key: ProbesCPU, Label: "CPU with an exec probe a second in each pod, seconds a minute", Unit: "s", Goal: Goal{Ratio: 10}},
	{Key: CPUPerProbe, Label: "CPU of one probe", Unit: "ms"},
	{Key: ProbesReached, Label: "probes answered a second", Unit: "/s", Higher: true},
	{Key: DockerCreate, Label: "Docker's API: create", Unit: "ms"},
	{Key: DockerStart, Label: "Docker's API: start", Unit: "ms"},
	{Key: DockerEnd, Label: "Docker's API: from start to the end of `true`", Unit: "ms"},
	{Key: DockerRemove, Label: "Docker's API: remove", Unit: "ms"},
	{Key: DockerRun, Label: "**docker run** `busybox true` (create, attach, start, wait, remove)", Unit: "ms", Least: 10, Goal: Goal{Ratio: 10}},
}
