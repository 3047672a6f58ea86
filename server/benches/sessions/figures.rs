//! Figures, how they are told, and which are asked for.

use std::fmt;
use std::time::Duration;

/// Milliseconds, sorted.
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.into_iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        assert!(!times.is_empty(), "nothing was measured");
        Self(times)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn p50(&self) -> f64 {
        quantile(&self.0, 0.5)
    }

    pub(crate) fn p99(&self) -> f64 {
        quantile(&self.0, 0.99)
    }

    pub(crate) fn most(&self) -> f64 {
        quantile(&self.0, 1.0)
    }
}

/// The same figure of several rounds, sorted: shown as median (least to most).
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    pub(crate) fn of<T>(rounds: &[T], value: impl Fn(&T) -> f64) -> Self {
        let mut values: Vec<_> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub(crate) fn median(&self) -> f64 {
        quantile(&self.0, 0.5)
    }
}

/// With the decimals asked for.
impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let decimals = formatter.precision().unwrap_or(0);
        let [least, median, most] = [0.0, 0.5, 1.0].map(|part| quantile(&self.0, part));
        write!(
            formatter,
            "{median:.decimals$} ({least:.decimals$} to {most:.decimals$})"
        )
    }
}

/// The value below which this part of the sorted values is.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = (sorted.len() as f64 * part) as usize;
    sorted[place.min(sorted.len() - 1)]
}

/// Whether a list in the environment names this; without a list everything is wanted.
pub(crate) fn wanted(list: &str, name: &str) -> bool {
    std::env::var(list).map_or(true, |named| named.split(',').any(|named| named.trim() == name))
}

/// The amount that is asked for in the environment.
pub(crate) fn amount(name: &str, otherwise: f64) -> f64 {
    let asked = std::env::var(name).ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(otherwise)
}
