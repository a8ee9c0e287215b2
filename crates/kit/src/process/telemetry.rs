//! Log lines on stderr: for people, or as JSON. Besides, to whoever reads along: [`super::tap`].

use std::io;
use std::sync::OnceLock;

use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

use super::StartError;
use super::tap::Tap;

/// Libraries whose own logging is finer than ours at the same level; a filter that names one wins.
const QUIET: &str = "openraft=warn,hyper=warn,rustls=warn,foca=warn";

/// Changes the filter of the subscriber that is installed.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), StartError> + Send + Sync>;
static FILTER: OnceLock<SetFilter> = OnceLock::new();
static TAP: OnceLock<Tap> = OnceLock::new();

/// Where this process's lines are read as they are written.
pub fn tap() -> &'static Tap {
    TAP.get_or_init(Tap::default)
}

fn filter_of(filter: &str) -> Result<EnvFilter, StartError> {
    EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|_| StartError::LogFilter(filter.to_owned()))
}

/// Installs the process's subscriber. A second call changes nothing, so tests may call it.
///
/// # Errors
/// `filter` is not a filter.
pub fn init(filter: &str, json: bool) -> Result<(), StartError> {
    let (filter, handle) = reload::Layer::new(filter_of(filter)?);
    let set = move |filter| handle.reload(filter).map_err(|e| StartError::LogFilter(e.to_string()));
    // Whoever reads the lines may be gone; that is no reason to end.
    let lines =
        tracing_subscriber::fmt::layer().with_writer(io::stderr).with_timer(SystemTime).log_internal_errors(false);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).with_filter(filter).boxed()
    } else {
        lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).with_filter(filter).boxed()
    };
    let mut layers = tap().layers::<Registry>();
    layers.push(lines);
    let installed = tracing_subscriber::registry().with(layers).try_init();
    // Fails only if a subscriber is installed already.
    if installed.is_ok() {
        let _ = FILTER.set(Box::new(set));
    }
    Ok(())
}

/// Puts another filter in the place of the one that is used.
///
/// # Errors
/// It is not a filter, or nothing is installed.
pub fn set_filter(filter: &str) -> Result<(), StartError> {
    let set = FILTER.get().ok_or_else(|| StartError::LogFilter(filter.to_owned()))?;
    set(filter_of(filter)?)
}

/// Panics become log lines with their place; a panic in a handler or task ends that one only.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload().downcast_ref::<&str>().copied();
        let text = text.or_else(|| info.payload().downcast_ref::<String>().map(String::as_str)).unwrap_or("?");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(panic = text, place, thread = thread.name().unwrap_or("?"), "panicked");
    }));
}
