//! `steppe agent`: one machine, as its configuration says.

pub mod load;
