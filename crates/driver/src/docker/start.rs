//! From a task to a running container.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::CreateContainerOptions;

use super::config::Config;
use super::container::{self, HostFacts, LABEL_OWNER};
use super::engine::{Meaning, meaning, sentence, timely};
use super::image::{Image, Wanted};
use super::{Docker, HANDLE_VERSION, NAME, Seen, State, cpuset, locked, mounts, output, remove};
use crate::contract::{DriverError, Handle, TaskConfig};

/// Tries of what the daemon failed at inside.
const TRIES: u32 = 5;
const PAUSE_FIRST: Duration = Duration::from_millis(50);

fn failed(what: &str, error: &Error) -> DriverError {
    // A daemon that is away, a name or port that is taken, an image that was just removed: all pass.
    let text = sentence(error);
    let passes = matches!(meaning(error), Meaning::Unreachable | Meaning::NotFound | Meaning::Conflict)
        || ["port is already allocated", "address already in use", "Duplicate mount point", "timeout", "EOF"]
            .iter()
            .any(|known| text.contains(known));
    DriverError::Start { message: format!("{what}: {text}"), recoverable: passes }
}

impl Docker {
    pub(super) async fn start_task(&self, task: TaskConfig) -> Result<Handle, DriverError> {
        if locked(&self.0.tasks).contains_key(&task.task_id) {
            return Err(DriverError::AlreadyStarted(task.task_id));
        }
        let config = Config::decode(&task.config)?;
        let task = Arc::new(task);
        // Paths and what is allowed come first: a pull for a task that is refused helps nobody.
        let (options, facts) = (Arc::clone(&self.0.options), self.host_facts());
        let (work, on) = ((config.clone(), Arc::clone(&task)), Arc::clone(&options));
        let preparing = tokio::task::spawn_blocking(move || mounts::prepare(&on, &work.0, &work.1));
        let joined = preparing.await.map_err(|e| DriverError::Start { message: e.to_string(), recoverable: false })?;
        let body = joined.and_then(|paths| container::request(&options, &config, &task, facts, &config.image, paths));
        let started = match body {
            Ok(mut body) => {
                if let Some(host) = body.host_config.as_mut().filter(|_| shares_cores(&config, &task)) {
                    host.cpuset_cpus = cpuset::for_new(self.0.cores.get());
                }
                self.bring_up(&config, &task, body).await
            }
            Err(error) => Err(error),
        };
        if started.is_err() {
            let dirs = task.dirs.clone();
            let name = task.task.clone();
            let _ = tokio::task::spawn_blocking(move || mounts::unpin(&dirs, &name)).await;
            self.0.health.look_soon();
        }
        started
    }

    fn host_facts(&self) -> HostFacts {
        let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        HostFacts { cgroup_v1: crate::cgroup::host_version() == Some(crate::cgroup::Version::V1), cores }
    }

    async fn bring_up(
        &self,
        config: &Config,
        task: &TaskConfig,
        body: ContainerCreateBody,
    ) -> Result<Handle, DriverError> {
        let image = self.image_of(config, task).await?;
        match self.create_and_start(config, task, body, &image).await {
            Ok(container) => self.up(config, task, &image, container).await,
            Err(error) => {
                self.0.images.release(&image.id, &task.task_id);
                Err(error)
            }
        }
    }

    async fn image_of(&self, config: &Config, task: &TaskConfig) -> Result<Image, DriverError> {
        let wanted = Wanted {
            image: &config.image,
            force_pull: config.force_pull,
            load: (!config.load.is_empty()).then(|| (task.dirs.local(), config.load.as_str())),
            auth: config.auth.as_ref(),
            auth_soft_fail: config.auth_soft_fail,
            timeout: config.pull_timeout()?.unwrap_or(self.0.options.image_pull_timeout),
            notes: &task.around.notes,
        };
        tokio::select! {
            image = self.0.images.acquire(&task.task_id, wanted) => image,
            // The pull ends with the last who waits for it.
            () = task.around.cancel.cancelled() => {
                Err(DriverError::Start { message: "the start was cancelled".to_owned(), recoverable: true })
            }
        }
    }

