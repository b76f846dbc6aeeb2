//! Pods that are not started before somebody on the node lets them go.
//!
//! Owns: which they are, and the mark of those that were let go. It lies in the pod's folder, so it
//! outlives edgecore and goes with the pod.
//! Called by: `pods.rs`, which holds them; the local API, which lets them go.
//! Never: starts a pod.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::podspec;

/// In the pod's folder.
const MARK: &str = "let-go";

/// The pods that are held.
#[derive(Clone)]
pub(crate) struct Held {
    pods: Arc<Mutex<BTreeMap<Arc<str>, Arc<Pod>>>>,
    let_go: mpsc::Sender<Arc<str>>,
}

impl Held {
    /// None are yet. Who may start is told to the receiver; full: whoever lets one go waits.
    pub(crate) fn none() -> (Self, mpsc::Receiver<Arc<str>>) {
        let (let_go, told) = mpsc::channel(16);
        (Self { pods: Arc::default(), let_go }, told)
    }

    /// Whether a pod is to wait here.
    pub(super) fn holds(pod: &Pod, folder: &Path) -> bool {
        podspec::is_held(pod) && !folder.join(MARK).exists()
    }

    /// With the status that it was reported with.
    pub(super) fn put(&self, pod: &Pod, status: PodStatus) {
        let pod = Pod { status: Some(status), ..pod.clone() };
        self.pods.lock().insert(podspec::uid(&pod).into(), Arc::new(pod));
    }

    /// It waits no longer.
    pub(super) fn take(&self, uid: &str) -> Option<Arc<Pod>> {
        self.pods.lock().remove(uid)
    }

    pub(super) fn clear(&self) {
        self.pods.lock().clear();
    }

    /// Those of the node, or those of one namespace and name.
    pub(super) fn find(&self, only: Option<(&str, &str)>) -> Vec<Arc<Pod>> {
        let is =
            |pod: &Pod| only.is_none_or(|of| of == (podspec::namespace(pod), podspec::name(pod)));
        self.pods.lock().values().filter(|pod| is(pod)).cloned().collect()
    }

    /// Lets one go: it starts, also if edgecore is restarted before it does.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(super) async fn let_go(&self, pod: &Pod, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(MARK), "")?;
        // Nobody listens once edged stops; the mark is there.
        let _ = self.let_go.send(podspec::uid(pod).into()).await;
        Ok(())
    }
}
