//! The command line from the outside: words in, text and an exit code out, an API that is made up; and
//! `dev` as a process.
//! One program, because linking every service takes a while.
#![allow(clippy::unwrap_used)]

mod changes;
mod completion;
mod dev;
mod everyday;
mod fake;
mod help;
mod job_changes;
mod job_files;
mod lists;
mod operate;
mod operator;
mod reference;
mod restart;
mod trust;
mod watch_log;