    /// The container's id, once it runs.
    async fn create_and_start(
        &self,
        config: &Config,
        task: &TaskConfig,
        body: ContainerCreateBody,
        image: &Image,
    ) -> Result<String, DriverError> {
        let name = container::name(task);
        let attempts = config.container_exists_attempts.unwrap_or(self.0.options.container_exists_attempts);
        let mut pause = PAUSE_FIRST;
        for attempt in 0.. {
            self.open()?;
            let (id, running) = self.create(&name, &body, image, attempts).await?;
            let started = if running { Ok(()) } else { timely(self.0.docker.start_container(&id, None)).await };
            let started = started.or_else(|error| match meaning(&error) {
                Meaning::NotModified => Ok(()),
                _ => Err(error),
            });
            match started {
                Ok(()) => {
                    if let Err(closed) = self.open() {
                        let _ = remove(&self.0.docker, &id).await;
                        return Err(closed);
                    }
                    return Ok(id);
                }
                Err(error) => {
                    let _ = remove(&self.0.docker, &id).await;
                    // Somebody removed it under our hands, or the daemon stumbled: from the beginning.
                    let again = meaning(&error) == Meaning::NotFound || is_stumble(&error);
                    if !again || attempt + 1 >= TRIES {
                        return Err(failed("Failed to start container", &error));
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        unreachable!("the loop ends by returning")
    }

    pub(super) fn open(&self) -> Result<(), DriverError> {
        if self.0.closed.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(DriverError::Start { message: "the node is being taken down".to_owned(), recoverable: true });
        }
        Ok(())
    }

    /// Creates the container; true when one that runs was found and is adopted.
    async fn create(
        &self,
        name: &str,
        body: &ContainerCreateBody,
        image: &Image,
        attempts: u32,
    ) -> Result<(String, bool), DriverError> {
        let (mut pause, mut taken, mut stumbles) = (PAUSE_FIRST, 0, 0);
        loop {
            let options = CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
            let error = match timely(self.0.docker.create_container(Some(options), body.clone())).await {
                Ok(made) => return Ok((made.id, false)),
                Err(error) => error,
            };
            match meaning(&error) {
                Meaning::Conflict if taken < attempts => {
                    taken += 1;
                    if let Some(id) = self.clear_name(name, body, image).await? {
                        return Ok((id, true));
                    }
                }
                _ if is_stumble(&error) && stumbles < TRIES => stumbles += 1,
                _ => return Err(failed("Failed to create container", &error)),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// A container has our name. Ours and running as wanted: its id. Ours otherwise: removed.
    async fn clear_name(
        &self,
        name: &str,
        body: &ContainerCreateBody,
        image: &Image,
    ) -> Result<Option<String>, DriverError> {
        let found = match timely(self.0.docker.inspect_container(name, None)).await {
            Ok(found) => found,
            Err(error) if meaning(&error) == Meaning::NotFound => return Ok(None),
            Err(error) => return Err(failed("Failed to look at container", &error)),
        };
        let (Some(id), Some(set)) = (found.id.clone(), found.config.as_ref()) else { return Ok(None) };
        let node = format!("{}/", self.0.node_id);
        let labels = set.labels.clone().unwrap_or_default();
        if !labels.get(LABEL_OWNER).is_some_and(|owner| owner.starts_with(&node)) {
            let message = format!("container name {name:?} is taken by a container that is not this node's");
            return Err(DriverError::Start { message, recoverable: true });
        }
        let runs = found.state.as_ref().and_then(|state| state.running) == Some(true);
        let mode = |host: Option<&HostConfig>| host.and_then(|host| host.network_mode.clone()).unwrap_or_default();
        let (network, has) = (mode(body.host_config.as_ref()), mode(found.host_config.as_ref()));
        // One in a group's network that is gone reaches nobody.
        let same_network = !network.starts_with("container:") || network == has;
        let same = found.image.as_deref() == Some(image.id.as_str()) && is_same(body, set) && same_network;
        let held = locked(&self.0.tasks).values().any(|entry| entry.state.container == id);
        if runs && same && !held {
            tracing::info!(container = id, name, "a running container of this task is adopted");
            return Ok(Some(id));
        }
        remove(&self.0.docker, &id).await.map_err(|e| failed("Failed to remove container", &e))?;
        Ok(None)
    }

    async fn up(&self, config: &Config, task: &TaskConfig, image: &Image, id: String) -> Result<Handle, DriverError> {
        let seen = match timely(self.0.docker.inspect_container(&id, None)).await {
            Ok(found) => Seen::of(&found),
            Err(_) => Seen::default(),
        };
        let collected = task.logs.filter(|_| !self.0.options.disable_log_collection);
        let state = State {
            output: collected.map(|logs| output::Place::new(&task.dirs, &task.task, &id, logs)),
            container: id,
            image: image.id.clone(),
            reference: config.image.clone(),
            stop_signal: image.stop_signal.clone().unwrap_or_default(),
            tty: config.tty,
            shares_cores: shares_cores(config, task),
            root: task.dirs.alloc.root.clone(),
            task: task.task.clone(),
        };
        let told = serde_json::to_value(&state);
        let told = told.map_err(|e| DriverError::Start { message: e.to_string(), recoverable: false })?;
        self.hold(task.task_id.clone(), state, seen);
        Ok(Handle { driver: NAME.to_owned(), version: HANDLE_VERSION, task_id: task.task_id.clone(), state: told })
    }
}

fn shares_cores(config: &Config, task: &TaskConfig) -> bool {
    task.around.cores.is_empty() && config.cpuset_cpus.is_empty()
}

/// Failures inside the daemon that are known to pass.
fn is_stumble(error: &Error) -> bool {
    let text = sentence(error);
    meaning(error) == Meaning::Failed && ["timeout", "timed out", "EOF"].iter().any(|known| text.contains(known))
}

/// Whether a container is what would be created, as far as the job says.
fn is_same(body: &ContainerCreateBody, found: &bollard::models::ContainerConfig) -> bool {
    let labels = |given: &Option<HashMap<String, String>>| {
        let mut labels = given.clone().unwrap_or_default();
        labels.remove(LABEL_OWNER);
        labels
    };
    let env = |given: &Option<Vec<String>>| given.clone().unwrap_or_default();
    let has = env(&found.env);
    let ours = labels(&body.labels).into_iter().all(|(k, v)| labels(&found.labels).get(&k) == Some(&v));
    ours && env(&body.env).iter().all(|line| has.contains(line)) && (body.cmd.is_none() || body.cmd == found.cmd)
}
