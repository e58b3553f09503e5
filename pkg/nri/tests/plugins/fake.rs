//! A plugin made by hand, byte by byte, so that it can do what no library would.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use husk_model::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, Digest, ImageId, PodSandboxId, Resources,
    Signal,
};
use husk_nri::{ContainerFacts, Everything, Eviction, Nri, NriConfig, PodFacts, Runtime, Update};
use husk_proto::{nri, ttrpc};
use husk_test_support::eventually_with;
use oci_spec::runtime::{ProcessBuilder, SpecBuilder};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};

/// The limit of these tests for an answer.
pub const LIMIT: Duration = Duration::from_millis(300);

/// Patience of these tests with what comes by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the engine is asked for.
#[derive(Default)]
pub struct Engine {
    pub pods: Mutex<Vec<PodFacts>>,
    pub containers: Mutex<Vec<ContainerFacts>>,
    pub updates: Mutex<Vec<Update>>,
    pub evictions: Mutex<Vec<Eviction>>,
}

#[async_trait]
impl Runtime for Engine {
    async fn everything(&self) -> Everything {
        Everything {
            pods: self.pods.lock().unwrap().clone(),
            containers: self.containers.lock().unwrap().clone(),
        }
    }

    async fn update(&self, update: &Update) -> Result<(), String> {
        if update.container == "missing" {
            return Err("no container".to_owned());
        }
        self.updates.lock().unwrap().push(update.clone());
        Ok(())
    }

    async fn evict(&self, eviction: Eviction) -> Result<(), String> {
        self.evictions.lock().unwrap().push(eviction);
        Ok(())
    }
}

/// A runtime that listens.
pub struct World {
    pub nri: Arc<Nri>,
    pub engine: Arc<Engine>,
    pub socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("nri.sock");
        let nri = Nri::new(NriConfig {
            runtime_name: "test".to_owned(),
            runtime_version: "1".to_owned(),
            plugin_dir: dir.path().join("plugins"),
            plugin_config_dir: dir.path().join("conf.d"),
            registration_timeout: 2 * LIMIT,
            request_timeout: LIMIT,
        });
        let engine = Arc::new(Engine::default());
        nri.start(engine.clone(), UnixListener::bind(&socket).unwrap()).await.unwrap();
        Self { nri, engine, socket, _dir: dir }
    }

    /// Waits until somebody is there, or nobody.
    pub async fn until(&self, active: bool) {
        let reached = || (self.nri.active() == active).then_some(());
        eventually_with(tokio::time::sleep, "plugins come and go", PATIENCE, reached).await;
        // Whoever is getting in has the turn for itself.
        drop(self.nri.enter().await);
    }

    /// Takes in a plugin that answers as `answers` says.
    pub async fn plugin(&self, index: &str, name: &str, answers: Answers) -> Plugin {
        let plugin = Plugin::connect(self, index, name, answers).await;
        self.until(true).await;
        plugin.heard("Synchronize").await;
        drop(self.nri.enter().await);
        plugin
    }
}

/// What a plugin does when it is called.
pub enum Does {
    Answers(Vec<u8>),
    Fails(i32, &'static str),
    Nothing,
    /// Answers when it is told to.
    Waits(tokio::sync::oneshot::Receiver<()>),
    Writes(Vec<u8>),
    Closes,
}

/// An empty answer.
pub fn fine() -> Does {
    Does::Answers(Vec::new())
}

/// An answer.
pub fn answer(message: impl Message) -> Does {
    Does::Answers(message.encode_to_vec())
}

pub type Answers = Box<dyn Fn(&str, &[u8]) -> Does + Send + Sync>;

/// A plugin's answers, `more` of Synchronize echoed.
pub fn well_behaved() -> Answers {
    Box::new(|method, payload| match method {
        "Synchronize" => {
            let request = nri::SynchronizeRequest::decode(payload).unwrap();
            answer(nri::SynchronizeResponse { more: request.more, update: Vec::new() })
        }
        _ => fine(),
    })
}

/// Answers that differ for one method.
pub fn except(method: &'static str, does: impl Fn(&[u8]) -> Does + Send + Sync + 'static) -> Answers {
    let others = well_behaved();
    Box::new(move |called, payload| if called == method { does(payload) } else { others(called, payload) })
}

/// Methods and arguments, in their order.
type Calls = Vec<(String, Vec<u8>)>;

/// A connected plugin. What the channels hold stays when it ends.
pub struct Plugin {
    heard: watch::Receiver<Calls>,
    writer: Arc<tokio::sync::Mutex<tokio::net::unix::OwnedWriteHalf>>,
    answers: watch::Receiver<Vec<ttrpc::Response>>,
    reading: JoinHandle<()>,
}

impl Plugin {
    pub async fn connect(world: &World, index: &str, name: &str, answers: Answers) -> Self {
        let plugin = Self::silent(world, answers).await;
        let request = nri::RegisterPluginRequest {
            plugin_name: name.to_owned(),
            plugin_idx: index.to_owned(),
            ..Default::default()
        };
        plugin.call(1, "RegisterPlugin", &request).await;
        plugin
    }

