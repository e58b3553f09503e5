//! What every theme starts from: a kubelet on the runtime under test, and pods of shell scripts.

use std::{fs, ops::Deref, path::PathBuf};

use husk_e2e::{BUSYBOX, Gates, Kubelet, Subject};
use serde_json::{Value, json};

/// A kubelet and its runtime. The kubelet goes first: it would start again what the runtime removes.
pub struct Day {
    pub kubelet: Kubelet,
    pub runtime: Subject,
}

impl Day {
    /// Starts both.
    pub fn start(gates: Gates) -> Self {
        Self::with(gates, &json!({}))
    }

    /// Starts both, with more fields of KubeletConfiguration.
    pub fn with(gates: Gates, more: &Value) -> Self {
        let runtime = Subject::start();
        Self { kubelet: Kubelet::with(&runtime, gates, more), runtime }
    }

    /// A directory of the node for pods to write to.
    pub fn shared(&self, name: &str) -> PathBuf {
        let path = self.runtime.path(name);
        fs::create_dir_all(&path).expect("create a directory");
        path
    }

    /// Applies several pods.
    pub fn apply_all(&self, pods: &[Value]) {
        pods.iter().for_each(|pod| self.kubelet.apply(pod));
    }

    /// Removes every pod and waits until the kubelet has cleaned up after them.
    pub fn drain(&self) {
        self.kubelet.drain(&self.runtime);
    }

    /// Proves that the node is clean: the kubelet's share here, the runtime's when it is dropped.
    pub fn end(self) {
        self.drain();
    }
}

impl Deref for Day {
    type Target = Kubelet;

    fn deref(&self) -> &Kubelet {
        &self.kubelet
    }
}

/// A busybox container that runs a script. In a pod's command `$$` stands for one `$`.
pub fn shell(name: &str, script: &str) -> Value {
    let script = script.replace("$$", "$$$$");
    json!({ "name": name, "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script] })
}

/// `value` with the fields of `more`.
pub fn merge(mut value: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("not fields: {more}") };
    value.as_object_mut().expect("fields").extend(more);
    value
}

/// A container with volumes mounted: (volume, path).
pub fn mounts(container: Value, mounts: &[(&str, &str)]) -> Value {
    let mounts: Vec<Value> =
        mounts.iter().map(|(name, path)| json!({ "name": name, "mountPath": path })).collect();
    merge(container, json!({ "volumeMounts": mounts }))
}

/// A pod that ends within a second of being told to unless its spec says otherwise.
pub fn manifest(name: &str, spec: Value) -> Value {
    let spec = merge(json!({ "terminationGracePeriodSeconds": 1, "enableServiceLinks": false }), spec);
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" }, "spec": spec })
}
