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

/// The largest integer that every JSON reader holds exactly: 2^53 - 1.
pub const WHOLE_MAX: u64 = (1 << 53) - 1;

/// Bytes of a cursor as it stands on the wire: room for a position in every collection of a large project, and little
/// enough to be written with each checkpoint.
pub const CURSOR_BYTES_MAX: usize = 64 * 1024;

/// Leases that one message may list, and jobs that one crawler may ask for: far more than a process works on at a time.
pub const LEASES_MAX: usize = 1024;

/// Kinds of entities in the final counts of a stopped job.
pub const FINAL_COUNTS_MAX: usize = 1024;

/// Items of any other list of the session dialect: features, labels, hosts, job types.
pub const LIST_MAX: usize = 64;

/// Versions that a `hello` may offer.
pub const VERSIONS_MAX: usize = 16;

/// Characters of the token in a `hello`.
pub const TOKEN_CHARS_MAX: usize = 512;

/// The longest wait that `api_limited` may name: a day, in milliseconds.
pub const RETRY_AFTER_MS_MAX: u64 = 24 * 60 * 60 * 1000;
