//! What trees add up to: a completion that can be told from the jobs one by one, and sums that forget nothing.

use crawlwire_progress::TreeStatus;
use crawlwire_progress::sums::{Sum, completion};
use crawlwire_progress::track::{ITEMS_MAX, Work};
use crawlwire_progress::weight::{Size, Weighed};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Job {
    weight: u64,
    /// What it reported last, if it reported anything.
    said: Option<Work>,
}

fn items() -> impl Strategy<Value = u64> {
    prop_oneof![0..5_u64, 0..10_000_u64, 0..=ITEMS_MAX]
}

fn work() -> impl Strategy<Value = Work> {
    (items(), items(), any::<bool>()).prop_map(|(one, other, open)| Work {
        done: one.min(other),
        expected: one.max(other),
        open,
    })
}

fn job() -> impl Strategy<Value = Job> {
    (prop_oneof![Just(0), items()], prop::option::of(work())).prop_map(|(weight, said)| Job { weight, said })
}

fn size(jobs: &[Job]) -> Size {
    let weighed = jobs.iter().map(|job| Weighed::of(job.weight));
    Size {
        jobs: jobs.len() as u64,
        weighed: weighed.fold(Weighed::NONE, |all, one| all + one),
    }
}

fn sum(jobs: &[Job]) -> Sum {
    let said = jobs.iter().filter_map(|job| Some(Sum::of(job.said?, job.weight)));
    said.fold(Sum::default(), |all, one| all + one)
}

/// Items there will be in all, job by job.
fn all(jobs: &[Job]) -> f64 {
    let said: Vec<f64> = jobs
        .iter()
        .filter_map(|job| {
            let said = job.said?;
            let least = if said.open { job.weight } else { 0 };
            Some(said.expected.max(least) as f64)
        })
        .collect();
    let mean = (said.iter().sum::<f64>() / said.len() as f64).max(1.0);
    let silent = jobs.iter().filter(|job| job.said.is_none());
    let silent = silent.map(|job| if job.weight > 0 { job.weight as f64 } else { mean });
    said.iter().sum::<f64>() + silent.sum::<f64>()
}

proptest! {
    #[test]
    fn a_completion_is_what_the_jobs_say_one_by_one(jobs in prop::collection::vec(job(), 1..30)) {
        let (sum, size) = (sum(&jobs), size(&jobs));
        let told = completion(sum, size, TreeStatus::Open);
        prop_assert!((0.0..1.0).contains(&told), "{}", told);
        prop_assert_eq!(completion(sum, size, TreeStatus::Completed), 1.0);
        let Some(silent) = sum.expected_silent(size) else {
            prop_assert!(jobs.iter().all(|job| job.said.is_none() && job.weight == 0));
            return Ok(());
        };
        if sum.jobs_reported > 0 {
            let all = all(&jobs);
            let expected = if sum.done == 0 { 0.0 } else { (sum.done as f64 / all).min(0.99) };
            prop_assert!((told - expected).abs() < 1e-9, "{} is not {}", told, expected);
            prop_assert!(((sum.expected + silent) as f64 - all).abs() <= 1.0 + all * 1e-9);
        }
        // Who has reported is not silent.
        let spoken: Vec<_> = jobs.iter().copied().filter(|job| job.said.is_some()).collect();
        prop_assert!(spoken.len() < jobs.len() || silent == 0, "{}", silent);
    }

    #[test]
    fn what_is_counted_along_is_what_counting_anew_gives(
        jobs in prop::collection::vec(job(), 1..10),
        reports in prop::collection::vec((any::<prop::sample::Index>(), work()), 0..40),
    ) {
        let mut jobs = jobs;
        let mut kept = sum(&jobs);
        for (which, said) in reports {
            let job = which.get(&jobs);
            let before = job.said.map(|before| Sum::of(before, job.weight)).unwrap_or_default();
            kept = kept - before + Sum::of(said, job.weight);
            let place = which.index(jobs.len());
            jobs[place].said = Some(said);
            prop_assert_eq!(kept, sum(&jobs));
        }
    }
}
