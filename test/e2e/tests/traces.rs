//! Traces: a collector of the test's own gets the spans of calls, below those of who made them.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use husk_e2e::{
    BUSYBOX, Daemon, FakeRegistry, Gates, Kubelet, NODE, Options, Subject, busybox_archive, container,
    eventually_every, metrics, pod, v1,
};
use husk_proto::otlp::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, Span,
    any_value::Value,
    status,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::runtime::Runtime;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// A span, and the service that made it.
type Came = (String, Span);

#[derive(Clone, Default)]
struct Receiver {
    spans: Arc<Mutex<Vec<Came>>>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let service = attributes.iter().find(|pair| pair.key == "service.name").and_then(|pair| {
                let Some(Value::StringValue(name)) = pair.value.clone()?.value else { return None };
                Some(name)
            });
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let spans = spans.map(|span| (service.clone().unwrap_or_default(), span));
            self.spans.lock().unwrap().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector for as long as it lives.
struct Collector {
    receiver: Receiver,
    address: SocketAddr,
    _threads: Runtime,
}

impl Collector {
    fn start() -> Self {
        let threads = Runtime::new().unwrap();
        let receiver = Receiver::default();
        let incoming = {
            let _inside = threads.enter();
            TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let address = incoming.local_addr().unwrap();
        let service = TraceServiceServer::new(receiver.clone());
        threads.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { receiver, address, _threads: threads }
    }

    fn came(&self) -> Vec<Came> {
        self.receiver.spans.lock().unwrap().clone()
    }

    /// The spans of the trace with this id, once there is one of the name `last`.
    fn trace(&self, id: &str, last: &str) -> Vec<Span> {
        eventually_every(Duration::from_millis(50), last, Duration::from_secs(30), || {
            let spans = self.came().into_iter().map(|(_, span)| span);
            let spans: Vec<_> = spans.filter(|span| hex(&span.trace_id) == id).collect();
            spans.iter().any(|span| span.name == last).then_some(spans)
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traced(collector: SocketAddr) -> Daemon {
    let config = format!("[tracing]\nendpoint = \"{collector}\"\n");
    Daemon::with(Options { config, ..Options::default() })
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A request made in the span [`PARENT`].
fn in_trace<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse().unwrap());
    request
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| {
        let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
        panic!("no {name} in {names:?}")
    })
}

fn attribute(span: &Span, key: &str) -> String {
    let pair = span.attributes.iter().find(|pair| pair.key == key);
    match pair.and_then(|pair| pair.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key} of {} is {other:?}", span.name),
    }
}

#[test]
fn calls_are_below_the_callers_span_and_their_steps_below_them_without_a_secret() {
    const RUN: &str = "runtime.v1.RuntimeService/RunPodSandbox";
    const CREATE: &str = "runtime.v1.RuntimeService/CreateContainer";
    const START: &str = "runtime.v1.RuntimeService/StartContainer";
    let collector = Collector::start();
    let husk = traced(collector.address);
    let cri = husk.cri();
    let config = pod("traced", &husk.path("logs"));
    let request = in_trace(v1::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() });
    let pod_id = cri.block_on(cri.runtime().run_pod_sandbox(request)).unwrap().into_inner().pod_sandbox_id;
    let mut secretive = container("main");
    secretive.envs = vec![v1::KeyValue { key: "PASSWORD".into(), value: "s3cret-env".into() }];
    secretive.args = vec!["s3cret-arg".into()];
    let request = in_trace(v1::CreateContainerRequest {
        pod_sandbox_id: pod_id.clone(),
        config: Some(secretive),
        sandbox_config: Some(config),
    });
    let id = cri.block_on(cri.runtime().create_container(request)).unwrap().into_inner().container_id;
    let request = in_trace(v1::StartContainerRequest { container_id: id.clone() });
    cri.block_on(cri.runtime().start_container(request)).unwrap();

    let spans = collector.trace(TRACE, START);
    for (call, steps) in [
        (RUN, &["network namespace", "network", "monitor", "pause", "release pause"][..]),
        (CREATE, &["mount sources and devices", "init"]),
        (START, &["exec"]),
    ] {
        let call = named(&spans, call);
        assert_eq!(hex(&call.parent_span_id), PARENT);
        assert_eq!(attribute(call, "rpc.system"), "grpc");
        assert_eq!(attribute(call, "rpc.service"), "runtime.v1.RuntimeService");
        assert_eq!(attribute(call, "rpc.grpc.status_code"), "0");
        assert_eq!(attribute(call, "husk.pod.id"), pod_id);
        assert_eq!(attribute(call, "k8s.pod.name"), "traced");
        assert_eq!(attribute(call, "k8s.namespace.name"), "e2e");
        assert_eq!(attribute(call, "k8s.pod.uid"), "traced-uid");
        for step in steps {
            let step = named(&spans, step);
            assert_eq!(step.parent_span_id, call.span_id, "{}", step.name);
            assert!(step.start_time_unix_nano >= call.start_time_unix_nano, "{}", step.name);
            assert!(step.end_time_unix_nano <= call.end_time_unix_nano, "{}", step.name);
            assert_eq!(step.status, None, "{}", step.name);
        }
    }
    for (above, steps) in [
        ("pause", &["clone pause"][..]),
        ("release pause", &["execute"]),
        ("init", &["make cgroup", "clone init", "set up init"]),
        ("exec", &["open log", "execute"]),
    ] {
        let above = named(&spans, above);
        let beneath: Vec<_> = spans.iter().filter(|span| span.parent_span_id == above.span_id).collect();
        for step in steps {
            let step = beneath
                .iter()
                .find(|span| span.name == *step)
                .unwrap_or_else(|| panic!("no {step} in {beneath:?}"));
            assert!(step.start_time_unix_nano >= above.start_time_unix_nano, "{}", step.name);
            assert!(step.end_time_unix_nano <= above.end_time_unix_nano, "{}", step.name);
        }
    }
    for call in [CREATE, START] {
        let call = named(&spans, call);
        assert_eq!(attribute(call, "container.id"), id);
        assert_eq!(attribute(call, "k8s.container.name"), "main");
    }
    let said = format!("{:?}", collector.came());
    assert!(!said.contains("s3cret") && !said.contains("PASSWORD"), "{said}");
    // The daemon's own calls for the test (Import, Version) came without a trace, and none is sampled.
    assert!(spans.len() == collector.came().len(), "{said}");
}

#[test]
fn a_pull_has_its_layers_and_a_call_that_fails_says_so() {
    const PULL: &str = "runtime.v1.ImageService/PullImage";
    let collector = Collector::start();
    let config = format!("[tracing]\nendpoint = \"{}\"\n", collector.address);
    let husk = Daemon::with(Options { config, without_image: true, ..Options::default() });
    let registry = FakeRegistry::serve("some/image", "1", &busybox_archive(), |_| {});
    let image = format!("{}/some/image:1", registry.host());
    let pull = |image: &str| {
        let image = Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() });
        let auth = Some(v1::AuthConfig { password: "s3cret-auth".to_owned(), ..Default::default() });
        let request = in_trace(v1::PullImageRequest { image, auth, ..Default::default() });
        let cri = husk.cri();
        cri.block_on(cri.images().pull_image(request))
    };
    pull(&image).unwrap();
    let spans = collector.trace(TRACE, PULL);
    let call = named(&spans, PULL);
    assert_eq!(attribute(call, "container.image.name"), image);
    for step in ["resolve", "layer", "record"] {
        assert_eq!(named(&spans, step).parent_span_id, call.span_id, "{step}");
    }
    assert!(attribute(named(&spans, "layer"), "digest").starts_with("sha256:"));

