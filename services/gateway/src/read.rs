//! How fresh is the answer to a read, and when is it given?
//!
//! ```text
//!   stale    ─► the replica as it is
//!   default  ─► ask the leader for a read index ─► wait until the replica has reached it
//!   index=n  ─► then wait until the thing asked for changed after n, or the wait is over
//! ```
//!
//! Fails with the reference's words: while nobody leads it is 500 `No cluster leader`, with `Retry-After` and within a
//! second where a state server says that there is no leader (`client::state`); a leader that is there has 5 s. A replica that does not come up to the read index in
//! time says 503, and another gateway may be asked.

use std::sync::Arc;
use std::time::Duration;

use client::state::Patience;
use model::Index;
use tokio::time::Instant;

use crate::answer::Meta;
use crate::app::App;
use crate::blocking::{Key, Seen, View};
use crate::errors::ApiError;
use crate::options::Options;

/// How long a default read is held: for a leader that is slow, and while there is none. An election takes less.
pub const LEADER_HOLD: Patience = Patience { within: Duration::from_secs(5), leaderless: LEADERLESS };
/// Answers without a leader come within a second, where a state server says that there is none.
pub const LEADERLESS: Duration = Duration::from_millis(800);
/// How long a first copy of the state is waited for.
const FIRST_COPY: Duration = Duration::from_secs(5);
/// How long the replica may take to come up to a read index.
const CATCH_UP: Duration = Duration::from_secs(5);
/// A source that was silent for longer is not in contact with the leader.
const CONTACT_MAX: Duration = Duration::from_secs(3);

/// A view that is fresh enough, once the thing asked for is newer than the caller's index.
///
/// # Errors
/// There is no leader, the replica lags, or too many queries wait.
pub async fn read(
    app: &App,
    options: &Options,
    key: Key,
    look: impl Fn(&View) -> Seen,
) -> Result<(Arc<View>, Meta), ApiError> {
    let view = fresh(app, options.stale).await?;
    let (view, index) = if options.index.get() == 0 {
        let shown = look(&view).shown;
        (view, shown)
    } else {
        newer(app, options, key, view, look).await?
    };
    Ok((view, meta(app, options.stale, index)))
}

/// A view for a read that does not wait.
///
/// # Errors
/// There is no leader, or the replica lags.
pub async fn fresh(app: &App, stale: bool) -> Result<Arc<View>, ApiError> {
    if stale {
        app.replica
            .reached(Index(0), FIRST_COPY)
            .await
            .map_err(|_| ApiError::not_ready("this gateway has no copy of the state yet"))?;
        return Ok(app.watches.view());
    }
    let index = app.state.read_index(LEADER_HOLD).await?;
    app.replica.committed(index, CATCH_UP).await.map_err(|lag| {
        tracing::warn!(at = lag.at.get(), wanted = lag.wanted.get(), "replica does not keep up");
        ApiError::not_ready("this gateway's copy of the state lags behind")
    })?;
    Ok(app.watches.view())
}

async fn newer(
    app: &App,
    options: &Options,
    key: Key,
    view: Arc<View>,
    look: impl Fn(&View) -> Seen,
) -> Result<(Arc<View>, Index), ApiError> {
    let seen = look(&view);
    if seen.changed > options.index {
        return Ok((view, seen.shown));
    }
    let _permit =
        app.watches.may_wait().ok_or_else(|| ApiError::too_many("too many blocking queries, try again later"))?;
    let waiter = app.watches.enlist(key);
    let deadline = Instant::now() + options.wait + jitter(options.wait);
    let found = waiter.until(deadline, |view| {
        let seen = look(view);
        (seen.changed > options.index).then(|| (Arc::clone(view), seen.shown))
    });
    if let Some(Some(found)) = app.shutdown.or(found).await {
        return Ok(found);
    }
    // Nothing new: the caller's own index again, unless it is from the future.
    let view = app.watches.view();
    let index = if options.index <= view.state.index() { options.index } else { look(&view).shown };
    Ok((view, index))
}

/// Between nothing and a sixteenth of the wait, so that a crowd does not come back as one.
fn jitter(wait: Duration) -> Duration {
    wait.mul_f64(crate::app::random_unit() / 16.0)
}

pub fn meta(app: &App, stale: bool, index: Index) -> Meta {
    if !stale {
        return Meta { index, known_leader: true, last_contact: Duration::ZERO, next_token: None };
    }
    let last_contact = app.replica.contact_age();
    Meta { index, known_leader: last_contact < CONTACT_MAX, last_contact, next_token: None }
}
