//! What a dialect does not know is nothing to it.

mod support;

use crawlwire_protocol::message::Heartbeat;
use crawlwire_protocol::{
    CrawlerMessage, Decoded, Dialect, Envelope, Mark, Marks, Message, WebAppMessage, decode, encode,
};
use support::{DIALECTS, Side, golden};

fn known<M: Side>(line: &str, dialect: Dialect) -> Envelope<M> {
    match decode::<M>(line.as_bytes(), dialect) {
        Ok(Decoded::Known(envelope)) => envelope,
        other => panic!("{line}: {other:?}"),
    }
}

/// Values that no mark and no field of the session dialect takes, and some that each takes.
const ANYTHING: [&str; 8] = [
    "null",
    "-1",
    "1e400",
    "\"\\ud800\"",
    "7",
    "[{\"job_id\":\"j\",\"fence\":1}]",
    "{}",
    "[]",
];

#[test]
fn the_base_dialect_ignores_the_fields_of_the_extension_whatever_they_hold() {
    fn side<M: Side>() {
        for line in golden::<M>(Dialect::Base) {
            let plain = known::<M>(line, Dialect::Base);
            assert_eq!(plain.marks, Marks::default());
            for value in ANYTHING {
                let marks: String = ["seq", "fence", "n"]
                    .map(|mark| format!("\"{mark}\":{value},"))
                    .concat();
                let fields: String = ["jobs", "checkpoint", "attempt"]
                    .map(|field| format!("\"{field}\":{value},"))
                    .concat();
                let with_fields = line.replace("\"data\":{", &format!("\"data\":{{{fields}{fields}"));
                for line in [
                    format!("{{{marks}{marks}{}", &with_fields[1..]),
                    format!(
                        "{},{}}}",
                        &with_fields[..with_fields.len() - 1],
                        marks.trim_end_matches(',')
                    ),
                ] {
                    assert_eq!(known::<M>(&line, Dialect::Base), plain, "{line}");
                }
            }
        }
    }
    side::<CrawlerMessage>();
    side::<WebAppMessage>();
}

#[test]
fn a_base_message_has_nothing_of_the_extension() {
    let line = r#"{"type":"heartbeat","timestamp":"t","data":{"active_jobs":0,"last_activity":"t","system_status":"idle","jobs":[]}}"#;
    let jobs = |dialect| match known::<CrawlerMessage>(line, dialect).message {
        CrawlerMessage::Heartbeat(Heartbeat { jobs, .. }) => jobs.map(|jobs| jobs.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!((jobs(Dialect::Base), jobs(Dialect::Session)), (None, Some(0)));
}

#[test]
fn each_type_asks_for_its_marks() {
    fn side<M: Side>() {
        for line in golden::<M>(Dialect::Session) {
            let whole = known::<M>(line, Dialect::Session);
            let kind = whole.message.kind();
            for (mark, without) in [
                (
                    Mark::Seq,
                    Marks {
                        seq: None,
                        ..whole.marks
                    },
                ),
                (
                    Mark::Fence,
                    Marks {
                        fence: None,
                        ..whole.marks
                    },
                ),
                (Mark::N, Marks { n: None, ..whole.marks }),
            ] {
                assert!(whole.marks.has(mark) && !without.has(mark));
                let line = encode(&Envelope {
                    marks: without,
                    ..whole.clone()
                })
                .expect("it can be written");
                let taken = matches!(decode::<M>(&line, Dialect::Session), Ok(Decoded::Known(_)));
                assert_eq!(taken, !M::marks(kind).contains(&mark), "{kind:?} without {mark:?}");
            }
        }
    }
    side::<CrawlerMessage>();
    side::<WebAppMessage>();
}

#[test]
fn the_types_of_a_dialect_are_found_by_their_names() {
    fn side<M: Side>() {
        for dialect in DIALECTS {
            for kind in M::KINDS {
                let known = dialect == Dialect::Session || !M::is_extension(*kind);
                assert_eq!(M::kind_named(M::name_of(*kind), dialect).is_some(), known);
                assert_eq!(M::kinds(dialect).any(|other| other == *kind), known);
                // What is settled by its number must say which lease it speaks for.
                assert!(!M::lasting(*kind) || M::needs_fence(*kind) && M::job_id_required(*kind));
            }
        }
    }
    side::<CrawlerMessage>();
    side::<WebAppMessage>();
    let base = |kinds: usize, extension: usize| (kinds - extension, extension);
    let extension = CrawlerMessage::KINDS
        .iter()
        .filter(|kind| CrawlerMessage::is_extension(**kind));
    assert_eq!(base(CrawlerMessage::KINDS.len(), extension.count()), (7, 12));
    let extension = WebAppMessage::KINDS
        .iter()
        .filter(|kind| WebAppMessage::is_extension(**kind));
    assert_eq!(base(WebAppMessage::KINDS.len(), extension.count()), (3, 12));
}

#[test]
fn an_unknown_type_keeps_its_number() {
    let line = br#"{"type":"job_archived","timestamp":"t","job_id":"j","seq":7,"fence":2,"data":{}}"#;
    let marks = |dialect| match decode::<CrawlerMessage>(line, dialect) {
        Ok(Decoded::Custom(custom)) => custom.marks,
        other => panic!("{other:?}"),
    };
    assert_eq!(marks(Dialect::Session).seq.map(|seq| seq.get()), Some(7));
    assert_eq!(marks(Dialect::Session).fence.map(|fence| fence.get()), Some(2));
    assert_eq!(marks(Dialect::Base), Marks::default());
    let broken = br#"{"type":"job_archived","timestamp":"t","seq":0,"data":{}}"#;
    assert!(decode::<CrawlerMessage>(broken, Dialect::Session).is_err());
    assert!(decode::<CrawlerMessage>(broken, Dialect::Base).is_ok());
}
