//! A worker that leads pods through their lives and believes only what it was told.

use std::{fs, path::PathBuf, sync::atomic::Ordering, time::Duration};

use husk_e2e::{eventually_every, pod, v1, with_command};
use tonic::{Code, Status};

use crate::{
    client::{Client, Shared},
    random::Random,
};

/// Lines of a talking container.
const LINES: usize = 300;

/// What a step came to: done, or the pod was hurt and the rest of its life is its end.
type Step<T> = Result<T, Hurt>;

#[derive(Debug)]
struct Hurt;

/// A pod and its two containers.
struct Life<'a> {
    client: &'a Client<'a>,
    pod: String,
    config: v1::PodSandboxConfig,
    logs: PathBuf,
    rotations: usize,
    /// Exit code of the talking container.
    code: i32,
}

/// Works until the lottery is over.
pub fn work(shared: &Shared, worker: u64, seed: u64) {
    let client = Client::new(shared);
    let mut random = Random::new(seed, worker);
    let mut number = 0;
    while !shared.over.load(Ordering::SeqCst) {
        number += 1;
        let port = (random.below(3) == 0).then_some(20_000 + worker as i32);
        lead_one(&client, &format!("life-{worker}-{number}"), port, &mut random);
    }
}

/// Leads one pod through its life. Returns whether nobody hurt it.
pub fn lead_one(client: &Client<'_>, name: &str, host_port: Option<i32>, random: &mut Random) -> bool {
    let logs = client.shared.dir.join("logs").join(name);
    let mut config = pod(name, &logs);
    if let Some(host_port) = host_port {
        config.port_mappings.push(v1::PortMapping { container_port: 80, host_port, ..Default::default() });
    }
    let Some(pod) = begin(client, &config) else { return false };
    let code = 1 + random.below(100) as i32;
    let mut life = Life { client, pod, config, logs, rotations: 0, code };
    client.shared.count("lives", 1);
    life.lead(random)
}

/// Runs the pod. `None` when a part of it was killed before anybody knew its id; what there is of it is removed then.
fn begin(client: &Client<'_>, config: &v1::PodSandboxConfig) -> Option<String> {
    let hits = client.shared.hits();
    match client.call(|cri| cri.run_pod(config)) {
        Ok(id) => Some(id),
        Err(status) => {
            assert!(client.shared.was_hit_since(hits), "run a pod that nobody hurt: {status}");
            let name = &config.metadata.as_ref().expect("metadata").name;
            let request = v1::ListPodSandboxRequest::default();
            let listed = client.call(|cri| cri.list_pod_sandbox(request.clone())).expect("list pods").items;
            for item in listed.iter().filter(|item| item.metadata.as_ref().is_some_and(|m| m.name == *name)) {
                let request = v1::RemovePodSandboxRequest { pod_sandbox_id: item.id.clone() };
                client.call(|cri| cri.remove_pod_sandbox(request.clone())).expect("remove a hurt pod");
            }
            client.shared.count("pods killed while they were made", 1);
            None
        }
    }
}

