//! Every line of the conformance corpora gets its verdict from the types, from both kinds of schema file, and from
//! `explain`.

mod support;

use crawlwire_protocol::explain::explain;
use crawlwire_protocol::{CrawlerMessage, Decoded, Dialect, Message, WebAppMessage, decode};
use serde::Deserialize;
use support::{Schemas, Side};

const BASE: &str = include_str!("fixtures/base/conformance.jsonl");
const SESSION: &str = include_str!("fixtures/session/conformance.jsonl");

#[derive(Deserialize)]
struct Row {
    id: String,
    direction: String,
    line: String,
    accept: bool,
    why: String,
}

/// Who says what of a line.
fn verdicts<M: Side>(schemas: &Schemas, line: &str) -> [(&'static str, bool); 4] {
    let (bytes, dialect) = (line.as_bytes(), schemas.dialect);
    [
        ("types", matches!(decode::<M>(bytes, dialect), Ok(Decoded::Known(_)))),
        ("message schema", schemas.message_accepts(bytes)),
        ("bundle", schemas.bundle_accepts(bytes)),
        ("explain", explain::<M>(bytes, dialect).is_empty()),
    ]
}

/// What a schema does not see of a line: a known key twice, depth. The base corpus has neither.
fn beyond_schemas(row: &Row, dialect: Dialect) -> bool {
    dialect == Dialect::Session && (row.id.ends_with("-twice") || row.id.ends_with("too-deep"))
}

/// Holds all judges against a corpus and says how many lines it has to accept and to refuse.
fn judge(corpus: &str, dialect: Dialect) -> (u32, u32) {
    let (crawler, web_app) = (
        Schemas::of::<CrawlerMessage>(dialect),
        Schemas::of::<WebAppMessage>(dialect),
    );
    let (mut accepted, mut refused, mut wrong) = (0, 0, Vec::new());
    for text in corpus.lines() {
        let row: Row = serde_json::from_str(text).expect("a row of the corpus");
        let verdicts = match row.direction.as_str() {
            CrawlerMessage::NAME => verdicts::<CrawlerMessage>(&crawler, &row.line),
            WebAppMessage::NAME => verdicts::<WebAppMessage>(&web_app, &row.line),
            other => panic!("no direction is called {other}"),
        };
        for (judge, verdict) in verdicts {
            let blind = ["message schema", "bundle"].contains(&judge) && beyond_schemas(&row, dialect);
            if verdict != row.accept && !blind {
                wrong.push(format!(
                    "{judge} said {verdict}: {} ({})\n    {}",
                    row.id, row.why, row.line
                ));
            }
        }
        if row.accept { accepted += 1 } else { refused += 1 }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong verdicts:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    (accepted, refused)
}

#[test]
fn all_four_judges_give_the_verdict_of_the_base_corpus() {
    assert_eq!(judge(BASE, Dialect::Base), (414, 593));
}

#[test]
fn all_four_judges_give_the_verdict_of_the_session_corpus() {
    assert_eq!(judge(SESSION, Dialect::Session), (571, 1080));
}

#[test]
fn the_base_dialect_knows_no_type_of_the_extension() {
    let mut lines = 0;
    for text in SESSION.lines() {
        let row: Row = serde_json::from_str(text).expect("a row of the corpus");
        let crawler = decode::<CrawlerMessage>(row.line.as_bytes(), Dialect::Session);
        let Ok(Decoded::Known(envelope)) = crawler else {
            continue;
        };
        if CrawlerMessage::is_extension(envelope.message.kind()) {
            lines += 1;
            let base = decode::<CrawlerMessage>(row.line.as_bytes(), Dialect::Base);
            assert!(matches!(base, Ok(Decoded::Custom(_))), "{}", row.line);
        }
    }
    assert!(lines > 200);
}
