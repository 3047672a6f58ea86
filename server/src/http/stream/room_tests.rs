use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crawlwire_progress::JobKey;
use serde_json::{Value, json};

use super::super::filter::{Kinds, Scope};
use super::super::frame::{About, Kind, Place};
use super::*;

/// So little that a few frames are too much.
const SMALL: Bounds = Bounds {
    waiting: 4_000,
    kept: 16_000,
};

fn room(bounds: Bounds) -> Room {
    Room::new("run".to_owned(), bounds)
}

fn filter(scope: Scope) -> Filter {
    Filter {
        scope,
        kinds: Kinds::ALL,
        jobs: 500,
    }
}

fn draft(of: i64, bytes: usize) -> Draft {
    Draft {
        kind: Kind::Progress,
        about: About::Whole,
        of: Some(of),
        data: json!("x".repeat(bytes)).to_string(),
    }
}

/// The numbers of what there is, or why there is nothing.
fn taken(room: &mut Room, viewer: ViewerKey) -> Result<Vec<u64>, Option<Reason>> {
    match room.take(viewer, Instant::now()) {
        Taken::Frames(frames) => Ok(frames.iter().map(|frame| frame.n).collect()),
        Taken::Due(reason) => Err(reason),
        Taken::Gone => panic!("the viewer has no place"),
    }
}

fn join(room: &mut Room, last_seen: Option<&str>) -> ViewerKey {
    let joined = room.join(filter(Scope::All), last_seen, Instant::now());
    joined.expect("a place").0
}

#[test]
fn a_slow_viewer_begins_anew_once() {
    let mut room = room(SMALL);
    let (slow, quick) = (join(&mut room, None), join(&mut room, None));
    for viewer in [slow, quick] {
        assert_eq!(taken(&mut room, viewer), Err(None));
        assert!(room.begin(viewer, room.version()));
    }
    let large = SMALL.waiting / 4;
    for of in 0..8 {
        room.tell(draft(of, large));
        assert_eq!(taken(&mut room, quick), Ok(vec![room.version()]));
    }
    // However often it looks, and whatever else happens.
    for _ in 0..2 {
        assert_eq!(taken(&mut room, slow), Err(Some(Reason::Slow)));
        room.forget(Reason::TooMuch);
    }
    assert_eq!(taken(&mut room, quick), Err(Some(Reason::TooMuch)));
    let version = room.version();
    room.tell(draft(1, 1));
    assert!(room.begin(slow, version));
    assert_eq!(taken(&mut room, slow), Ok(vec![version + 1]));
    assert_eq!(taken(&mut room, slow), Ok(vec![]));
    // The newest of each job is all that waits, so one busy job overtakes nobody.
    for _ in 0..8 {
        room.tell(draft(1, large));
    }
    assert_eq!(taken(&mut room, slow), Ok(vec![room.version()]));
}

#[test]
fn who_comes_back_goes_on_if_everything_since_is_known() {
    let mut room = room(SMALL);
    for of in 0..3 {
        room.tell(draft(of, 1));
    }
    let at = |n: u64| format!("run-{n}");
    for (last_seen, expected) in [
        (at(1), Ok(vec![2, 3, 4])),
        (at(3), Ok(vec![4])),
        (at(4), Ok(vec![])),
        (at(0), Err(Some(Reason::UnknownId))),
        (at(5), Err(Some(Reason::UnknownId))),
        ("other-3".to_owned(), Err(Some(Reason::UnknownId))),
        ("3".to_owned(), Err(Some(Reason::UnknownId))),
    ] {
        let viewer = join(&mut room, Some(&last_seen));
        assert_eq!(taken(&mut room, viewer), expected, "{last_seen}");
        room.leave(viewer);
    }
    // Too much for one viewer, while all of it is kept.
    for of in 0..3 {
        room.tell(draft(of, SMALL.waiting / 2));
    }
    let viewer = join(&mut room, Some(&at(4)));
    assert_eq!(taken(&mut room, viewer), Err(Some(Reason::TooMuch)));
    assert!(!room.begin(viewer, 4), "such a snapshot is too old");
    assert!(room.begin(viewer, room.version()));
    // What is not kept any more.
    for of in 10..20 {
        room.tell(draft(of, SMALL.waiting / 2));
    }
    assert!(!room.has_all_after(4) && room.has_all_after(room.version() - 2));
    room.forget(Reason::TooMuch);
    let before = at(room.version() - 1);
    let viewer = join(&mut room, Some(&before));
    assert_eq!(taken(&mut room, viewer), Err(Some(Reason::UnknownId)));
}

#[test]
fn places_are_bounded_and_given_back() {
    let mut room = room(SMALL);
    let viewers: Vec<_> = (0..VIEWERS_MAX).map(|_| join(&mut room, None)).collect();
    assert!(room.join(filter(Scope::All), None, Instant::now()).is_none());
    room.leave(viewers[0]);
    join(&mut room, None);
    let later = Instant::now() + Duration::from_secs(60);
    assert!(matches!(room.take(viewers[1], later), Taken::Due(None)));
    room.free(later);
    assert!(matches!(room.take(viewers[2], later), Taken::Gone));
    assert!(matches!(room.take(viewers[1], later), Taken::Due(None)));
    assert_eq!(room.filters().count(), 1);
}

