//! The types and the committed schemas give the same verdict on every line, save for what a schema cannot see: a known
//! key twice, and depth. What is refused is explained, and no error says what stood there.

mod support;

use std::sync::LazyLock;

use crawlwire_protocol::explain::explain;
use crawlwire_protocol::limits::NESTING_MAX;
use crawlwire_protocol::{
    CrawlerMessage, DecodeError, DecodeErrorKind, Decoded, Dialect, WebAppMessage, decode, encode, peek,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use support::fields::fields;
use support::generate::{ByteChange, Change, MARKER, byte_change, change, message, space};
use support::json::Json;
use support::{Schemas, Side};

static CRAWLER: LazyLock<Schemas> = LazyLock::new(|| Schemas::of::<CrawlerMessage>(Dialect::Base));
static WEB_APP: LazyLock<Schemas> = LazyLock::new(|| Schemas::of::<WebAppMessage>(Dialect::Base));
static SESSION_CRAWLER: LazyLock<Schemas> = LazyLock::new(|| Schemas::of::<CrawlerMessage>(Dialect::Session));
static SESSION_SERVER: LazyLock<Schemas> = LazyLock::new(|| Schemas::of::<WebAppMessage>(Dialect::Session));

/// At least this many cases; `PROPTEST_CASES` may ask for more.
fn cases(least: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: config.cases.max(least),
        ..config
    }
}

/// A good message of any type of a direction and ways to change it.
fn changed(schemas: &'static Schemas) -> impl Strategy<Value = (Json, Vec<Change>)> {
    let names: Vec<_> = schemas.messages.keys().copied().collect();
    select(names).prop_flat_map(|name| {
        let (schema, _) = &schemas.messages[name];
        let keys = fields(schema)
            .iter()
            .map(|field| Json::text(field.name()).print(""))
            .collect();
        (message(schema), vec(change(keys), 0..4))
    })
}

/// Holds every judge against the others and against a parser of our own, and hands back what the types say.
fn judge<M: Side>(schemas: &Schemas, line: &[u8]) -> Result<Result<Decoded<M>, DecodeError>, TestCaseError> {
    let decoded = decode::<M>(line, schemas.dialect);
    let known = matches!(decoded, Ok(Decoded::Known(_)));
    let violations = explain::<M>(line, schemas.dialect);
    prop_assert_eq!(known, violations.is_empty(), "explain says {:?}", violations);
    let error = decoded.as_ref().err();
    let told = format!(
        "{violations:?} {error:?} {}",
        error.map_or(String::new(), ToString::to_string)
    );
    let json = std::str::from_utf8(line).ok().and_then(Json::parse);
    // The key of an entry of a map names a place, so a key may be told.
    let may_tell = json.as_ref().is_some_and(|json| json.has_key_with(MARKER));
    prop_assert!(may_tell || !told.contains(MARKER), "{}", told);

    let kind = error.map(|error| error.kind);
    if std::str::from_utf8(line).is_err() {
        prop_assert_eq!(kind, Some(DecodeErrorKind::NotUtf8));
        return Ok(decoded);
    }
    let Some(json) = json else {
        prop_assert!(
            matches!(kind, Some(DecodeErrorKind::NotJson | DecodeErrorKind::TooDeep)),
            "not JSON: {:?}",
            kind
        );
        return Ok(decoded);
    };
    if json.depth() > NESTING_MAX {
        prop_assert_eq!(kind, Some(DecodeErrorKind::TooDeep));
        return Ok(decoded);
    }
    prop_assert!(
        matches!(kind, None | Some(DecodeErrorKind::Invalid)),
        "JSON: {:?}",
        kind
    );
    let (message, bundle) = (schemas.message_accepts(line), schemas.bundle_accepts(line));
    prop_assert_eq!(message, bundle, "message schema, bundle");
    if json.has_a_key_twice() {
        prop_assert!(message || !known, "the types accept what the schema refuses");
    } else {
        prop_assert_eq!(known, message, "types, schema");
    }
    Ok(decoded)
}

/// What was accepted is written in one form, which is read back as the same.
fn comes_back<M: Side>(dialect: Dialect, decoded: Result<Decoded<M>, DecodeError>) -> Result<(), TestCaseError> {
    let Ok(Decoded::Known(envelope)) = decoded else {
        return Ok(());
    };
    let line = encode(&envelope).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let Ok(Decoded::Known(again)) = decode::<M>(&line, dialect) else {
        return Err(TestCaseError::fail(format!(
            "refuses its own {}",
            String::from_utf8_lossy(&line)
        )));
    };
    prop_assert_eq!(&envelope, &again);
    prop_assert_eq!(encode(&again).ok(), Some(line));
    Ok(())
}

