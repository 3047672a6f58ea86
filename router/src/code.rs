//! The codes of errors: what a peer of the session dialect is told of a line without effect, by a stable name. The page
//! of the session protocol says of each what to do. Beside them there are those of the lines that are no messages
//! ([`DecodeErrorKind`](crawlwire_protocol::DecodeErrorKind)), and handlers of users may have some of their own.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*

        /// All of them, in the order of declaration.
        pub const ALL: &[&str] = &[$($name,)*];
    };
}

codes! {
    /// Longer than a message may be.
    LINE_TOO_LONG = "line_too_long",
    /// The stream ended within a line.
    UNFINISHED_LINE = "unfinished_line",
    /// A rule of the protocol is broken.
    INVALID_MESSAGE = "invalid_message",
    /// Nobody handles the type.
    UNKNOWN_TYPE = "unknown_type",
    /// A number before this one has not come.
    SEQUENCE_GAP = "sequence_gap",
    /// Another line came under this number before.
    SEQUENCE_CONFLICT = "sequence_conflict",
    /// The lease is over.
    STALE = "stale",
    /// The session does not hold the job.
    NOT_HELD = "not_held",
    /// There is no such job.
    NOT_FOUND = "not_found",
    /// A handler, or the rules of a job's life, did not take it.
    REFUSED = "refused",
    /// Middleware did not take it.
    REFUSED_BY_MIDDLEWARE = "refused_by_middleware",
    /// The session has begun already.
    HELLO_EXPECTED_ONCE = "hello_expected_once",
    /// No version that both sides speak.
    UNSUPPORTED_VERSION = "unsupported_version",
    /// A token is needed here.
    AUTHENTICATION_REQUIRED = "authentication_required",
    /// No such token, or it was taken back.
    INVALID_TOKEN = "invalid_token",
    /// No such role, or not for this token.
    FORBIDDEN_ROLE = "forbidden_role",
    /// The instance belongs to somebody else.
    INSTANCE_TAKEN = "instance_taken",
    /// The role may not send this type.
    FORBIDDEN_TYPE = "forbidden_type",
    /// Nothing can be made durable now.
    DATABASE_UNAVAILABLE = "database_unavailable",
    /// A defect of this server.
    INTERNAL_ERROR = "internal_error",
}

/// The code with this name; [`REFUSED`] for those that handlers of users have.
pub(crate) fn named(name: &str) -> &'static str {
    let mut known = ALL.iter().copied();
    known.find(|code| *code == name).unwrap_or(REFUSED)
}