/// Numbers that look random: splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// What is shown of a job: its status, and how far it is.
type Shown = (u64, u64);

/// Jobs as they are, and what of that nobody was told yet.
#[derive(Default)]
struct Truth {
    jobs: BTreeMap<i64, Shown>,
    clock: u64,
    changed: BTreeSet<i64>,
    reported: BTreeSet<i64>,
    deleted: BTreeSet<i64>,
}

fn place(job: i64) -> Place {
    Place {
        job: job.to_string(),
        root: Some((job % 4).to_string()),
        account: Some((job % 3).to_string()),
    }
}

fn is_in(scope: &Scope, job: i64) -> bool {
    let place = place(job);
    match scope {
        Scope::All => true,
        Scope::Account(name) => place.account.as_ref() == Some(name),
        Scope::Tree { root_id, .. } => place.root.as_ref() == Some(root_id),
        Scope::Job { id, .. } => place.job == *id,
    }
}

fn a_scope(chance: &mut Chance) -> Scope {
    let key = JobKey(0);
    match chance.below(6) {
        0 => Scope::Account(chance.below(3).to_string()),
        1 => Scope::Tree {
            root: key,
            root_id: chance.below(4).to_string(),
        },
        2 => Scope::Job {
            key,
            id: chance.below(JOBS).to_string(),
        },
        _ => Scope::All,
    }
}

const JOBS: usize = 24;

impl Truth {
    fn change(&mut self, chance: &mut Chance) {
        let job = chance.below(JOBS) as i64;
        self.clock += 1;
        let clock = self.clock;
        match chance.below(8) {
            0 if self.jobs.remove(&job).is_some() => {
                self.deleted.insert(job);
            }
            1..=3 => {
                if let Some((_, completion)) = self.jobs.get_mut(&job) {
                    *completion = clock;
                    self.reported.insert(job);
                }
            }
            // Names do not come twice.
            _ if self.deleted.contains(&job) => {}
            _ => {
                self.jobs.entry(job).or_default().0 = clock;
                self.changed.insert(job);
            }
        }
    }

    fn in_scope(&self, scope: &Scope) -> BTreeMap<i64, Shown> {
        let jobs = self.jobs.iter().filter(|(job, _)| is_in(scope, **job));
        jobs.map(|(job, shown)| (*job, *shown)).collect()
    }

    /// Tells what changed, as the hub does: jobs as they are by now, then how far they are, then which are gone.
    fn tell(&mut self, room: &mut Room) {
        let mut tell = |kind, job: i64, data: Value| {
            let of = (kind != Kind::Deleted).then_some(job);
            let about = About::Job(Arc::new(place(job)));
            let data = json!({ "job": job, "shown": data }).to_string();
            room.tell(Draft { kind, about, of, data });
        };
        for job in std::mem::take(&mut self.changed) {
            if let Some(shown) = self.jobs.get(&job) {
                tell(Kind::Job, job, json!(shown));
            }
        }
        for job in std::mem::take(&mut self.reported) {
            if let Some((_, completion)) = self.jobs.get(&job) {
                tell(Kind::Progress, job, json!(completion));
            }
        }
        for job in std::mem::take(&mut self.deleted) {
            tell(Kind::Deleted, job, Value::Null);
        }
        room.wake();
    }
}

/// A viewer, and what it makes of what it is told.
struct Page {
    scope: Scope,
    viewer: Option<ViewerKey>,
    shown: BTreeMap<i64, Shown>,
    /// The name of the last event it was told, if it remembers.
    last: Option<String>,
    resyncs: usize,
    snapshots: usize,
}

/// A snapshot that was taken a moment ago.
type Cached = BTreeMap<String, (u64, BTreeMap<i64, Shown>)>;

impl Page {
    fn connect(&mut self, room: &mut Room, forgets: bool) {
        if forgets {
            self.last = None;
        }
        let joined = room.join(filter(self.scope.clone()), self.last.as_deref(), Instant::now());
        self.viewer = Some(joined.expect("a place").0);
    }

    fn disconnect(&mut self, room: &mut Room) {
        if let Some(viewer) = self.viewer.take() {
            room.leave(viewer);
        }
    }

