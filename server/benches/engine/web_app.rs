//! A web app that submits jobs over a connection that it keeps.

use std::net::SocketAddr;

use crawlwire_progress::store::NewJob;
use crawlwire_progress::view::JobSpec;
use crawlwire_protocol::message::JobType;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Jobs are of so many accounts, and so in as many lanes.
const ACCOUNTS: usize = 20;

const HOST: &str = "https://git.example";

pub(crate) struct WebApp {
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl WebApp {
    pub(crate) async fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.expect("the server listens");
        stream.set_nodelay(true).expect("a setting of a socket");
        Self {
            stream: BufReader::new(stream),
            line: String::new(),
            body: Vec::new(),
        }
    }

    pub(crate) async fn submit(&mut self, number: usize) {
        self.send(&request(number)).await;
        self.answer("201").await;
    }

    /// A question that needs no database.
    pub(crate) async fn ping(&mut self) {
        self.send("GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        self.answer("200").await;
    }

    pub(crate) async fn send(&mut self, request: &str) {
        let sent = self.stream.get_mut().write_all(request.as_bytes()).await;
        sent.expect("the server reads");
    }

    /// Reads one answer, and insists on its status.
    pub(crate) async fn answer(&mut self, status: &str) {
        self.read_line().await;
        let told = self.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            self.read_line().await;
            let Some((name, value)) = self.line.split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().expect("a length");
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).await.expect("the whole answer");
        assert_eq!(told, status, "{}", String::from_utf8_lossy(&self.body));
    }

    async fn read_line(&mut self) {
        self.line.clear();
        let read = self.stream.read_line(&mut self.line).await;
        assert_ne!(read.expect("an answer"), 0, "the server has hung up");
    }
}

/// A submission.
pub(crate) fn request(number: usize) -> String {
    let account = number % ACCOUNTS;
    let body = format!(
        "{{\"job_type\":\"crawl_project\",\"gitlab_host\":\"{HOST}\",\"account_id\":\"account-{account}\",\
         \"entity_id\":\"{number}\"}}"
    );
    format!(
        "POST /api/v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The same, past HTTP.
pub(crate) fn new_job(number: usize) -> NewJob {
    let spec = JobSpec {
        entity_id: Some(number.to_string()),
        ..JobSpec::new(JobType::CrawlProject, HOST)
    };
    let public_id = uuid::Uuid::now_v7().to_string();
    NewJob::new(public_id, format!("account-{}", number % ACCOUNTS), spec)
}