/// The verdict does not depend on the order of keys: `data` first takes the other way through the decoder.
fn data_first<M: Side>(schemas: &Schemas, mut json: Json, space: &str) -> Result<(), TestCaseError> {
    let kind = |json: &Json| {
        decode::<M>(json.print(space).as_bytes(), schemas.dialect)
            .map(|_| ())
            .map_err(|error| error.kind)
    };
    let before = kind(&json);
    if let Json::Object(members) = &mut json {
        members.sort_by_key(|(key, _)| key != "\"data\"");
    }
    prop_assert_eq!(before, kind(&json), "data first");
    judge::<M>(schemas, json.print(space).as_bytes()).map(|_| ())
}

/// A look at a good line finds what reading it finds.
fn peek_finds_the_same<M: Side>(line: &[u8], decoded: &Result<Decoded<M>, DecodeError>) -> Result<(), TestCaseError> {
    let Ok(Decoded::Known(envelope)) = decoded else {
        return Ok(());
    };
    let peeked = peek(line);
    prop_assert_eq!(peeked.type_name.as_deref(), Some(M::name_of(envelope.message.kind())));
    prop_assert_eq!(peeked.seq, envelope.marks.seq);
    prop_assert_eq!(&peeked.job_id, &envelope.job_id);
    Ok(())
}

fn agree<M: Side>(
    schemas: &Schemas,
    (mut json, changes): (Json, Vec<Change>),
    space: &str,
    bytes: &[ByteChange],
) -> Result<(), TestCaseError> {
    let good = json.print(space);
    let decoded = judge::<M>(schemas, good.as_bytes())?;
    peek_finds_the_same(good.as_bytes(), &decoded)?;
    prop_assert!(
        matches!(decoded, Ok(Decoded::Known(_))),
        "a good message is refused: {:?}",
        decoded
    );
    for change in changes {
        change.apply(&mut json);
    }
    let mut line = json.print(space).into_bytes();
    comes_back(schemas.dialect, judge::<M>(schemas, &line)?)?;
    data_first::<M>(schemas, json, space)?;
    for change in bytes {
        change.apply(&mut line);
    }
    judge::<M>(schemas, &line).map(|_| ())
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn types_and_schemas_agree_on_what_crawlers_say(
        case in changed(&CRAWLER),
        space in space(),
        bytes in vec(byte_change(), 0..3),
    ) {
        agree::<CrawlerMessage>(&CRAWLER, case, space, &bytes)?;
    }

    #[test]
    fn types_and_schemas_agree_on_what_the_web_app_says(
        case in changed(&WEB_APP),
        space in space(),
        bytes in vec(byte_change(), 0..3),
    ) {
        agree::<WebAppMessage>(&WEB_APP, case, space, &bytes)?;
    }

    #[test]
    fn types_and_schemas_agree_on_what_crawlers_say_in_a_session(
        case in changed(&SESSION_CRAWLER),
        space in space(),
        bytes in vec(byte_change(), 0..3),
    ) {
        agree::<CrawlerMessage>(&SESSION_CRAWLER, case, space, &bytes)?;
    }

    #[test]
    fn types_and_schemas_agree_on_what_the_server_says_in_a_session(
        case in changed(&SESSION_SERVER),
        space in space(),
        bytes in vec(byte_change(), 0..3),
    ) {
        agree::<WebAppMessage>(&SESSION_SERVER, case, space, &bytes)?;
    }

    #[test]
    fn any_bytes_are_survived(line in vec(any::<u8>(), 0..200)) {
        judge::<CrawlerMessage>(&CRAWLER, &line)?.ok();
        judge::<WebAppMessage>(&WEB_APP, &line)?.ok();
        judge::<CrawlerMessage>(&SESSION_CRAWLER, &line)?.ok();
        judge::<WebAppMessage>(&SESSION_SERVER, &line)?.ok();
        peek(&line);
    }

    #[test]
    fn any_tokens_are_survived(tokens in vec(select(TOKENS), 0..40)) {
        let line = tokens.concat();
        judge::<CrawlerMessage>(&CRAWLER, line.as_bytes())?.ok();
        judge::<WebAppMessage>(&WEB_APP, line.as_bytes())?.ok();
        judge::<CrawlerMessage>(&SESSION_CRAWLER, line.as_bytes())?.ok();
        judge::<WebAppMessage>(&SESSION_SERVER, line.as_bytes())?.ok();
    }
}

const TOKENS: &[&str] = &[
    "{",
    "{",
    "}",
    "}",
    "[",
    "]",
    ",",
    ",",
    ":",
    ":",
    "\"type\"",
    "\"timestamp\"",
    "\"data\"",
    "\"job_id\"",
    "\"heartbeat\"",
    "\"shutdown\"",
    "\"ping\"",
    "\"job_resume\"",
    "\"checkpoint\"",
    "\"cursor\"",
    "\"seq\"",
    "\"fence\"",
    "\"t\"",
    "null",
    "true",
    "1",
    "-",
    "1e400",
    "\"\\ud800\"",
    "\"",
    "\\",
    " ",
    "\r",
];