    /// Reads so many of the frames that there are, and hangs up if there are more.
    fn read(&mut self, room: &mut Room, truth: &Truth, cached: &mut Cached, most: usize) {
        let Some(viewer) = self.viewer else { return };
        match room.take(viewer, Instant::now()) {
            Taken::Gone => panic!("its place was taken"),
            Taken::Frames(frames) => {
                let read = frames.len().min(most);
                frames[..read].iter().for_each(|frame| self.apply(frame, room));
                if read < frames.len() {
                    self.disconnect(room);
                }
            }
            Taken::Due(reason) => {
                let begins = self.last.is_none();
                assert_eq!(
                    reason.is_none(),
                    begins,
                    "who has seen something is told why it begins anew"
                );
                let fresh = || (room.version(), truth.in_scope(&self.scope));
                let name = format!("{:?}", self.scope);
                let (version, jobs) = cached.entry(name.clone()).or_insert_with(fresh).clone();
                let (version, jobs) = match room.begin(viewer, version) {
                    true => (version, jobs),
                    false => {
                        let newer = (room.version(), truth.in_scope(&self.scope));
                        assert!(room.begin(viewer, newer.0), "nothing can have happened since");
                        cached.insert(name, newer.clone());
                        newer
                    }
                };
                self.resyncs += usize::from(reason.is_some());
                if most == 0 {
                    // It heard why, and not the snapshot.
                    return self.disconnect(room);
                }
                self.snapshots += 1;
                self.shown = jobs;
                self.last = Some(room.id(version));
            }
        }
    }

    fn apply(&mut self, frame: &Frame, room: &Room) {
        let id = room.id(frame.n);
        let before = self.last.as_deref().and_then(|last| number(&room.run, last));
        assert!(before.is_some_and(|before| before < frame.n), "{before:?} {id}");
        self.last = Some(id);
        let data: Value = serde_json::from_str(frame.data()).expect("JSON");
        let job = data["job"].as_i64().expect("a job");
        assert!(is_in(&self.scope, job));
        match frame.kind {
            Kind::Job => {
                let shown = serde_json::from_value(data["shown"].clone()).expect("what is shown");
                self.shown.insert(job, shown);
            }
            Kind::Progress => {
                if let Some(shown) = self.shown.get_mut(&job) {
                    shown.1 = data["shown"].as_u64().expect("a number");
                }
            }
            Kind::Deleted => {
                self.shown.remove(&job);
            }
            _ => unreachable!("nothing else was told"),
        }
    }
}

fn course(seed: u64, bounds: Bounds) -> (usize, usize) {
    let mut chance = Chance(seed);
    let (mut room, mut truth, mut cached) = (room(bounds), Truth::default(), Cached::new());
    let page = |scope| Page {
        scope,
        viewer: None,
        shown: BTreeMap::new(),
        last: None,
        resyncs: 0,
        snapshots: 0,
    };
    let mut pages: Vec<_> = (0..6).map(|_| page(a_scope(&mut chance))).collect();
    for _ in 0..2_000 {
        match chance.below(20) {
            0..8 => truth.change(&mut chance),
            8..13 => truth.tell(&mut room),
            13 => cached.clear(),
            14 if chance.one_in(20) => {
                // What was not told by then never is: it is in every snapshot from now on.
                truth.changed.clear();
                truth.reported.clear();
                truth.deleted.clear();
                room.forget(Reason::TooMuch);
            }
            _ => {
                // The first one is slow, the second one reads at once.
                let which = chance.below(pages.len());
                if which == 0 && !chance.one_in(10) {
                    continue;
                }
                let page = &mut pages[which];
                match (page.viewer, chance.below(12)) {
                    (None, _) => page.connect(&mut room, chance.one_in(3)),
                    (Some(_), 0) if which != 1 => page.disconnect(&mut room),
                    (Some(_), 1) if which != 1 => page.read(&mut room, &truth, &mut cached, chance.below(3)),
                    _ => page.read(&mut room, &truth, &mut cached, usize::MAX),
                }
            }
        }
        assert!(room.kept.bytes() <= bounds.kept);
    }
    truth.tell(&mut room);
    for page in &mut pages {
        if page.viewer.is_none() {
            page.connect(&mut room, false);
        }
        for _ in 0..2 {
            page.read(&mut room, &truth, &mut cached, usize::MAX);
        }
        assert_eq!(page.shown, truth.in_scope(&page.scope), "seed {seed}, {:?}", page.scope);
    }
    let sum = |of: fn(&Page) -> usize| pages.iter().map(of).sum();
    (sum(|page| page.resyncs), sum(|page| page.snapshots))
}

#[test]
fn whatever_viewers_do_they_end_with_what_is_true() {
    let given = std::env::var("CRAWLWIRE_STREAM_SEED").ok();
    let seed = given.map_or_else(
        || RandomState::new().build_hasher().finish(),
        |seed| seed.parse().expect("CRAWLWIRE_STREAM_SEED is a number"),
    );
    eprintln!("CRAWLWIRE_STREAM_SEED={seed}");
    let mut chance = Chance(seed);
    let (mut resyncs, mut snapshots) = (0, 0);
    for (waiting, kept) in [(1_000_000, 1_000_000), (1_000, 10_000), (400, 1_000), (2_000, 500)]
        .into_iter()
        .cycle()
        .take(80)
    {
        let (more_resyncs, more_snapshots) = course(chance.next(), Bounds { waiting, kept });
        resyncs += more_resyncs;
        snapshots += more_snapshots;
    }
    assert!(
        resyncs > 60 && snapshots > 60,
        "{resyncs} resyncs, {snapshots} snapshots"
    );
}
