//! How long to wait: often until something is due.

use crawlwire_progress::State;

use crate::machine::draw::Draw;
use crate::machine::model::Job;
use crate::machine::world::World;

impl Draw<'_> {
    /// Often to the very moment at which something is due, or to just before it; rather what this case has done least.
    pub(crate) fn wait(&mut self) -> i64 {
        match self.below(10) {
            0..5 => 0,
            5 if self.below(20) == 0 => 25 * 3600 * 1000,
            5 => i64::from(self.below(3000)),
            _ => {
                let least_first = self.below(3) < 2;
                let mut timers = self.timers();
                timers.retain(|(_, moments)| !moments.is_empty());
                timers.sort_by_key(|(arrow, _)| self.world.taken.get(&("arrow", *arrow)).copied());
                let place = if least_first {
                    0
                } else {
                    self.below(6) as usize % timers.len().max(1)
                };
                let moments = timers.get(place).map_or(&[][..], |(_, moments)| moments);
                let moment = self.one(moments).unwrap_or(self.world.now);
                (moment - self.world.now - i64::from(self.below(2))).max(0)
            }
        }
    }

    /// The moments ahead, by the arrow that is due then.
    fn timers(&self) -> Vec<(&'static str, Vec<i64>)> {
        let World {
            jobs,
            sessions,
            doors,
            rules,
            ..
        } = self.world;
        let of = |moment: &dyn Fn(&Job) -> Option<i64>| {
            let moments = jobs.values().filter_map(|job| moment(job));
            moments.filter(|moment| *moment > self.world.now).collect::<Vec<_>>()
        };
        let accept = |job: &Job| {
            job.assigned_at
                .filter(|_| job.state == State::Assigned)
                .map(|at| at + rules.accept)
        };
        vec![
            ("expire", of(&|job| Some(sessions.get(&job.session?)?.lease))),
            ("deadline", of(&|job| job.deadline)),
            ("force", of(&|job| job.want.map(|(_, until)| until))),
            ("promote", of(&|job| job.run_at.map(|at| at.to))),
            ("release", of(&accept)),
            (
                "a gate opens",
                doors.values().filter_map(|closed| closed.until).collect(),
            ),
        ]
    }
}
