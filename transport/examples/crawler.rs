//! A whole crawler: reads the pages of an entity, keeps its place, stops when it is told to.
//!
//! `cargo run -p crawlwire-transport --example crawler -- /tmp/crawler-socket.sock`

use std::io;
use std::time::Duration;

use crawlwire_transport::client::{Client, ClientOptions, Job};
use serde::{Deserialize, Serialize};

/// Where to go on.
#[derive(Default, Serialize, Deserialize)]
struct Place {
    page: u32,
}

const PAGES: u32 = 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or("/tmp/crawler-socket.sock".into());
    let options = ClientOptions::new("example").slots(4).software("example", Some("1.0"));
    let (client, mut jobs) = Client::connect(server.parse()?, options).await?;
    loop {
        tokio::select! {
            job = jobs.next() => match job {
                Some(job) => drop(tokio::spawn(work(job))),
                None => return Err(client.closed().await.into()),
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    client.shutdown(Duration::from_secs(20)).await;
    Ok(())
}

/// A job ends exactly once, whatever happens to it.
async fn work(job: Job) {
    let ended = match crawl(&job).await {
        Ok(true) => job.complete("all pages read").await,
        Ok(false) => job.stopped().await,
        Err(error) => job.fail(&error).await,
    };
    if let Err(error) = ended {
        tracing::warn!(%error, "the end of a job did not count");
    }
}

/// Reads page by page, from the last checkpoint on. Says whether it came to the end.
async fn crawl(job: &Job) -> io::Result<bool> {
    let mut place: Place = job.last_checkpoint().ok().flatten().unwrap_or_default();
    while place.page < PAGES {
        tokio::select! {
            () = job.cancelled().cancelled() => return Ok(false),
            read = read_page(job, place.page) => read?,
        }
        place.page += 1;
        job.progress(f64::from(place.page) / f64::from(PAGES));
        job.checkpoint(&place).await.map_err(io::Error::other)?;
    }
    Ok(true)
}

/// Stands for the work itself: a request to `job.host()` with `job.access_token()`.
async fn read_page(_job: &Job, _page: u32) -> io::Result<()> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}
