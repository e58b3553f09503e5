//! What everybody else does while a pod is stuck.

use std::time::{Duration, Instant};

use husk_e2e::{Daemon, container, patience, pod, v1};
use tokio::task::JoinHandle;
use tonic::Status;

/// Far longer than each call takes, and shorter than every deadline of a stuck one.
const LIMIT: Duration = Duration::from_secs(8);

/// Another pod's whole life, and all reads.
pub struct Others;

impl Others {
    /// Fails when a call takes as long as if it waited for the stuck pod.
    pub fn live(husk: &Daemon) {
        let cri = husk.cri();
        let timed = |what: &str, call: &mut dyn FnMut()| {
            let began = Instant::now();
            call();
            assert!(began.elapsed() < patience(LIMIT), "{what} took {:?}", began.elapsed());
        };
        let config = pod("other", &husk.path("logs"));
        let (mut pod_id, mut id) = (String::new(), String::new());
        timed("RunPodSandbox", &mut || pod_id = cri.run_pod(&config).unwrap());
        timed("CreateContainer", &mut || id = cri.create(&pod_id, &config, &container("main")).unwrap());
        timed("StartContainer", &mut || cri.start(&id).unwrap());
        timed("ExecSync", &mut || assert_eq!(cri.exec(&id, &["true"]).unwrap().0, 0));
        timed("ListPodSandbox", &mut || drop(cri.list_pod_sandbox(Default::default()).unwrap()));
        timed("ListContainers", &mut || drop(cri.list_containers(Default::default()).unwrap()));
        timed("ListContainerStats", &mut || drop(cri.list_container_stats(Default::default()).unwrap()));
        timed("ListPodSandboxStats", &mut || drop(cri.list_pod_sandbox_stats(Default::default()).unwrap()));
        timed("ListPodSandboxMetrics", &mut || {
            drop(cri.list_pod_sandbox_metrics(Default::default()).unwrap())
        });
        timed("Status", &mut || drop(cri.status(v1::StatusRequest { verbose: true }).unwrap()));
        timed("every status", &mut || {
            for item in cri.list_pod_sandbox(Default::default()).unwrap().items {
                let request = v1::PodSandboxStatusRequest { pod_sandbox_id: item.id, verbose: true };
                cri.pod_sandbox_status(request).unwrap();
            }
            for item in cri.list_containers(Default::default()).unwrap().containers {
                cri.container(&item.id).unwrap();
            }
        });
        timed("StopContainer", &mut || cri.stop(&id, 0).unwrap());
        let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: pod_id.clone() };
        timed("RemovePodSandbox", &mut || {
            cri.remove_pod_sandbox(remove.clone()).unwrap();
        });
    }
}

/// An exec that is not waited for.
pub fn ask(husk: &Daemon, id: &str) -> JoinHandle<Result<v1::ExecSyncResponse, Status>> {
    let mut client = husk.cri().runtime();
    let request = v1::ExecSyncRequest { container_id: id.to_owned(), cmd: vec!["true".into()], timeout: 0 };
    husk.cri().spawn(async move { client.exec_sync(request).await.map(tonic::Response::into_inner) })
}
