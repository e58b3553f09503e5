//! The search for what belongs to nobody: at start, now and then, and when `husk doctor` asks.

use std::{collections::HashSet, sync::Arc, time::Duration};

use husk_config::DoctorConfig;
use husk_images::ImageStore;
use husk_model::chain;
use husk_pods::{Engine, Finding, Leak};
use husk_proto::admin::{self, ExamineRequest, ExamineResponse, node_server::Node};
use husk_telemetry::{LeakKind, Metrics};
use tokio::sync::{Mutex, watch};
use tonic::{Request, Response, Status};
use tracing::{error, info, warn};

/// Between two looks. What is about to end by itself (a monitor that was told to, a veth of a namespace that ends) is gone by
/// the second.
const PAUSE: Duration = Duration::from_millis(1500);

/// Looks for leftovers, one search at a time.
pub(crate) struct Doctor {
    engine: Arc<Engine>,
    images: Arc<ImageStore>,
    metrics: Arc<Metrics>,
    turn: Mutex<()>,
}

type Decide = husk_pods::Decide;

impl Doctor {
    pub(crate) fn new(engine: Arc<Engine>, images: Arc<ImageStore>, metrics: Arc<Metrics>) -> Self {
        // From the start on, so that the first leak is an increase.
        for leak in Leak::ALL {
            let kind = LeakKind { kind: leak.as_str().to_owned() };
            for counts in [&metrics.leaks.found, &metrics.leaks.repaired, &metrics.leaks.failed] {
                drop(counts.get_or_create(&kind));
            }
        }
        Self { engine, images, metrics, turn: Mutex::default() }
    }

    /// Two looks; what both find belongs to nobody, and is removed if `repair` is set.
    pub(crate) async fn examine(&self, repair: bool) -> Vec<Finding> {
        let _turn = self.turn.lock().await;
        let suspects = self.look(Arc::new(|_, _| false)).await;
        let mut found = Vec::new();
        if !suspects.is_empty() {
            tokio::time::sleep(PAUSE).await;
            let suspects: HashSet<(Leak, String)> =
                suspects.into_iter().map(|finding| (finding.leak, finding.object)).collect();
            let seen = Arc::new(suspects);
            let again = Arc::clone(&seen);
            let decide: Decide =
                Arc::new(move |leak, object| repair && again.contains(&(leak, object.to_owned())));
            found = self.look(decide).await;
            found.retain(|finding| seen.contains(&(finding.leak, finding.object.clone())));
        }
        self.count(&found);
        found
    }

    async fn look(&self, decide: Decide) -> Vec<Finding> {
        let mut found = self.engine.examine(Arc::clone(&decide)).await;
        let layer = Leak::ImageLayer;
        let free = {
            let decide = Arc::clone(&decide);
            Arc::new(move |object: &str| decide(layer, object))
        };
        match self.images.examine(free).await {
            Ok(layers) => found.extend(layers.into_iter().map(|object| {
                let repaired = decide(layer, &object);
                if repaired {
                    warn!(kind = layer.as_str(), object, "removed what belonged to nobody");
                }
                Finding { leak: layer, object, repaired, failure: None }
            })),
            Err(error) => error!(error = chain(&error), "cannot look for layers that belong to nobody"),
        }
        found
    }

    fn count(&self, found: &[Finding]) {
        let leaks = &self.metrics.leaks;
        leaks.searches.inc();
        for finding in found {
            let kind = LeakKind { kind: finding.leak.as_str().to_owned() };
            leaks.found.get_or_create(&kind).inc();
            if finding.repaired {
                leaks.repaired.get_or_create(&kind).inc();
            }
            if finding.failure.is_some() {
                leaks.failed.get_or_create(&kind).inc();
            }
            if !finding.repaired && finding.failure.is_none() {
                warn!(kind = finding.leak.as_str(), object = finding.object, "found what belongs to nobody");
            }
        }
    }

    /// Searches at once and then as often as configured, also when that changes. Ends with the sender.
    pub(crate) async fn make_rounds(self: Arc<Self>, mut config: watch::Receiver<DoctorConfig>) {
        // Start-up has removed what a former daemon left; what it could not is tried again and told.
        loop {
            let DoctorConfig { interval, repair } = config.borrow_and_update().clone();
            if interval.is_some() {
                let found = self.examine(repair).await;
                if !found.is_empty() {
                    let repaired = found.iter().filter(|finding| finding.repaired).count();
                    info!(found = found.len(), repaired, "looked for what belongs to nobody");
                }
            }
            let pause = async {
                match interval {
                    Some(interval) => tokio::time::sleep(interval).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = pause => {}
                changed = config.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// The service of `husk doctor`.
pub(crate) struct NodeService(pub(crate) Arc<Doctor>);

#[tonic::async_trait]
impl Node for NodeService {
    async fn examine(&self, request: Request<ExamineRequest>) -> Result<Response<ExamineResponse>, Status> {
        let (doctor, repair) = (Arc::clone(&self.0), request.into_inner().repair);
        // A caller that goes away stops nothing half-way.
        let found = tokio::spawn(async move { doctor.examine(repair).await });
        let found = found.await.map_err(|_| Status::internal("the search panicked"))?;
        let findings = found.into_iter().map(|finding| admin::Finding {
            kind: finding.leak.as_str().to_owned(),
            object: finding.object,
            repaired: finding.repaired,
            failure: finding.failure.unwrap_or_default(),
        });
        Ok(Response::new(ExamineResponse { findings: findings.collect() }))
    }
}