    /// Connected, but it does not register.
    pub async fn silent(world: &World, answers: Answers) -> Self {
        let socket = UnixStream::connect(&world.socket).await.unwrap();
        let (mut reader, writer) = socket.into_split();
        let (hears, heard) = watch::channel(Calls::new());
        let (gets, got) = watch::channel(Vec::new());
        let ours = Arc::new(tokio::sync::Mutex::new(writer));
        let writer = Arc::clone(&ours);
        let reading = tokio::spawn(async move {
            let mut connections = [Vec::new(), Vec::new()];
            loop {
                let Ok(connection) = reader.read_u32().await else { return };
                let length = reader.read_u32().await.unwrap();
                let buffer = &mut connections[connection as usize - 1];
                (&mut reader).take(length.into()).read_to_end(buffer).await.unwrap();
                if buffer.len() < 10 {
                    continue;
                }
                let content = u32::from_be_bytes(buffer[..4].try_into().unwrap()) as usize;
                if buffer.len() < 10 + content {
                    continue;
                }
                let stream = u32::from_be_bytes(buffer[4..8].try_into().unwrap());
                let message: Vec<u8> = buffer.drain(..10 + content).skip(10).collect();
                if connection == 2 {
                    let answer = ttrpc::Response::decode(message.as_slice()).unwrap();
                    gets.send_modify(|answers| answers.push(answer));
                    continue;
                }
                let request = ttrpc::Request::decode(message.as_slice()).unwrap();
                hears.send_modify(|calls| calls.push((request.method.clone(), request.payload.clone())));
                let response = match answers(&request.method, &request.payload) {
                    Does::Answers(payload) => ttrpc::Response { status: None, payload },
                    Does::Fails(code, message) => ttrpc::Response {
                        status: Some(ttrpc::Status { code, message: message.to_owned() }),
                        payload: Vec::new(),
                    },
                    Does::Waits(wait) => {
                        wait.await.unwrap();
                        ttrpc::Response::default()
                    }
                    Does::Nothing => continue,
                    Does::Writes(bytes) => {
                        let _ = writer.lock().await.write_all(&bytes).await;
                        continue;
                    }
                    Does::Closes => return writer.lock().await.shutdown().await.unwrap(),
                };
                let bytes = frame(1, stream, 2, &response.encode_to_vec());
                if writer.lock().await.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        Self { heard, writer: ours, answers: got, reading }
    }

    /// Calls the runtime.
    pub async fn call(&self, stream: u32, method: &str, request: &impl Message) {
        let request = ttrpc::Request {
            service: "nri.pkg.api.v1alpha1.Runtime".to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: 0,
        };
        self.write(&frame(2, stream, 1, &request.encode_to_vec())).await;
    }

    pub async fn write(&self, bytes: &[u8]) {
        // A runtime that has closed the connection is what some tests want.
        let _ = self.writer.lock().await.write_all(bytes).await;
    }

    /// Waits for a call; returns its content.
    pub async fn heard(&self, method: &str) -> Vec<u8> {
        let find = |calls: &Calls| calls.iter().find(|(heard, _)| heard == method).cloned();
        let mut heard = self.heard.clone();
        let found = heard.wait_for(|calls| find(calls).is_some());
        let calls = tokio::time::timeout(PATIENCE, found).await.expect(method).expect(method);
        find(&calls).unwrap().1
    }

    /// All calls so far.
    pub fn all_heard(&self) -> Calls {
        self.heard.borrow().clone()
    }

    /// How often it was called.
    pub fn calls(&self, method: &str) -> usize {
        self.heard.borrow().iter().filter(|(heard, _)| heard == method).count()
    }

    /// Waits for the runtime's answers.
    pub async fn answers(&self, count: usize) -> Vec<ttrpc::Response> {
        let mut answers = self.answers.clone();
        let all = answers.wait_for(|answers| answers.len() >= count);
        let all = tokio::time::timeout(PATIENCE, all).await.expect("answers of the runtime");
        all.expect("the runtime ended the connection").clone()
    }

    /// Waits until the runtime has ended the connection.
    pub async fn is_let_go(&mut self) {
        let ended = tokio::time::timeout(PATIENCE, &mut self.reading).await;
        ended.expect("the runtime ends the connection").unwrap();
    }
}

/// A message in one frame.
pub fn frame(connection: u32, stream: u32, kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    let mut bytes = Vec::new();
    bytes.extend(connection.to_be_bytes());
    bytes.extend((length + 10).to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(content);
    bytes
}

/// A pod.
pub fn pod() -> PodFacts {
    let status = husk_test_support::pod_status(PodSandboxId::generate(), "web");
    PodFacts { status: Arc::new(status), cgroup_path: "/kubepods/pod1".to_owned(), netns: None }
}

/// A container of a pod, with `filler` bytes of annotations.
pub fn container(pod: &PodFacts, filler: usize) -> ContainerFacts {
    let config = ContainerConfig {
        command: vec!["sh".to_owned()],
        labels: [("filler".to_owned(), "x".repeat(filler))].into(),
        ..husk_test_support::container("main", "busybox")
    };
    let status = ContainerStatus {
        id: ContainerId::generate(),
        pod_id: pod.status.id.clone(),
        config: Arc::new(config),
        image_id: ImageId::new(Digest::from_sha256(&[0; 32])),
        image_ref: "busybox".to_owned(),
        image_name: "busybox".to_owned(),
        state: ContainerState::Created,
        created_at: 1,
        log_path: String::new(),
        user: None,
        resources: Resources::default(),
        stop_signal: Signal::TERM,
        process: None,
        cgroup_path: String::new(),
        image_volumes: Default::default(),
    };
    let process = ProcessBuilder::default().args(vec!["sh".to_owned()]).env(Vec::new()).build().unwrap();
    let spec = SpecBuilder::default().process(process).build().unwrap();
    ContainerFacts { status: Arc::new(status), spec: Some(Arc::new(spec)) }
}
