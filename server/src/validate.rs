//! `crawlwire validate`: judges lines of either dialect, one verdict per line, in constant memory.
//!
//! Each line that is not blank gives one JSON object: `{"line":1,"valid":true,"type":"heartbeat"}`, or
//! `{"line":2,"valid":false,"errors":[{"path":"/data/active_jobs","message":"…"}]}`. `line` counts the lines of the
//! input from 1, blank ones too. A line ends at `\n` alone; blank means nothing but JSON white space.

use std::io::{self, BufRead, BufWriter, ErrorKind, Write};

use crawlwire_protocol::explain::{Explain, Violation, explain};
use crawlwire_protocol::{CrawlerMessage, Decoded, Dialect, WebAppMessage, decode};
use serde::Serialize;

/// Bytes of the longest line that is judged, without its newline; a longer one is invalid, and skipped without being
/// held. Sixteen times what a server takes unless told otherwise, and small enough to hold on any machine.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Who sends the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// A crawler, to the server
    Crawler,
    /// The web application's side, that is the server, to a crawler
    WebApp,
}

/// Which dialect the lines are of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SpokenDialect {
    /// The one without a greeting
    #[default]
    Base,
    /// The one that begins with a hello
    Session,
}

impl From<SpokenDialect> for Dialect {
    fn from(dialect: SpokenDialect) -> Self {
        match dialect {
            SpokenDialect::Base => Self::Base,
            SpokenDialect::Session => Self::Session,
        }
    }
}

/// What was judged. Nothing invalid means that all is well, an empty input too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Lines judged; blank ones are not.
    pub lines: u64,
    /// Lines found invalid.
    pub invalid: u64,
}

/// Judges every line of `input` and writes the verdicts to `output`, flushing whenever it must wait for more input.
///
/// Any bytes are survived. When nobody reads the output any more, judging ends early and without an error.
///
/// # Errors
/// When the input cannot be read, or the output cannot be written for another reason than that its reader left.
pub fn run(dialect: Dialect, direction: Direction, input: impl BufRead, output: impl Write) -> io::Result<Outcome> {
    let judge = match direction {
        Direction::Crawler => judge::<CrawlerMessage>,
        Direction::WebApp => judge::<WebAppMessage>,
    };
    let mut run = Run {
        judge,
        dialect,
        output: BufWriter::new(output),
        number: 0,
        outcome: Outcome::default(),
    };
    match run.lines(input) {
        Err(Stop::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(run.outcome),
        Err(Stop::Input(error) | Stop::Output(error)) => Err(error),
        Ok(()) => Ok(run.outcome),
    }
}

/// Why judging ends before the input does.
enum Stop {
    Input(io::Error),
    Output(io::Error),
}

struct Run<W: Write> {
    judge: fn(&[u8], Dialect) -> Judgement,
    dialect: Dialect,
    output: BufWriter<W>,
    /// The line being read, from 1.
    number: u64,
    outcome: Outcome,
}

impl<W: Write> Run<W> {
    fn lines(&mut self, mut input: impl BufRead) -> Result<(), Stop> {
        let mut line = Line::default();
        loop {
            let available = match input.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                available => available.map_err(Stop::Input)?,
            };
            if available.is_empty() {
                self.end(&mut line).map_err(Stop::Output)?;
                return self.output.flush().map_err(Stop::Output);
            }
            for part in available.split_inclusive(|byte| *byte == b'\n') {
                match part.strip_suffix(b"\n") {
                    Some(last) => {
                        line.push(last);
                        self.end(&mut line).map_err(Stop::Output)?;
                    }
                    None => line.push(part),
                }
            }
            let length = available.len();
            input.consume(length);
            // The next read may wait for whoever writes the input, and they may wait for a verdict.
            self.output.flush().map_err(Stop::Output)?;
        }
    }

    /// Judges a line that is complete and makes room for the next.
    fn end(&mut self, line: &mut Line) -> io::Result<()> {
        self.number += 1;
        if !line.blank {
            let judgement = if line.length > LINE_BYTES_MAX {
                too_long()
            } else {
                (self.judge)(&line.held, self.dialect)
            };
            self.outcome.lines += 1;
            self.outcome.invalid += u64::from(!judgement.valid);
            serde_json::to_writer(
                &mut self.output,
                &Verdict {
                    line: self.number,
                    judgement,
                },
            )?;
            self.output.write_all(b"\n")?;
        }
        line.clear();
        Ok(())
    }
}

