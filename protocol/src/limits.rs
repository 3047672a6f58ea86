//! Every limit of the wire, with its reason.

/// Levels of nesting a line may have, unknown fields included.
///
/// Enough for any message we know (five levels) and for free-form data of later versions, and low enough that neither
/// we nor a recursive parser of a peer runs out of stack.
pub const NESTING_MAX: usize = 128;

/// Bytes of one line without its newline, unless configured otherwise (1 MiB, API reference line 313).
pub const LINE_BYTES_MAX_DEFAULT: usize = 1024 * 1024;

/// The largest count: 2^63 - 1, so that a count fits a signed 64-bit column of every database.
pub const COUNT_MAX: u64 = i64::MAX as u64;

/// Violations reported for one line. More would only repeat the same mistake over a long array.
pub const VIOLATIONS_MAX: usize = 100;

/// Characters of a message type that we keep of a type we do not know, for logs and counters.
pub const TYPE_NAME_CHARS_MAX: usize = 64;
