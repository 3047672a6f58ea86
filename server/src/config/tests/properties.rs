//! Whatever is given, there is an answer. Random, from a seed that a failure shows and `CONFIG_TEST_SEED` repeats.

use super::super::{Config, Inputs, Setting};

/// Rounds of each property; a few hundred find what a slip in slicing or arithmetic breaks.
const ROUNDS: u64 = 150;

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and good enough to choose test cases.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Pieces that mean something somewhere, with any characters between them.
    fn text(&mut self) -> String {
        const PIECES: &[&str] = &[
            "",
            "0",
            "1",
            "-1",
            "999",
            "18446744073709551616",
            "0x",
            "1_0",
            "1.5",
            "1e9",
            "true",
            "off",
            "debug",
            "test",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "[",
            "]",
            ":",
            "::",
            "://",
            "/",
            "@",
            "?",
            "#",
            "%",
            "&",
            "=",
            ",",
            "*",
            "postgres://",
            "sqlite:",
            "https://",
            "tcp://",
            "\n",
            "\\n",
            "\0",
            "\"",
            "'",
            "'''",
            "\"\"\"",
            "{",
            "}",
            "\t",
            " ",
            "é",
            "\u{feff}",
            "\u{1f980}",
            "\u{7f}",
            "\r",
            "0600",
            "0o",
            ".",
            "\\",
            "inf",
            "1979-05-27",
        ];
        let mut text = String::new();
        for _ in 0..self.below(8) {
            if self.below(4) == 0 {
                text.extend(char::from_u32(u32::try_from(self.next() % 0x11_0000).unwrap()));
            } else {
                text.push_str(self.pick(PIECES));
            }
        }
        text
    }

    fn file(&mut self) -> String {
        let keys: Vec<&str> = Setting::all().map(|setting| setting.key).collect();
        let mut text = String::new();
        for _ in 0..self.below(6) {
            let value = self.text();
            match self.below(6) {
                0 => text.push_str(&value),
                1 => text.push_str(&format!("{} = {value}", self.pick(&keys))),
                2 => text.push_str(&format!("{} = [{value}]", self.pick(&keys))),
                3 => text.push_str(&format!("[{}]", self.pick(&keys))),
                _ => text.push_str(&format!("{} = {}", self.pick(&keys), serde_json::Value::from(value))),
            }
            text.push('\n');
        }
        text
    }

    fn inputs(&mut self) -> Inputs {
        let names = super::super::env::known_names();
        let flags = [
            "--socket",
            "--listen",
            "--http",
            "--database-url",
            "--data-dir",
            "--profile",
            "--log-level",
        ];
        let mut inputs = Inputs {
            read_secret: |_| Ok("x".to_owned()),
            ..Inputs::default()
        };
        for _ in 0..self.below(6) {
            inputs.env.insert(self.pick(&names).to_owned(), self.text());
        }
        inputs.env.insert(format!("SOCKET_{}", self.text()), self.text());
        for _ in 0..self.below(3) {
            inputs.flags.insert(self.pick(&flags), self.text());
        }
        inputs.file = Some(("c.toml".into(), self.file()));
        inputs
    }
}

fn seed() -> u64 {
    let given = std::env::var("CONFIG_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| {
        u64::from(std::process::id()) << 32 | u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos())
    })
}

#[test]
fn any_text_gets_an_answer() {
    let seed = seed();
    println!("CONFIG_TEST_SEED={seed}");
    let mut random = Random(seed);
    let (mut valid, mut invalid) = (0, 0);
    for _ in 0..ROUNDS * 10 {
        let inputs = random.inputs();
        match Config::resolve(inputs) {
            Ok((config, warnings)) => {
                valid += 1;
                assert!(!format!("{config}{warnings:?}").is_empty());
            }
            Err(errors) => {
                invalid += 1;
                assert!(!errors.problems.is_empty());
                // One line each: nothing given can forge another.
                let lines = errors.to_string().lines().count();
                assert_eq!(lines, 1 + errors.problems.len() + errors.warnings.len(), "{errors}");
            }
        }
    }
    assert!(invalid > 0 && valid + invalid == ROUNDS * 10);
}

#[test]
fn any_text_in_any_setting_gets_an_answer() {
    let seed = seed();
    println!("CONFIG_TEST_SEED={seed}");
    let mut random = Random(seed);
    let mut accepted = std::collections::BTreeSet::new();
    for _ in 0..ROUNDS {
        for setting in Setting::all() {
            let inputs = Inputs {
                env: [
                    ("HOME".to_owned(), "/h".to_owned()),
                    (setting.env[0].to_owned(), random.text()),
                ]
                .into(),
                read_secret: |_| Ok("sqlite::memory:".to_owned()),
                ..Inputs::default()
            };
            match Config::resolve(inputs) {
                Ok((config, _)) => {
                    // What is shown is TOML that means the same.
                    let again = Inputs {
                        env: [("HOME".to_owned(), "/h".to_owned())].into(),
                        file: Some(("c.toml".into(), config.to_string())),
                        read_secret: |_| Ok("sqlite::memory:".to_owned()),
                        ..Inputs::default()
                    };
                    let (again, _) = Config::resolve(again).unwrap_or_else(|errors| panic!("{errors}\n{config}"));
                    if !setting.secret {
                        assert_eq!(
                            super::shown(&config, setting.key).0,
                            super::shown(&again, setting.key).0
                        );
                    }
                    accepted.insert(setting.key);
                }
                Err(errors) => {
                    let own = errors
                        .problems
                        .iter()
                        .all(|problem| problem.key == Some(setting.key) || problem.message.contains(setting.key));
                    assert!(own, "{}: {errors}", setting.key);
                }
            }
        }
    }
    assert!(
        accepted.len() > 20,
        "seed {seed}: hardly anything was valid: {accepted:?}"
    );
}