/// A line while it is read.
struct Line {
    /// What came so far; nothing of a line that is too long.
    held: Vec<u8>,
    length: usize,
    blank: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            length: 0,
            blank: true,
        }
    }
}

impl Line {
    fn push(&mut self, part: &[u8]) {
        self.blank = self.blank && part.iter().all(|byte| b" \t\r".contains(byte));
        self.length = self.length.saturating_add(part.len());
        if self.length <= LINE_BYTES_MAX {
            self.held.extend_from_slice(part);
        } else {
            self.held = Vec::new();
        }
    }

    fn clear(&mut self) {
        self.held.clear();
        (self.length, self.blank) = (0, true);
    }
}

/// One line of the output.
#[derive(Serialize)]
struct Verdict {
    line: u64,
    #[serde(flatten)]
    judgement: Judgement,
}

#[derive(Serialize)]
struct Judgement {
    valid: bool,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    type_name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Violation>,
}

fn judge<M: Explain>(line: &[u8], dialect: Dialect) -> Judgement {
    match decode::<M>(line, dialect) {
        Ok(decoded @ Decoded::Known(_)) => Judgement {
            valid: true,
            type_name: Some(decoded.type_name().to_owned()),
            errors: Vec::new(),
        },
        _ => Judgement {
            valid: false,
            type_name: None,
            errors: explain::<M>(line, dialect),
        },
    }
}