    let refused = pull(&format!("{}/no/such:1", registry.host())).unwrap_err();
    let call = eventually_every(Duration::from_millis(50), "the failure", Duration::from_secs(30), || {
        let spans = collector.came().into_iter().map(|(_, span)| span);
        spans.into_iter().find(|span| span.name == PULL && attribute(span, "rpc.grpc.status_code") != "0")
    });
    assert_eq!(attribute(&call, "rpc.grpc.status_code"), i32::from(refused.code()).to_string());
    assert!(!format!("{:?}", collector.came()).contains("s3cret"));
}

#[test]
fn the_kubelets_trace_goes_on_in_husk() {
    const RUN: &str = "runtime.v1.RuntimeService/RunPodSandbox";
    let collector = Collector::start();
    let husk = Subject::Husk(traced(collector.address));
    let tracing = serde_json::json!({
        "tracing": { "endpoint": collector.address.to_string(), "samplingRatePerMillion": 1_000_000 },
    });
    let kubelet = Kubelet::with(&husk, Gates::Off, &tracing);
    kubelet.apply(&serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "traced", "namespace": "default" },
        "spec": { "terminationGracePeriodSeconds": 1, "enableServiceLinks": false, "containers": [{
            "name": "main",
            "image": BUSYBOX,
            "imagePullPolicy": "Never",
            "command": ["sleep", "1000000"],
        }] },
    }));
    let (call, above) = eventually_every(
        Duration::from_millis(200),
        "the kubelet's span of husk's",
        Duration::from_secs(120),
        || {
            let came = collector.came();
            let (_, call) = came.iter().find(|(service, span)| service == "huskd" && span.name == RUN)?;
            let (_, above) = came.iter().find(|(service, span)| {
                service != "huskd" && span.span_id == call.parent_span_id && span.trace_id == call.trace_id
            })?;
            Some((call.clone(), above.clone()))
        },
    );
    assert_eq!(attribute(&call, "k8s.pod.name"), format!("traced-{}", NODE));
    assert!(above.start_time_unix_nano <= call.start_time_unix_nano, "{above:?}");
    kubelet.drain(&husk);
}

