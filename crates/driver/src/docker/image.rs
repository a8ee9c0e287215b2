//! Getting images and letting them go.
//!
//! ```text
//!   acquire ─ force_pull? ──────────────► pull ─┐
//!      │ no    tag other than latest, here ─────┼─► in use by the task ─release─► nobody left ─delay─► removed
//!      │       load = "archive" ─► load ────────┤                                    └─ a new user: kept
//!      └────── neither ──────────────► pull ────┘
//! ```
//!
//! * One pull per reference and credentials, however many tasks wait for it. It ends when the last of them
//!   has given up, after no progress for `pull_activity_timeout`, or at each waiter's own deadline.
//! * An image is removed by the reference the tasks used, without force: what another container or another
//!   tag holds stays.
//! * Which images were used is remembered ([`super::memory`]): those that no task uses when the agent starts
//!   again have their delay from its first look at the containers on.
//!
//! Driven by the driver's starts and destroys. A failure is a sentence of the daemon with the image's name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptionsBuilder, ImportImageOptions, RemoveImageOptions};
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::auth;
use super::config::TaskAuth;
use super::engine::{Meaning, meaning, sentence, timely};
use super::memory::{Memory, Used};
use super::options::Options;
use crate::contract::{DriverError, Notes};

/// The first word about a slow pull; the time between words doubles up to [`NEWS_MAX`].
const NEWS_FIRST: Duration = Duration::from_secs(5);
const NEWS_MAX: Duration = Duration::from_secs(120);
const REMOVE_TRIES: u32 = 3;
const REMOVE_PAUSE: Duration = Duration::from_secs(3);
/// Layers whose progress is remembered.
const LAYERS_MAX: usize = 500;

/// What a task asks for.
pub(super) struct Wanted<'a> {
    pub image: &'a str,
    pub force_pull: bool,
    /// An archive, and the directory it lies in.
    pub load: Option<(PathBuf, &'a str)>,
    pub auth: Option<&'a TaskAuth>,
    pub auth_soft_fail: bool,
    pub timeout: Duration,
    pub notes: &'a Notes,
}

/// An image that is here.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub id: String,
    pub stop_signal: Option<String>,
}

type Outcome = Option<Result<(), String>>;
type Key = (String, Option<String>);

