//! How does a follower know that it was told all that the cluster's state is made of? Each line of the feed says which line
//! it comes after, on which line of history, and what the hash of all changes, as they were written, is with it. That what
//! was told was also understood is the codec's law (`tests/laws`: histories are followed through their text).

use model::Index;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::change::FeedLine;
use crate::hash;
use crate::state::State;

/// The line does not continue this copy; nothing was changed. Start from a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("a line of the feed cannot be read: {0}")]
    NoLine(#[from] serde_json::Error),
    #[error("line {index} comes after {previous}, the copy is at {at}")]
    Gap { index: Index, previous: Index, at: Index },
    #[error("line {index} is of another line of history")]
    OtherEpoch { index: Index },
    #[error("line {index} says hash {theirs}, the copy comes to {ours}")]
    Diverged { index: Index, theirs: String, ours: String },
    #[error("line {index} has no readable hash")]
    BadHash { index: Index },
}

/// The changes of a line as they were written, which is what the hash is of.
#[derive(Deserialize)]
struct AsWritten<'a> {
    #[serde(rename = "c", borrow, default)]
    changes: Option<&'a RawValue>,
}

impl State {
    /// Applies one line of the feed, as it came. The hash is checked by copies that hold all tables, over the text;
    /// others take it over, and leave out changes of tables they do not hold.
    ///
    /// # Errors
    /// See [`FollowError`]; the copy is as it was before.
    pub fn follow(&mut self, text: &[u8]) -> Result<FeedLine, FollowError> {
        let line: FeedLine = serde_json::from_slice(text)?;
        let index = line.index;
        if line.previous != self.index || index <= self.index {
            return Err(FollowError::Gap { index, previous: line.previous, at: self.index });
        }
        if !self.cluster.epoch.is_empty() && line.epoch != self.cluster.epoch {
            return Err(FollowError::OtherEpoch { index });
        }
        let theirs = hash::parse(&line.hash).ok_or(FollowError::BadHash { index })?;
        if self.followed.is_none() {
            let written: AsWritten = serde_json::from_slice(text)?;
            let ours = written.changes.map_or(self.hash, |changes| hash::roll_list(self.hash, changes.get()));
            if ours != theirs {
                return Err(FollowError::Diverged { index, theirs: line.hash, ours: hash::text(ours) });
            }
        }
        for change in &line.changes {
            if self.follows(change.table()) {
                self.commit(index, change);
            }
        }
        self.cluster.epoch.clone_from(&line.epoch);
        self.index = index;
        self.hash = theirs;
        Ok(line)
    }
}