impl Life<'_> {
    fn lead(&mut self, random: &mut Random) -> bool {
        let (mut talker, mut waiter) = (None, None);
        let whole = self.act(random, &mut talker, &mut waiter);
        if whole.is_err() {
            self.client.shared.count("hurt pods", 1);
            self.expect_end(talker.as_deref(), waiter.as_deref());
        }
        self.end();
        whole.is_ok()
    }

    /// The life of a pod that nobody hurts.
    fn act(
        &mut self,
        random: &mut Random,
        talker: &mut Option<String>,
        waiter: &mut Option<String>,
    ) -> Step<()> {
        let script = format!(
            "i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo $i; [ $((i%20)) = 0 ] && sleep 0.01; done; exit {}",
            self.code
        );
        *talker = Some(self.create(&with_command("talker", &script))?);
        let script = "trap 'exit 7' TERM; while :; do sleep 0.05; done";
        *waiter = Some(self.create(&with_command("waiter", script))?);
        let (talker, waiter) = (talker.as_deref().unwrap_or_default(), waiter.as_deref().unwrap_or_default());
        self.start(talker)?;
        self.start(waiter)?;
        for round in 0..3 {
            self.exec(waiter, &format!("{}-{round}", self.pod))?;
            if random.below(2) == 0 {
                self.rotate(talker)?;
            }
        }
        self.stop_container(waiter, 7)?;
        let exit = self.wait_exit(talker)?;
        if exit.exit_code != self.code {
            self.must_be_hurt(&format!("exit code {} instead of {}: {exit:?}", exit.exit_code, self.code))?;
        }
        assert_eq!(self.lines(false), LINES, "lines of the log of {talker}");
        self.client.shared.count("log lines checked", LINES as u64);
        if random.below(2) == 0 {
            self.remove_container(talker)?;
        }
        Ok(())
    }

    /// Takes an answer; an error is only allowed of a pod that was hurt.
    fn take<T>(&self, what: &str, answer: Result<T, Status>) -> Step<T> {
        answer.or_else(|status| {
            self.must_be_hurt(&format!("{what}: {status}"))?;
            Err(Hurt)
        })
    }

    fn must_be_hurt(&self, what: &str) -> Step<()> {
        assert!(self.client.shared.is_hurt(&self.pod), "pod {} that nobody hurt: {what}", self.pod);
        Err(Hurt)
    }

    fn create(&self, config: &v1::ContainerConfig) -> Step<String> {
        let answer = self.client.call(|cri| cri.create(&self.pod, &self.config, config));
        self.take("create", answer)
    }

    fn start(&self, id: &str) -> Step<()> {
        let mut again = false;
        let answer = self.client.call(|cri| {
            // The attempt before may have succeeded unheard: starting is no call that can be repeated.
            if again && self.started(cri, id)? {
                return Ok(());
            }
            again = true;
            cri.start(id)
        });
        self.take("start", answer)
    }

    fn started(&self, cri: &husk_e2e::Cri, id: &str) -> Result<bool, Status> {
        Ok(cri.container(id)?.state() != v1::ContainerState::ContainerCreated)
    }

    fn exec(&self, id: &str, word: &str) -> Step<()> {
        let answer = self.client.call(|cri| cri.exec(id, &["echo", word]));
        let (code, stdout, _) = self.take("exec", answer)?;
        if code == 137 && self.client.shared.is_hurt(&self.pod) {
            return Err(Hurt);
        }
        assert_eq!((code, stdout.trim_end()), (0, word), "output of an exec");
        self.client.shared.count("execs", 1);
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.logs.join("talker.log")
    }

    fn rotate(&mut self, id: &str) -> Step<()> {
        self.rotations += 1;
        let old = self.logs.join(format!("talker.log.{:03}", self.rotations));
        fs::rename(self.log(), old).expect("a started container has a log");
        let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
        match self.client.call(|cri| cri.reopen_container_log(request.clone())) {
            // It ended meanwhile: then all is in the old file.
            Err(status) if status.code() == Code::FailedPrecondition => {}
            answer => drop(self.take("reopen the log", answer)?),
        }
        self.client.shared.count("rotations", 1);
        // A rotation that finds no new file would lose the old one.
        if !self.log().exists() {
            fs::write(self.log(), "").expect("an empty log");
        }
        Ok(())
    }

    fn status(&self, id: &str) -> Step<v1::ContainerStatus> {
        let answer = self.client.call(|cri| cri.container(id));
        // Of whatever was hurt: what was acknowledged is there.
        Ok(answer.unwrap_or_else(|status| panic!("status of acknowledged container {id}: {status}")))
    }

    fn wait_exit(&self, id: &str) -> Step<v1::ContainerStatus> {
        eventually_every(
            Duration::from_millis(20),
            "a container ends",
            Duration::from_secs(90),
            || match self.status(id) {
                Ok(status) if status.state() == v1::ContainerState::ContainerExited => Some(Ok(status)),
                Ok(_) => None,
                Err(hurt) => Some(Err(hurt)),
            },
        )
    }

    fn stop_container(&self, id: &str, code: i32) -> Step<()> {
        let answer = self.client.call(|cri| cri.stop(id, 60));
        self.take("stop", answer)?;
        let status = self.status(id)?;
        assert_eq!(status.state(), v1::ContainerState::ContainerExited, "a stopped container has ended");
        if status.exit_code != code {
            return self.must_be_hurt(&format!("exit code {} after a stop", status.exit_code));
        }
        Ok(())
    }

    fn remove_container(&self, id: &str) -> Step<()> {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        let answer = self.client.call(|cri| cri.remove_container(request.clone()));
        self.take("remove a container", answer)?;
        let gone = self.client.call(|cri| cri.container(id)).expect_err("a removed container is gone");
        assert_eq!(gone.code(), Code::NotFound, "{gone}");
        Ok(())
    }

    /// Numbers in the log, which are 1 to N without a gap or a repetition. Of a killed monitor the last line may be torn.
    fn lines(&self, may_be_torn: bool) -> usize {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.logs)
            .expect("the log directory")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.retain(|file| file.to_string_lossy().contains("talker.log."));
        files.sort();
        files.push(self.log());
        let mut expected = 1;
        for file in &files {
            let text = fs::read_to_string(file).unwrap_or_default();
            for line in text.split_inclusive('\n') {
                let number = line.strip_suffix('\n').and_then(|line| line.rsplit(' ').next()?.parse().ok());
                if number.is_none() && may_be_torn && !line.ends_with('\n') {
                    continue;
                }
                assert_eq!(number, Some(expected), "{} of {}", line, file.display());
                expected += 1;
            }
        }
        expected - 1
    }

    /// A pod of which a part was killed is not ready, its containers have ended, and both say why.
    fn expect_end(&self, talker: Option<&str>, waiter: Option<&str>) {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: self.pod.clone(), verbose: true };
        eventually_every(Duration::from_millis(20), "a hurt pod ends", Duration::from_secs(60), || {
            let answer = self.client.call(|cri| cri.pod_sandbox_status(request.clone()));
            let status = answer.unwrap_or_else(|status| panic!("acknowledged pod {}: {status}", self.pod));
            (status.status?.state() == v1::PodSandboxState::SandboxNotready).then_some(())
        });
        for id in [talker, waiter].into_iter().flatten() {
            let Ok(status) = self.wait_exit(id) else { return };
            if status.exit_code == 255 {
                assert!(status.message.contains("monitor"), "an exit that nobody saw: {status:?}");
            }
            if talker == Some(id) {
                let lines = self.lines(true);
                assert!(status.exit_code != self.code || lines == LINES, "{lines} lines: {status:?}");
            }
        }
    }

    /// Stops and removes the pod, hurt or not.
    fn end(&self) {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: self.pod.clone() };
        let stopped = self.client.call(|cri| cri.stop_pod_sandbox(request.clone()));
        stopped.unwrap_or_else(|status| panic!("stop pod {}: {status}", self.pod));
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: self.pod.clone(), verbose: false };
        let status = self.client.call(|cri| cri.pod_sandbox_status(request.clone()));
        let status = status.expect("status of a stopped pod").status.expect("a status");
        assert_eq!(status.state(), v1::PodSandboxState::SandboxNotready);
        let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: self.pod.clone() };
        let removed = self.client.call(|cri| cri.remove_pod_sandbox(remove.clone()));
        removed.unwrap_or_else(|status| panic!("remove pod {}: {status}", self.pod));
        let gone = self.client.call(|cri| cri.pod_sandbox_status(request.clone()));
        assert_eq!(gone.expect_err("a removed pod is gone").code(), Code::NotFound);
    }
}