#[test]
fn without_a_collector_calls_are_as_fast_and_the_end_is_not_held_up() {
    // Listens and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "[metrics]\naddress = \"127.0.0.1:{port}\"\n[tracing]\nendpoint = \"{}\"\nsampling_rate_per_million = 1000000\n",
        mute.local_addr().unwrap()
    );
    let mut husk = Daemon::with(Options { config, ..Options::default() });
    let began = Instant::now();
    for _ in 0..3_000 {
        husk.cri().version(v1::VersionRequest::default()).unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let text = metrics(port);
    let lost = "husk_trace_spans_dropped_total{reason=\"queue_full\"} ";
    assert!(text.contains(lost) && !text.contains(&format!("{lost}0\n")), "{text}");
    assert!(text.contains("husk_trace_spans_exported_total 0"), "{text}");
    let began = Instant::now();
    husk.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    husk.spawn();
}

#[test]
fn a_start_with_authorities_that_are_not_there_is_refused() {
    let mut husk = Daemon::start();
    husk.stop();
    let file = husk.path("husk.toml");
    let sane = std::fs::read_to_string(&file).unwrap();
    let traced =
        format!("{sane}\n[tracing]\nendpoint = \"https://localhost:4317\"\ntls_ca = \"/no/such/ca.pem\"\n");
    std::fs::write(&file, traced).unwrap();
    assert!(husk.refused_start().contains("tracing.tls_ca: cannot read /no/such/ca.pem"));
    std::fs::write(&file, sane).unwrap();
    husk.spawn();
}

#[test]
fn a_failed_step_is_marked() {
    const CREATE: &str = "runtime.v1.RuntimeService/CreateContainer";
    let collector = Collector::start();
    let husk = traced(collector.address);
    let cri = husk.cri();
    let config = pod("failing", &husk.path("logs"));
    let pod_id = cri.run_pod(&config).unwrap();
    let mut broken = container("broken");
    broken.working_dir = "/dev/null/nowhere".to_owned();
    let request = in_trace(v1::CreateContainerRequest {
        pod_sandbox_id: pod_id,
        config: Some(broken),
        sandbox_config: Some(config),
    });
    cri.block_on(cri.runtime().create_container(request)).unwrap_err();
    let spans = collector.trace(TRACE, CREATE);
    assert_eq!(named(&spans, "init").status.unwrap().code(), status::Code::Error);
}