/// A pull under way. It ends with the last who holds it.
struct Pull {
    outcome: watch::Receiver<Outcome>,
    progress: Arc<Mutex<Progress>>,
    abort: AbortHandle,
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

#[derive(Default)]
struct Users {
    tasks: BTreeSet<String>,
    references: BTreeSet<String>,
    /// Counts uses: a delay that began before the last of them is void.
    uses: u64,
}

#[derive(Default)]
struct Table {
    pulls: HashMap<Key, Weak<Pull>>,
    /// By image id.
    users: HashMap<String, Users>,
}

#[derive(Clone)]
pub(super) struct Images {
    docker: Docker,
    options: Arc<Options>,
    table: Arc<Mutex<Table>>,
    memory: Arc<OnceLock<Memory>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(message: String) -> DriverError {
    DriverError::Start { message, recoverable: true }
}

/// Name and tag or digest. Without a tag the daemon would take all of them.
fn split(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

/// Fixed references may be taken from what is here; `latest` may have moved.
fn is_fixed(image: &str) -> bool {
    split(image).1 != "latest"
}

impl Images {
    pub fn new(docker: Docker, options: Arc<Options>) -> Self {
        Self { docker, options, table: Arc::default(), memory: Arc::default() }
    }

    /// Takes up what was used before, and remembers from now on.
    pub fn remember(&self, memory: Memory) {
        if !self.options.gc.image {
            return;
        }
        let mut table = locked(&self.table);
        for (id, references) in memory.found() {
            table.users.entry(id).or_default().references.extend(references);
        }
        drop(table);
        let _ = self.memory.set(memory);
    }

    /// Lets go of what nobody uses: an agent that ran before was to do it.
    pub fn resume(&self) {
        let table = locked(&self.table);
        for (id, users) in table.users.iter().filter(|(_, users)| users.tasks.is_empty() && users.uses == 0) {
            self.collect_later(id, users.uses);
        }
    }

    fn used(&self) -> Used {
        locked(&self.table).users.iter().map(|(id, users)| (id.clone(), users.references.clone())).collect()
    }

    fn note_down(&self) {
        if self.memory.get().is_some() {
            let images = self.clone();
            tokio::task::spawn_blocking(move || {
                if let Some(memory) = images.memory.get() {
                    memory.keep(|| images.used());
                }
            });
        }
    }

    /// Brings the image here and notes that the task uses it.
    ///
    /// # Errors
    /// It cannot be had; trying again may help.
    pub async fn acquire(&self, task_id: &str, wanted: Wanted<'_>) -> Result<Image, DriverError> {
        let image = wanted.image;
        if !wanted.force_pull
            && is_fixed(image)
            && let Some(found) = self.find(image).await?
        {
            self.uses(&found.id, image, task_id);
            return Ok(found);
        }
        let deadline = Instant::now() + wanted.timeout;
        match &wanted.load {
            Some((dir, archive)) if !wanted.force_pull => {
                let loading = tokio::time::timeout_at(deadline, self.load(dir.clone(), archive));
                let loaded = loading.await.unwrap_or_else(|_| Err("it took too long".to_owned()));
                loaded.map_err(|e| failed(format!("Failed to load image from `{archive}`: {e}")))?;
            }
            _ => self.pull(&wanted, deadline).await?,
        }
        let found = self.find(image).await?;
        let found = found.ok_or_else(|| failed(format!("Failed to find image `{image}` after it was brought here")))?;
        self.uses(&found.id, image, task_id);
        Ok(found)
    }

    async fn find(&self, image: &str) -> Result<Option<Image>, DriverError> {
        match timely(self.docker.inspect_image(image)).await {
            Ok(found) => Ok(found.id.map(|id| Image { id, stop_signal: found.config.and_then(|c| c.stop_signal) })),
            Err(error) if meaning(&error) == Meaning::NotFound => Ok(None),
            Err(error) => Err(failed(format!("Failed to look for image `{image}`: {}", sentence(&error)))),
        }
    }

    async fn load(&self, dir: PathBuf, archive: &str) -> Result<(), String> {
        let path = archive.to_owned();
        let opening = tokio::task::spawn_blocking(move || {
            crate::beneath::Root::open(&dir).and_then(|root| root.open_file(&path)).map_err(|e| e.to_string())
        });
        let file = opening.await.map_err(|e| e.to_string())??;
        let bytes = tokio_util::io::ReaderStream::new(tokio::fs::File::from_std(file));
        let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
        let mut told = std::pin::pin!(self.docker.import_image_stream(options, bytes, None));
        while let Some(line) = told.next().await {
            line.map_err(|e| sentence(&e))?;
        }
        Ok(())
    }

    async fn pull(&self, wanted: &Wanted<'_>, deadline: Instant) -> Result<(), DriverError> {
        let image = wanted.image;
        let credentials = match auth::find(&self.options.auth, wanted.auth, image).await {
            Ok(found) => found,
            Err(error) if wanted.auth_soft_fail => {
                tracing::debug!(image, error, "no registry credentials, pulling without");
                None
            }
            Err(error) => return Err(failed(format!("Failed to find credentials for `{image}`: {error}"))),
        };
        wanted.notes.say("Downloading image");
        let anonymous_too = wanted.auth_soft_fail && credentials.is_some();
        let mut outcome = self.join_pull(wanted, credentials, deadline).await;
        if outcome.is_err() && anonymous_too {
            outcome = self.join_pull(wanted, None, deadline).await;
        }
        outcome.map_err(|e| failed(format!("Failed to pull `{image}`: {e}")))
    }

    /// Waits for the one pull of this image, which is begun when there is none.
    async fn join_pull(
        &self,
        wanted: &Wanted<'_>,
        credentials: Option<DockerCredentials>,
        deadline: Instant,
    ) -> Result<(), String> {
        let pull = self.pull_of(wanted.image, credentials);
        let mut outcome = pull.outcome.clone();
        let (mut pause, mut news) = (NEWS_FIRST, Instant::now() + NEWS_FIRST);
        loop {
            tokio::select! {
                done = outcome.wait_for(Option::is_some) => {
                    return match done.map(|o| o.clone()) {
                        Ok(Some(result)) => result,
                        _ => Err("the pull was cancelled".to_owned()),
                    };
                }
                () = tokio::time::sleep_until(deadline) => {
                    return Err(format!("not complete after {}s", wanted.timeout.as_secs()));
                }
                () = tokio::time::sleep_until(news) => {
                    wanted.notes.say(locked(&pull.progress).to_string());
                    pause = (pause * 2).min(NEWS_MAX);
                    news += pause;
                }
            }
        }
    }

    fn pull_of(&self, image: &str, credentials: Option<DockerCredentials>) -> Arc<Pull> {
        let who = credentials.as_ref().and_then(|c| serde_json::to_string(c).ok());
        let key = (image.to_owned(), who);
        let mut table = locked(&self.table);
        table.pulls.retain(|_, pull| pull.strong_count() > 0);
        let going = table.pulls.get(&key).and_then(Weak::upgrade);
        // One that has ended answered those who waited; later comers ask anew.
        if let Some(pull) = going.filter(|pull| pull.outcome.borrow().is_none()) {
            return pull;
        }
        let (tx, outcome) = watch::channel(None);
        let progress = Arc::<Mutex<Progress>>::default();
        let work = run(self.docker.clone(), image.to_owned(), credentials, Arc::clone(&progress), self.options.clone());
        let task = tokio::spawn(async move {
            let result = work.await;
            tx.send_replace(Some(result));
        });
        let pull = Arc::new(Pull { outcome, progress, abort: task.abort_handle() });
        table.pulls.insert(key, Arc::downgrade(&pull));
        pull
    }

    /// Notes that a task uses an image, also when it was found again.
    pub fn uses(&self, id: &str, reference: &str, task_id: &str) {
        let mut table = locked(&self.table);
        let users = table.users.entry(id.to_owned()).or_default();
        users.tasks.insert(task_id.to_owned());
        let known = !users.references.insert(reference.to_owned());
        users.uses += 1;
        drop(table);
        if !known {
            self.note_down();
        }
    }

    /// The task uses the image no more. The last one's leave has it removed after a while.
    pub fn release(&self, id: &str, task_id: &str) {
        let uses = {
            let mut table = locked(&self.table);
            let Some(users) = table.users.get_mut(id) else { return };
            users.tasks.remove(task_id);
            if !users.tasks.is_empty() {
                return;
            }
            if !self.options.gc.image {
                table.users.remove(id);
                return;
            }
            users.uses
        };
        self.collect_later(id, uses);
    }

    fn collect_later(&self, id: &str, uses: u64) {
        let (images, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(images.options.gc.image_delay).await;
            images.collect(&id, uses).await;
        });
    }

    /// Removes an image that nobody uses, nor has used since.
    async fn collect(&self, id: &str, uses: u64) {
        let references = {
            let mut table = locked(&self.table);
            match table.users.get(id) {
                Some(users) if users.tasks.is_empty() && users.uses == uses => {}
                _ => return,
            }
            table.users.remove(id).map(|users| users.references).unwrap_or_default()
        };
        for reference in references {
            // The tag may name another image by now.
            let same = matches!(self.find(&reference).await, Ok(Some(found)) if found.id == id);
            let name = if same { reference.as_str() } else { id };
            self.remove(name).await;
        }
        self.note_down();
    }

    async fn remove(&self, name: &str) {
        for attempt in 1..=REMOVE_TRIES {
            let options = RemoveImageOptions { force: false, noprune: false, ..RemoveImageOptions::default() };
            match timely(self.docker.remove_image(name, Some(options), None)).await {
                Ok(_) => {
                    tracing::info!(image = name, "removed an image nobody uses");
                    return;
                }
                Err(error) if matches!(meaning(&error), Meaning::NotFound | Meaning::Conflict) => return,
                Err(error) if attempt == REMOVE_TRIES => {
                    tracing::warn!(image = name, error = sentence(&error), "unused image is not removed");
                }
                Err(_) => tokio::time::sleep(REMOVE_PAUSE).await,
            }
        }
    }
}

/// One pull, from beginning to end.
async fn run(
    docker: Docker,
    image: String,
    credentials: Option<DockerCredentials>,
    progress: Arc<Mutex<Progress>>,
    options: Arc<Options>,
) -> Result<(), String> {
    let (name, tag) = split(&image);
    let asked = CreateImageOptionsBuilder::new().from_image(name).tag(tag).build();
    let mut told = std::pin::pin!(docker.create_image(Some(asked), None, credentials));
    let idle_max = options.pull_activity_timeout;
    let mut quiet_since = Instant::now();
    loop {
        let Ok(line) = tokio::time::timeout_at(quiet_since + idle_max, told.next()).await else {
            return Err(format!("no progress for {}s", idle_max.as_secs_f32()));
        };
        match line {
            None => return Ok(()),
            Some(Err(error)) => return Err(sentence(&error)),
            Some(Ok(line)) => {
                if locked(&progress).take(line) {
                    quiet_since = Instant::now();
                }
            }
        }
    }
}

/// How far a pull has come, by layer.
#[derive(Default)]
struct Progress {
    layers: BTreeMap<String, Layer>,
}

#[derive(Default, PartialEq, Eq)]
struct Layer {
    status: String,
    current: i64,
    total: i64,
    done: bool,
}

impl Progress {
    /// True when something has moved on.
    fn take(&mut self, line: CreateImageInfo) -> bool {
        let Some(id) = line.id.filter(|_| self.layers.len() < LAYERS_MAX) else { return true };
        let status = line.status.unwrap_or_default();
        // The line about the whole: its id is the tag.
        if status.starts_with("Pulling from") {
            return true;
        }
        let before = self.layers.entry(id).or_default();
        let detail = line.progress_detail.unwrap_or_default();
        let now = Layer {
            current: detail.current.unwrap_or(0),
            total: detail.total.unwrap_or(before.total),
            done: before.done || matches!(status.as_str(), "Pull complete" | "Already exists"),
            status,
        };
        let moved = *before != now;
        *before = now;
        moved
    }
}

impl std::fmt::Display for Progress {
    #[allow(clippy::cast_precision_loss)]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |n: i64| n as f64 / f64::from(1 << 20);
        let sized = self.layers.values().filter(|layer| layer.total > 0);
        let (have, total) = sized.fold((0, 0), |(have, total), layer| {
            let has = if layer.done { layer.total } else { layer.current };
            (have + has, total + layer.total)
        });
        let done = self.layers.values().filter(|layer| layer.done).count();
        let all = self.layers.len();
        write!(f, "Image pull progress: {done} of {all} layers, {:.1} of {:.1} MiB", mib(have), mib(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    #[test]
    fn a_reference_is_split_into_name_and_tag_docker_01_docker_02() {
        for (image, name, tag) in [
            ("busybox", "busybox", "latest"),
            ("a/b:1", "a/b", "1"),
            ("127.0.0.1:5000/b", "127.0.0.1:5000/b", "latest"),
            ("127.0.0.1:5000/b:2", "127.0.0.1:5000/b", "2"),
            ("b@sha256:00", "b", "sha256:00"),
        ] {
            assert_eq!(split(image), (name, tag), "{image}");
        }
        assert!(is_fixed("b:1") && is_fixed("b@sha256:00") && !is_fixed("b") && !is_fixed("b:latest"));
    }

    #[test]
    fn progress_is_what_moves() {
        let line = |status: &str, current| CreateImageInfo {
            id: Some("l1".into()),
            status: Some(status.into()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(2 << 20) }),
            ..CreateImageInfo::default()
        };
        let mut progress = Progress::default();
        let id = Some("latest".to_owned());
        assert!(progress.take(CreateImageInfo { id, ..line("Pulling from a/b", 0) }));
        assert!(progress.take(line("Downloading", 1 << 20)));
        assert!(!progress.take(line("Downloading", 1 << 20)));
        assert_eq!(progress.to_string(), "Image pull progress: 0 of 1 layers, 1.0 of 2.0 MiB");
        assert!(progress.take(line("Pull complete", 0)));
        assert_eq!(progress.to_string(), "Image pull progress: 1 of 1 layers, 2.0 of 2.0 MiB");
    }
}
