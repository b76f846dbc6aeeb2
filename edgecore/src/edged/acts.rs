//! Carrying out a plan.
//!
//! Owns: the words of events, and which failure becomes which reason.
//! Called by: the worker's loop, which drops it half-way when something urgent comes: every step
//! may be repeated, because the next look shows how far it came.
//! Never: decides what comes next.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use super::action::Target;
use super::env::Facts;
use super::hooks;
use super::images::{self, Policy};
use super::make::{self, Making};
use super::memory::{Failure, Volumes, wait};
use super::plan::{self, Action};
use super::podspec;
use super::recorder::Kind;
use super::runtime::{ContainerState, RuntimeError};
use super::worker::Worker;

/// A hook after a container's start may hold the pod up for so long.
const POST_START: Duration = Duration::from_secs(600);

impl Worker {
    /// Does all of it, unless something urgent comes. `false`: it did not work, try again later.
    pub(crate) async fn act(&mut self, actions: Vec<Action>) -> bool {
        let inbox = self.inbox.clone();
        tokio::select! {
            done = self.do_all(actions) => done,
            () = inbox.urgent() => true,
        }
    }

    async fn do_all(&mut self, actions: Vec<Action>) -> bool {
        let (stops, others): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|a| matches!(a, Action::StopContainer { .. }));
        let stops = stops.iter().map(|a| self.stop_container(a));
        let stopped = futures::future::join_all(stops).await;
        for (id, result) in stopped {
            match result {
                Ok(()) => {
                    self.hooked.insert(id);
                }
                Err(e) => return self.failed("stop a container", &e),
            }
        }
        for action in others {
            let result = match action {
                Action::PrepareVolumes => {
                    self.prepare_volumes().await;
                    Ok(())
                }
                Action::RunSandbox { attempt } => self.run_sandbox(attempt).await,
                Action::StopSandbox { id } => self.shared.runtime.stop_sandbox(&id).await,
                Action::RemoveContainer { id } => self.shared.runtime.remove_container(&id).await,
                Action::StartContainer { name, attempt, backoff, sandbox } => {
                    self.start_container(&name, attempt, backoff, &sandbox).await;
                    Ok(())
                }
                Action::RemoveSandbox { id } => self.shared.runtime.remove_sandbox(&id).await,
                Action::StopContainer { .. } | Action::Release => Ok(()),
            };
            if let Err(e) = result {
                return self.failed("carry out the plan", &e);
            }
        }
        true
    }

    fn failed(&self, what: &str, e: &RuntimeError) -> bool {
        tracing::warn!(pod = podspec::full_name(&self.pod), error = %e, "cannot {what}");
        false
    }

    /// Removes what is dead and of no more use.
    pub(crate) async fn collect_garbage(&self) {
        for action in plan::garbage(&self.seen) {
            let removed = match &action {
                Action::RemoveContainer { id } => self.shared.runtime.remove_container(id).await,
                Action::RemoveSandbox { id } => self.shared.runtime.remove_sandbox(id).await,
                _ => Ok(()),
            };
            if let Err(e) = removed {
                tracing::debug!(pod = podspec::full_name(&self.pod), error = %e, "cannot remove what is dead");
            }
        }
    }

    async fn prepare_volumes(&mut self) {
        let facts = self.facts();
        let place = self.shared.site.place(&self.uid);
        let prepared = place
            .prepare(self.shared.cluster.as_ref(), &self.pod, &facts, &self.shared.site.machine)
            .await;
        match prepared {
            Ok(()) => self.volumes_are_ready(),
            Err(e) => {
                self.shared.recorder.pod(&self.pod, Kind::Warning, "FailedMount", e.to_string());
                let before = match &self.memory.volumes {
                    Volumes::Failed(f) => f.tries,
                    _ => 0,
                };
                let now = self.shared.clock.now();
                // Sooner than other failures: half a second, doubling to two minutes.
                let pause = (wait(before + 1) / 20).min(Duration::from_secs(122));
                self.memory.volumes = Volumes::Failed(Failure {
                    reason: "ContainerCreating",
                    message: e.to_string(),
                    tries: before + 1,
                    at: now,
                    until: now + super::clock::length(pause),
                });
            }
        }
    }

    fn facts(&self) -> Facts {
        Facts { pod_ips: self.ips(), host_ips: self.shared.site.host_ips.clone() }
    }

    async fn run_sandbox(&mut self, attempt: u32) -> Result<(), RuntimeError> {
        let shared = self.shared.clone();
        if attempt > 0 && self.memory.sandbox.is_none() {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            shared.recorder.pod(&self.pod, Kind::Normal, "SandboxChanged", message);
        }
        let spec = make::sandbox(&self.pod, attempt, &shared.site);
        if let Err(e) = std::fs::create_dir_all(&spec.log_directory) {
            tracing::warn!(path = %spec.log_directory.display(), error = %e, "cannot make a log directory");
        }
        let _slot = shared.starts.acquire().await;
        match shared.runtime.run_sandbox(&spec).await {
            Ok(_) => {
                self.memory.sandbox = None;
                let limit = shared.runtime.network_limit();
                if let Some(limit) = limit.filter(|_| !spec.namespaces.host_network) {
                    let kind = Kind::Normal;
                    shared.recorder.pod(&self.pod, kind, "IsolatedNetwork", limit.to_owned());
                }
                Ok(())
            }
            Err(e) => {
                let message = format!("Failed to create pod sandbox: {e}");
                shared.recorder.pod(
                    &self.pod,
                    Kind::Warning,
                    "FailedCreatePodSandBox",
                    message.clone(),
                );
                let now = shared.clock.now();
                let mut failure =
                    Failure::after(self.memory.sandbox.as_ref(), "ContainerCreating", message, now);
                // A network that is just coming up should not cost ten seconds.
                failure.until = now + (failure.until - now) / 10;
                self.memory.sandbox = Some(failure);
                Ok(())
            }
        }
    }

    async fn start_container(&mut self, name: &str, attempt: u32, backoff: u64, sandbox: &str) {
        let pod = self.pod.clone();
        let Some((c, _)) = podspec::container(&pod, name) else { return };
        match self.try_start(&c, attempt, backoff, sandbox).await {
            Ok(()) => {
                self.memory.containers.remove(name);
            }
            Err((reason, message)) => {
                let event = match reason {
                    "ErrImagePull" => format!(
                        "Failed to pull image \"{}\": {message}",
                        c.image.as_deref().unwrap_or_default()
                    ),
                    _ => format!("Error: {message}"),
                };
                self.shared.recorder.container(&self.pod, name, Kind::Warning, "Failed", event);
                let before = self.memory.containers.get(name);
                let now = self.shared.clock.now();
                let failure = Failure::after(before, reason, message, now);
                self.memory.containers.insert(name.to_owned(), failure);
            }
        }
    }

    async fn try_start(
        &mut self,
        c: &Container,
        attempt: u32,
        backoff: u64,
        sandbox: &str,
    ) -> Result<(), (&'static str, String)> {
        let shared = self.shared.clone();
        let pod = self.pod.clone();
        let say = |reason: &str, message: String| {
            shared.recorder.container(&pod, &c.name, Kind::Normal, reason, message);
        };
        let named = c.image.as_deref().unwrap_or_default();
        let (runtime, cluster) = (shared.runtime.as_ref(), shared.cluster.as_ref());
        let image = shared
            .puller
            .ensure(runtime, cluster, &pod, c, || {
                say("Pulling", format!("Pulling image \"{named}\""));
            })
            .await
            .map_err(|e| (e.reason, e.message))?;
        match image.pulled_in {
            Some(took) => say(
                "Pulled",
                format!(
                    "Successfully pulled image \"{named}\" in {}ms. Image size: {} bytes.",
                    took.as_millis(),
                    image.info.size
                ),
            ),
            None if images::policy(c) != Policy::Always => {
                say("Pulled", format!("Container image \"{named}\" already present on machine"));
            }
            None => {}
        }
        let facts = self.facts();
        let making = Making {
            pod: &pod,
            container: c,
            image: &image,
            attempt,
            backoff,
            facts: &facts,
            site: &shared.site,
            looks_into: self.looked_into(&c.name)?,
        };
        let spec = making
            .spec(cluster)
            .await
            .map_err(|e| ("CreateContainerConfigError", e.to_string()))?;
        let sandbox_attempt = plan::active_sandbox(&self.seen).map_or(0, |s| s.attempt);
        let sandbox_spec = make::sandbox(&pod, sandbox_attempt, &shared.site);
        let id = {
            let _slot = shared.starts.acquire().await;
            let id = runtime
                .create_container(sandbox, &spec, &sandbox_spec)
                .await
                .map_err(|e| ("CreateContainerError", e.to_string()))?;
            say("Created", format!("Created container: {}", c.name));
            shared.owners.lock().insert(id.clone(), self.uid.clone());
            runtime.start_container(&id).await.map_err(|e| ("RunContainerError", e.to_string()))?;
            say("Started", format!("Started container {}", c.name));
            id
        };
        tracing::debug!(pod = podspec::full_name(&pod), container = c.name, age = ?self.age(), "started");
        self.post_start(c, &id).await
    }

    /// The id of the running container whose processes this one is to see, if it asks for that.
    fn looked_into(&self, name: &str) -> Result<Option<String>, (&'static str, String)> {
        let Some(target) = podspec::looks_into(&self.pod, name) else { return Ok(None) };
        match plan::latest(&self.seen, target) {
            Some(c) if c.status.state == ContainerState::Running => Ok(Some(c.status.id.clone())),
            _ => {
                let why = format!("the target container `{target}` is not running");
                Err(("CreateContainerError", why))
            }
        }
    }

    fn target<'a>(
        &'a self,
        container: &'a Container,
        id: &'a str,
        ips: &'a [String],
    ) -> Target<'a> {
        let sandbox = plan::active_sandbox(&self.seen).map(|s| s.id.as_str());
        Target { runtime: self.shared.runtime.as_ref(), container, id, sandbox, ips }
    }

    async fn post_start(&self, c: &Container, id: &str) -> Result<(), (&'static str, String)> {
        let Some(hook) = c.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let runtime = self.shared.runtime.as_ref();
        let ips = self.ips();
        if let Err(why) = hooks::run(hook, &self.target(c, id, &ips), POST_START).await {
            let message = format!("PostStartHook failed: {why}");
            self.shared.recorder.container(
                &self.pod,
                &c.name,
                Kind::Warning,
                "FailedPostStartHook",
                message.clone(),
            );
            let stopped = runtime.stop_container(id, podspec::grace(&self.pod)).await;
            if let Err(e) = stopped {
                self.failed("stop a container whose hook failed", &e);
            }
            return Err(("PostStartHookError", message));
        }
        Ok(())
    }

    /// Hook, signal, force; the id comes back with the result.
    async fn stop_container(&self, action: &Action) -> (String, Result<(), RuntimeError>) {
        let Action::StopContainer { id, name, why, grace } = action else {
            return (String::new(), Ok(()));
        };
        self.shared.recorder.container(&self.pod, name, Kind::Normal, "Killing", why.clone());
        let begun = tokio::time::Instant::now();
        let container = podspec::container(&self.pod, name).map(|(c, _)| c);
        let hook =
            container.as_deref().and_then(|c| Some((c, c.lifecycle.as_ref()?.pre_stop.as_ref()?)));
        if let Some((c, hook)) = hook
            && !self.hooked.contains(id)
        {
            let ips = self.ips();
            if let Err(why) = hooks::run(hook, &self.target(c, id, &ips), *grace).await {
                let message = format!("PreStopHook failed: {why}");
                self.shared.recorder.container(
                    &self.pod,
                    name,
                    Kind::Warning,
                    "FailedPreStopHook",
                    message,
                );
            }
        }
        // As kubelet: however long the hook took, two seconds are left.
        let left = grace.saturating_sub(begun.elapsed());
        let left = if hook.is_some() { left.max(Duration::from_secs(2)) } else { left };
        (id.clone(), self.shared.runtime.stop_container(id, left).await)
    }
}
