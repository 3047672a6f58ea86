//! The promises of the client, against a scripted server, in memory and with a paused clock where time matters.

#[path = "client/base.rs"]
mod base;
#[path = "client/greeting.rs"]
mod greeting;
#[path = "client/instance.rs"]
mod instance;
#[path = "client/jobs.rs"]
mod jobs;
#[path = "client/kit.rs"]
mod kit;
#[path = "client/replay.rs"]
mod replay;
#[path = "client/reports.rs"]
mod reports;
#[path = "client/stopping.rs"]
mod stopping;

use crawlwire_protocol::message::Welcome;
use crawlwire_transport::client::{Client, ClientOptions, Connector as _, Job, Jobs};
use crawlwire_transport::testing::{MemoryConnector, ScriptedConnection, ScriptedServer, welcome};

/// A client in a session with a scripted server, in memory.
struct Session {
    server: ScriptedServer,
    connector: MemoryConnector,
    connection: ScriptedConnection,
    client: Client,
    jobs: Jobs,
}

fn options() -> ClientOptions {
    ClientOptions::new("tester").slots(4).jitter_seed(7)
}

impl Session {
    async fn begin() -> Self {
        Self::begin_with(options(), welcome(0)).await
    }

    async fn begin_with(options: ClientOptions, welcome: Welcome) -> Self {
        let (mut server, connector) = ScriptedServer::in_memory();
        let options = options.connector(connector.clone());
        let connecting = Client::connect(server.endpoint(), options);
        let (connected, connection) = tokio::join!(connecting, server.session_with(welcome));
        let (client, jobs) = connected.expect("a welcome");
        Self {
            server,
            connector,
            connection,
            client,
            jobs,
        }
    }

    /// Gives a job, has it taken, and acknowledges its start.
    async fn job(&mut self, id: &str, fence: i64) -> Job {
        self.connection.assign(id, fence).await;
        let job = self.jobs.next().await.expect("a job");
        assert_eq!(job.id().as_str(), id);
        self.connection.expect_and_ack("job_started").await;
        job
    }

    /// Breaks the connection and greets the next one.
    async fn reconnect(&mut self, high_water: u64) {
        self.reconnect_with(welcome(high_water)).await;
    }

    async fn reconnect_with(&mut self, welcome: Welcome) {
        self.break_connection().await;
        self.connection = self.server.session_with(welcome).await;
    }

    /// The connection is gone without a word.
    async fn break_connection(&mut self) {
        self.connection = unconnected().await;
    }
}

/// A connection to nobody, to have something in a broken one's place.
async fn unconnected() -> ScriptedConnection {
    let (mut server, connector) = ScriptedServer::in_memory();
    let endpoint = server.endpoint();
    let dialled = connector.dial(&endpoint).await;
    let connection = server.accept().await;
    drop(dialled);
    connection
}