fn too_long() -> Judgement {
    let violation = Violation::new("", format!("longer than {LINE_BYTES_MAX} bytes"));
    Judgement {
        valid: false,
        type_name: None,
        errors: vec![violation],
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{BufReader, Read};
    use std::rc::Rc;

    use serde_json::{Value, json};

    use super::*;

    const HEARTBEAT: &str =
        r#"{"type":"heartbeat","timestamp":"t","data":{"active_jobs":1,"last_activity":"t","system_status":"idle"}}"#;
    const SHUTDOWN: &str = r#"{"type":"shutdown","timestamp":"t","data":{}}"#;

    fn verdicts(direction: Direction, input: impl BufRead) -> (Vec<Value>, Outcome) {
        let mut output = Vec::new();
        let outcome = run(Dialect::Base, direction, input, &mut output).unwrap();
        let lines = output.split_inclusive(|byte| *byte == b'\n');
        (
            lines.map(|line| serde_json::from_slice(line).unwrap()).collect(),
            outcome,
        )
    }

    #[test]
    fn a_verdict_is_one_line_in_the_promised_form() {
        let input = format!("{HEARTBEAT}\r\n\n \t\r\n{}\n{SHUTDOWN}", HEARTBEAT.replace('1', "-1"));
        let mut output = Vec::new();
        let outcome = run(Dialect::Base, Direction::Crawler, input.as_bytes(), &mut output).unwrap();
        let expected = r#"{"line":1,"valid":true,"type":"heartbeat"}
{"line":4,"valid":false,"errors":[{"path":"/data/active_jobs","message":"expected 0 or more"}]}
{"line":5,"valid":false,"errors":[{"path":"/type","message":"not a message type of this direction"}]}
"#;
        assert_eq!(String::from_utf8(output).unwrap(), expected);
        assert_eq!(outcome, Outcome { lines: 3, invalid: 2 });
    }

    #[test]
    fn each_direction_has_its_own_messages() {
        let input = format!("{HEARTBEAT}\n{SHUTDOWN}\n");
        let valid = |direction| -> Vec<bool> {
            verdicts(direction, input.as_bytes())
                .0
                .iter()
                .map(|verdict| verdict["valid"] == json!(true))
                .collect()
        };
        assert_eq!(valid(Direction::Crawler), [true, false]);
        assert_eq!(valid(Direction::WebApp), [false, true]);
    }

    #[test]
    fn every_line_that_is_not_blank_gets_one_verdict_in_order() {
        let pieces: [&[u8]; 6] = [b"\n", b" ", b"\t\r", b"{", b"\0\xff", SHUTDOWN.as_bytes()];
        for number in 0..pieces.len().pow(5) {
            let digits = (0..5).map(|place| number / pieces.len().pow(place) % pieces.len());
            let input = digits.map(|digit| pieces[digit]).collect::<Vec<_>>().concat();
            let lines = input.split(|byte| *byte == b'\n').enumerate();
            let expected: Vec<_> = lines
                .filter(|(_, line)| !line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')))
                .map(|(index, line)| (json!(index + 1), json!(line.trim_ascii() == SHUTDOWN.as_bytes())))
                .collect();
            for capacity in [1, 7, 4096] {
                let (verdicts, outcome) = verdicts(Direction::WebApp, BufReader::with_capacity(capacity, &input[..]));
                let found: Vec<_> = verdicts
                    .iter()
                    .map(|verdict| (verdict["line"].clone(), verdict["valid"].clone()))
                    .collect();
                assert_eq!(found, expected, "{}", input.escape_ascii());
                let invalid = expected.iter().filter(|(_, valid)| *valid == json!(false)).count();
                assert_eq!(
                    outcome,
                    Outcome {
                        lines: expected.len() as u64,
                        invalid: invalid as u64
                    }
                );
            }
        }
    }

    #[test]
    fn the_longest_line_is_judged_and_the_next_longer_is_not() {
        let padded = |length: usize| format!("{}{SHUTDOWN}", " ".repeat(length - SHUTDOWN.len()));
        let input = format!(
            "{}\n{}\n{SHUTDOWN}\n",
            padded(LINE_BYTES_MAX),
            padded(LINE_BYTES_MAX + 1)
        );
        let (verdicts, _) = verdicts(Direction::WebApp, input.as_bytes());
        let too_long = json!([{"path": "", "message": "longer than 16777216 bytes"}]);
        assert_eq!(verdicts.len(), 3);
        assert_eq!(
            (&verdicts[0]["valid"], &verdicts[2]["valid"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(verdicts[1], json!({"line": 2, "valid": false, "errors": too_long}));
    }

    #[test]
    fn a_line_without_end_is_counted_and_not_held() {
        let chunk = vec![b'x'; 1024 * 1024];
        let mut line = Line::default();
        for _ in 0..200 {
            line.push(&chunk);
            assert!(line.held.capacity() <= 2 * LINE_BYTES_MAX);
        }
        assert_eq!((line.length, line.held.capacity()), (200 * chunk.len(), 0));

        let endless = io::repeat(b'x')
            .take(200_000_000)
            .chain(&b"\n"[..])
            .chain(SHUTDOWN.as_bytes());
        let (verdicts, outcome) = verdicts(Direction::WebApp, BufReader::with_capacity(64 * 1024, endless));
        assert_eq!(outcome, Outcome { lines: 2, invalid: 1 });
        assert_eq!(verdicts[1], json!({"line": 2, "valid": true, "type": "shutdown"}));
    }

    #[test]
    fn a_blank_line_of_any_length_is_blank() {
        let blank = io::repeat(b' ').take(2 * LINE_BYTES_MAX as u64);
        assert_eq!(
            run(Dialect::Base, Direction::WebApp, BufReader::new(blank), io::sink()).unwrap(),
            Outcome::default()
        );
    }

    /// Gives its pieces one at a time and notes what had been written when it was asked for each.
    struct Slow {
        pieces: Vec<&'static str>,
        written: Rc<RefCell<Vec<u8>>>,
        seen: Rc<RefCell<Vec<usize>>>,
    }

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let lines = self.written.borrow().iter().filter(|byte| **byte == b'\n').count();
            self.seen.borrow_mut().push(lines);
            if self.pieces.is_empty() {
                return Ok(0);
            }
            self.pieces.remove(0).as_bytes().read(buffer)
        }
    }

    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn verdicts_are_out_before_more_input_is_awaited() {
        let (written, seen) = <(Rc<RefCell<Vec<u8>>>, Rc<RefCell<Vec<usize>>>)>::default();
        let slow = Slow {
            pieces: vec!["{}\n{}\n{", "}\n"],
            written: Rc::clone(&written),
            seen: Rc::clone(&seen),
        };
        run(Dialect::Base, Direction::Crawler, BufReader::new(slow), Shared(written)).unwrap();
        assert_eq!(*seen.borrow(), [0, 2, 3]);
    }

    /// Fails with one kind of error, for reading and for writing.
    struct Failing(ErrorKind);

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
    }

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_of_the_output_may_leave() {
        let input = format!("{SHUTDOWN}\n").repeat(3);
        assert!(
            run(
                Dialect::Base,
                Direction::WebApp,
                input.as_bytes(),
                Failing(ErrorKind::BrokenPipe)
            )
            .is_ok()
        );
        let error = run(
            Dialect::Base,
            Direction::WebApp,
            input.as_bytes(),
            Failing(ErrorKind::StorageFull),
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn an_input_that_breaks_is_an_error() {
        let input = BufReader::new(SHUTDOWN.as_bytes().chain(Failing(ErrorKind::BrokenPipe)));
        let error = run(Dialect::Base, Direction::WebApp, input, io::sink()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
