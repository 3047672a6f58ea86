//! The web application: submits all the time, remembers what it was promised, and meddles.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use ureq::Agent;

use crate::chance::Chance;
use crate::checker::Acknowledged;
use crate::load::{Mood, Place, Tally};
use crate::support::pause;

/// Submissions, one in so many of which finds others.
const DISCOVERS: usize = 3;

const ACTS: [&str; 5] = ["cancel", "pause", "resume", "retry", "redrive"];

pub(crate) struct WebApp {
    chance: Chance,
    /// The servers it may ask; any of them.
    places: Vec<watch::Receiver<Option<Place>>>,
    mood: watch::Receiver<Mood>,
    tally: Arc<Tally>,
    agent: Agent,
    acknowledged: Acknowledged,
    ids: Vec<String>,
}

impl WebApp {
    pub(crate) fn new(
        chance: Chance,
        places: Vec<watch::Receiver<Option<Place>>>,
        mood: watch::Receiver<Mood>,
        tally: Arc<Tally>,
    ) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A stopped server keeps connections and says nothing; then another one is asked.
            .timeout_global(Some(Duration::from_secs(3)))
            .build();
        let (acknowledged, ids) = Default::default();
        Self {
            chance,
            places,
            mood,
            tally,
            agent: config.into(),
            acknowledged,
            ids,
        }
    }

    /// Works until things calm down; what it was promised.
    pub(crate) fn run(mut self) -> Acknowledged {
        for number in 0.. {
            if *self.mood.borrow() != Mood::Wild {
                break;
            }
            self.submit(&format!("web-{number}"));
            if self.chance.one_in(4) {
                self.random_act();
            }
            pause(self.chance.millis(3..20));
        }
        self.acknowledged
    }

    /// Submits one job and does not let go before it knows whether it is there; or there is no room for it, or it is
    /// over.
    fn submit(&mut self, name: &str) {
        let job_type = if self.chance.one_in(DISCOVERS) {
            "discover_namespaces"
        } else {
            "crawl_user"
        };
        let job = json!({
            "job_type": job_type, "gitlab_host": "gitlab.example.com", "account_id": "acme", "web_app_job_id": name,
            "priority": self.chance.below(3),
        });
        while *self.mood.borrow() != Mood::Over {
            match self.post("jobs", &job) {
                Some((201 | 200, answer)) => return self.promised(name, &answer["id"]),
                // The answer to an earlier try was lost: it is there.
                Some((409, _)) => {
                    self.tally.add("answers lost");
                    if let Some((200, found)) = self.get(&format!("jobs/{name}")) {
                        return self.promised(name, &found["id"]);
                    }
                }
                Some((429, _)) => return self.tally.add("queue full"),
                Some((status, answer)) => {
                    assert!(status >= 500, "{status}: {answer}");
                    self.tally.add("submissions answered 5xx");
                }
                None => self.tally.add("submissions cut off"),
            }
            pause(Duration::from_millis(5));
        }
    }

    fn promised(&mut self, name: &str, id: &Value) {
        let id = id.as_str().expect("an id").to_owned();
        self.tally.add("submitted");
        self.ids.push(id.clone());
        self.acknowledged.insert(name.to_owned(), id);
    }

    /// Meddles with a job, an old one or a new one. That the act is not there, or comes too late, is fine.
    fn random_act(&mut self) {
        let newest = self.ids.len().saturating_sub(50);
        let recent = if self.chance.one_in(5) { 0 } else { newest };
        let (Some(id), Some(act)) = (self.chance.pick(&self.ids[recent..]).cloned(), self.chance.pick(&ACTS)) else {
            return;
        };
        match self.post(&format!("jobs/{id}/{act}"), &json!({})) {
            Some((status, answer)) => {
                assert!(status < 500 || status == 503, "{act}: {status}: {answer}");
                self.tally.add(&format!("{act} answered {status}"));
            }
            None => self.tally.add("acts cut off"),
        }
    }

    /// Status and body of an answer; none when there was no server, or it went away.
    fn post(&mut self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let url = self.url(path)?;
        let request = self.agent.post(url);
        request.send_json(body).ok().and_then(read)
    }

    fn get(&mut self, path: &str) -> Option<(u16, Value)> {
        let url = self.url(path)?;
        self.agent.get(url).call().ok().and_then(read)
    }

    /// At one of the servers, if it is up.
    fn url(&mut self, path: &str) -> Option<String> {
        let place = self.chance.pick(&self.places)?.borrow();
        place
            .as_ref()
            .map(|place| format!("http://{}/api/v1/{path}", place.http))
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Option<(u16, Value)> {
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().ok()?;
    Some((status, serde_json::from_str(&body).unwrap_or_default()))
}
