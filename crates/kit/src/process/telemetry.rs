//! Log lines on stderr: for people, or as JSON.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use super::StartError;

/// Libraries whose own logging is finer than ours at the same level; a filter that names one wins.
const QUIET: &str = "openraft=warn,hyper=warn,rustls=warn,foca=warn";

/// Installs the process's subscriber. A second call changes nothing, so tests may call it.
///
/// # Errors
/// `filter` is not a filter.
pub fn init(filter: &str, json: bool) -> Result<(), StartError> {
    let filter =
        EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|_| StartError::LogFilter(filter.to_owned()))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_timer(SystemTime);
    // Fails only if a subscriber is installed already.
    let _ = if json {
        lines.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init()
    };
    Ok(())
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
