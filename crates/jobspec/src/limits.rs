//! Every bound of the crate, in one place. A job file is untrusted input to the gateway.
//!
//! The parser below (`hcl-edit`) bounds nesting itself (64 levels, 128 chained operators), but
//! looks object keys up linearly: hence [`OBJECT_ITEMS`], checked before it sees the text.

/// Bytes of the job file, and of each variable file.
pub const SOURCE_BYTES: usize = 2 * 1024 * 1024;
/// Variable files, `-var` values and environment values taken together.
pub const VARIABLE_TEXTS: usize = 4096;
/// Open brackets, braces, parentheses, quotes and templates around one token.
pub const NESTING: usize = 100;
/// Bytes of memory that the trees of one text may take, as guessed from its tokens.
pub const TREE: u64 = 44 * 1024 * 1024;
/// Items written out in one `{ … }` literal.
pub const OBJECT_ITEMS: usize = 1500;
/// Items of all `{ … }` literals of one text, squared per literal and summed.
pub const OBJECT_WORK: usize = 8_000_000;
/// What one node of a value weighs besides its text, about its size in memory.
pub const NODE_WEIGHT: u64 = 48;
/// Logical size of one value: bytes of text plus [`NODE_WEIGHT`] per node.
pub const VALUE_WEIGHT: u64 = 8 * 1024 * 1024;
/// Nesting of one value.
pub const VALUE_DEPTH: u32 = 100;
/// Work of one parse: 16 per expression evaluated, plus the weight of every value built.
pub const WORK: u64 = 192 * 1024 * 1024;
/// What a field of a decoded block weighs, about its size in memory.
pub const FIELD_WEIGHT: u64 = 96;
/// Weight of all values that end up in the job.
pub const OUTPUT: u64 = 26 * 1024 * 1024;
/// Blocks decoded in one parse, counting what `dynamic` blocks expand to.
pub const BLOCKS: usize = 100_000;
/// Elements `range` may return; the reference has the same limit.
pub const RANGE: usize = 1024;
/// Width and precision of a `format` verb.
pub const FORMAT_WIDTH: usize = 64 * 1024;
/// `bcrypt` cost: each step doubles the time.
pub const BCRYPT_COST: u32 = 12;
/// Findings reported for one parse.
pub const DIAGNOSTICS: usize = 100;
/// Bytes of one compiled regular expression.
pub const REGEX_BYTES: usize = 256 * 1024;
