//! How far a job is: what its crawler said, and what that means.
//!
//! A [`Tracker`] belongs to one attempt of one job. It takes reports in and says what they changed; it is stored whole,
//! so that it goes on with another server. A [`Snapshot`] is what a person sees of it at a moment.
//!
//! Two numbers stand side by side. `overall_completion` is what the crawler said (API reference, line 410), and is never
//! touched. `completion` is ours: items processed of the items there will be. Where nobody knows how many that are, it says
//! so instead of guessing.

mod clock;
mod counts;
mod entity;
mod eta;
mod history;
mod issue;
mod milestone;
mod pace;
mod snapshot;
mod total;
mod tracker;

pub use self::clock::{Activity, Clocks, Thresholds};
pub use self::counts::ENTITIES_MAX;
pub use self::entity::{Entity, EntityName, EntityStatus};
pub use self::eta::{Confidence, NoEstimate, Range, Remaining, estimate};
pub use self::history::{History, POINTS_MAX, Point};
pub use self::issue::{ISSUES_MAX, Issue, IssueKind};
pub use self::milestone::{BadMilestones, MILESTONES_MAX, Milestone, Milestones};
pub use self::pace::{Pace, Rates};
pub use self::snapshot::{Facts, Snapshot};
pub use self::total::{ITEMS_MAX, Total, TotalKind};
pub(crate) use self::tracker::COMPLETION_MAX;
pub use self::tracker::{Changes, Kept, Phase, Said, Tracker, Work};
