//! The server as a library: start it, look at it, talk to its crawlers, stop it.
//!
//! Starting binds every address first, so that a wrong one is known before anything else happens; then the database is
//! opened, and only then is anybody served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crawlwire_persistence::store::WriterStatistics;
use crawlwire_persistence::{OpenError, SqlStore};
use crawlwire_progress::live::AggregateProgress;
use crawlwire_progress::{Store, StoreError};
use crawlwire_protocol::{Envelope, WebAppMessage};
use crawlwire_router::{Event, Handler, Middleware, Registration, Router, SendError};
use crawlwire_transport::{BindError, CloseReason, Endpoint, Listener, Pool, TlsError, TlsServer};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::TokenRole;
use crate::config::Config;
use crate::connection::{DRAIN_MAX, Service};
use crate::http::{Api, Hub};
use crate::parts;
use crate::status::Status;
use crate::tasks::{accept, ended, serve_http, watch_health};
use crate::token::{self, TokenError};

/// How long dispatcher and timers get, last of all, to write what is in memory.
const CORE_GRACE: Duration = Duration::from_secs(2);

/// How long connections get to write what is queued when the server stops.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_millis(300);

/// How long open HTTP requests get then.
const HTTP_GRACE: Duration = Duration::from_millis(500);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A crawler address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// The HTTP address cannot be listened on.
    #[error("cannot listen for HTTP on {address}: {source}; stop the other program or choose another address (--http)")]
    Http {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Other machines can reach the address, and would not be asked who they are.
    #[error("other machines can reach {0}: it needs require_tokens")]
    TokensNeeded(SocketAddr),
    /// The configured group of the socket does not exist.
    #[error("socket_group: there is no group {0}")]
    Group(String),
    /// The data directory cannot be made.
    #[error("cannot make the data directory {path}: {source}")]
    DataDir {
        /// The directory.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] OpenError),
}

/// Why a message was not sent to a crawler (API reference, lines 99 to 103).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Nobody of that name.
    #[error("there is no such crawler")]
    NoSuchCrawler,
    /// It does not take the message.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// A job belongs to one crawler; assignments come from the queue.
    #[error("a job_assignment cannot be broadcast")]
    AssignmentForAll,
}

/// A status at a glance (API reference, lines 66 to 76).
#[derive(Debug, Clone)]
pub struct ServerStatus {
    /// Whether crawlers are served.
    pub is_running: bool,
    /// Connections there are.
    pub connections: usize,
    /// Those with a valid message within the heartbeat interval.
    pub active_connections: usize,
    /// Since the start.
    pub uptime: Duration,
    /// The configuration in force.
    pub config: Arc<Config>,
}

/// Connections by state (API reference, lines 133 to 140).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionStats {
    /// All of them.
    pub total: usize,
    /// With a valid message within the heartbeat interval.
    pub active: usize,
    /// Silent for longer, or not heard yet.
    pub idle: usize,
    /// In trouble.
    pub error: usize,
}

/// A running server. Dropping it does not stop it in good order; [`Server::stop`] does.
pub struct Server {
    config: Arc<Config>,
    router: Router,
    store: Arc<SqlStore>,
    pool: Pool,
    status: Arc<Status>,
    endpoints: Vec<Endpoint>,
    http_address: SocketAddr,
    /// Whoever serves crawlers: listeners and connections.
    connections: TaskTracker,
    /// Stops accepting, and lets connections finish what is in flight.
    drain: CancellationToken,
    /// Stops everything else.
    stop: CancellationToken,
    core: JoinHandle<Result<(), StoreError>>,
    http: JoinHandle<io::Result<()>>,
    hub: Hub,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("Server")
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

/// A server to be: the configuration, and what a program that embeds it adds.
#[must_use = "nothing is served before start()"]
pub struct Builder {
    config: Config,
    handlers: Vec<(String, Arc<dyn Handler>)>,
    middleware: Vec<Arc<dyn Middleware>>,
    tls: Option<TlsServer>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("Builder")
            .field("handlers", &self.handlers.len())
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Adds a handler for a message type, of the protocol or of your own; see [`Router::register_handler`].
    pub fn handler(mut self, type_name: impl Into<String>, handler: Arc<dyn Handler>) -> Self {
        self.handlers.push((type_name.into(), handler));
        self
    }

    /// Adds middleware; see [`Router::add_middleware`].
    pub fn middleware(mut self, middleware: Arc<dyn Middleware>) -> Self {
        self.middleware.push(middleware);
        self
    }

    /// Serves TCP with this TLS, in place of what the files of the configuration hold.
    pub fn tls(mut self, tls: TlsServer) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Binds, opens the database, and serves.
    ///
    /// # Errors
    /// When an address is taken or would be open to everybody, certificate or key cannot be used, the database cannot be
    /// opened, or the data directory cannot be made.
    pub async fn start(self) -> Result<Server, StartError> {
        Server::start_with(self).await
    }
}

impl Server {
    /// A server with this configuration, to which handlers and middleware can be added before it starts.
    ///
    /// ```no_run
    /// # async fn embed(own: std::sync::Arc<dyn crawlwire_router::Handler>) -> Result<(), Box<dyn std::error::Error>> {
    /// use crawlwire_server::Server;
    /// use crawlwire_server::config::Config;
    ///
    /// let (config, _warnings) = Config::load(Default::default())?;
    /// let server = Server::builder(config).handler("custom_job_event", own).start().await?;
    /// println!("{} crawlers", server.connection_stats().active);
    /// server.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(config: Config) -> Builder {
        Builder {
            config,
            handlers: Vec::new(),
            middleware: Vec::new(),
            tls: None,
        }
    }

    async fn start_with(builder: Builder) -> Result<Self, StartError> {
        let config = Arc::new(builder.config);
        let listeners = parts::bind(&config, builder.tls).await?;
        let http_listener = TcpListener::bind(config.http.addr)
            .await
            .map_err(|source| StartError::Http {
                address: config.http.addr,
                source,
            })?;
        let http_address = http_listener.local_addr().unwrap_or(config.http.addr);
        let store = parts::open_database(&config).await?;
        let router = Router::new(store.clone(), parts::router_config(&config));
        for (type_name, handler) in builder.handlers {
            router.register_handler(&type_name, handler);
        }
        for middleware in builder.middleware {
            router.add_middleware(middleware);
        }
        let pool = Pool::starting_at(config.connection.max_connections, parts::first_connection());
        let status = Arc::new(Status::started());
        let service = Service::new(&config, router.clone(), pool.clone());
        let (connections, drain, stop) = (service.tasks.clone(), service.drain.clone(), CancellationToken::new());
        let endpoints = listeners.iter().map(Listener::local_addr).collect();
        let core = {
            let (router, stop) = (router.clone(), stop.clone());
            tokio::spawn(async move { router.run(stop).await })
        };
        for listener in listeners {
            connections.spawn(accept(listener, service.clone()));
        }
        tokio::spawn(watch_health(
            pool.clone(),
            parts::thresholds(&config),
            config.heartbeat.check_interval,
            stop.clone(),
        ));
        let hub = Hub::new();
        let api = Api {
            router: router.clone(),
            store: store.clone(),
            pool: pool.clone(),
            status: status.clone(),
            hub: hub.clone(),
            meter: Arc::default(),
            name: parts::server_name(&config).into(),
            database: parts::database_name(&config),
            allowed_origins: config
                .http
                .allowed_origins
                .iter()
                .map(|origin| origin.as_str().to_owned())
                .collect(),
            http_is_loopback: config.http.addr.ip().to_canonical().is_loopback(),
            stop: stop.clone(),
        };
        {
            let (api, stop) = (api.clone(), stop.clone());
            tokio::spawn(async move { api.hub.run(&api, stop).await });
        }
        let http = serve_http(http_listener, api, stop.clone());
        Ok(Self {
            config,
            router,
            store,
            pool,
            status,
            endpoints,
            http_address,
            connections,
            drain,
            stop,
            core,
            http,
            hub,
        })
    }

    /// Where crawlers connect.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Where the API and the page are.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// What an operator wants to read after the start: addresses, the database, and what to do next.
    pub fn welcome(&self) -> String {
        let sockets: Vec<_> = self.endpoints.iter().map(Endpoint::to_string).collect();
        let http = self.http_address;
        format!(
            "crawlwire {version} is running\n  \
               crawlers  {sockets}\n  \
               http      http://{http}/\n  \
               database  {database}\n\n\
             Next, submit a job, on the page or here:\n  \
               crawlwire submit --server http://{http} --type discover_namespaces --host localhost --account me --watch\n",
            version = env!("CARGO_PKG_VERSION"),
            sockets = sockets.join("  "),
            database = self.config.database.url,
        )
    }

    /// Waits until something fails that the server cannot go on without. Cancel safe.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            core = &mut self.core => format!("the core ended: {core:?}"),
            http = &mut self.http => format!("HTTP ended: {http:?}"),
        }
    }

    /// A status at a glance.
    pub fn status(&self) -> ServerStatus {
        let stats = self.pool.stats();
        ServerStatus {
            is_running: self.status.is_running(),
            connections: stats.total,
            active_connections: stats.active,
            uptime: self.status.uptime(),
            config: self.config.clone(),
        }
    }

    /// Connections by state.
    pub fn connection_stats(&self) -> ConnectionStats {
        let stats = self.pool.stats();
        ConnectionStats {
            total: stats.total,
            active: stats.active,
            idle: stats.idle,
            error: stats.error,
        }
    }

    /// All active jobs together, of all servers that share the database; none when there are none.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn aggregate_progress(&self) -> Result<Option<AggregateProgress>, StoreError> {
        self.store.running().await
    }

    /// Sends one message to one crawler, named as in `/api/v1/crawlers`.
    ///
    /// # Errors
    /// When there is no such crawler, or its connection does not take the message.
    pub async fn send_to_crawler(&self, crawler: &str, message: Envelope<WebAppMessage>) -> Result<(), MessageError> {
        let peer = self.router.peer(crawler).ok_or(MessageError::NoSuchCrawler)?;
        Ok(self.router.send(&peer, message).await?)
    }

    /// Sends one message to every crawler; says how many took it.
    ///
    /// # Errors
    /// When it is a `job_assignment`: a job belongs to one crawler.
    pub async fn broadcast(&self, message: &Envelope<WebAppMessage>) -> Result<usize, MessageError> {
        if matches!(message.message, WebAppMessage::JobAssignment(_)) {
            return Err(MessageError::AssignmentForAll);
        }
        Ok(self.send_to_all(message).await)
    }

    async fn send_to_all(&self, message: &Envelope<WebAppMessage>) -> usize {
        let mut sent = 0;
        for peer in self.router.peers() {
            sent += usize::from(self.router.send(&peer, message.clone()).await.is_ok());
        }
        sent
    }

    /// Everything that happens from here on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.router.subscribe()
    }

    /// The store behind.
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// What the store's writer did since the start.
    pub fn writer_statistics(&self) -> WriterStatistics {
        self.store.statistics()
    }

    /// Makes a token for crawlers, as `crawlwire token create` does: the text to give them. It is not kept.
    ///
    /// # Errors
    /// When the name is taken, or the database is away.
    pub async fn create_token(&self, name: &str, role: TokenRole, by: &str) -> Result<String, TokenError> {
        token::create(&*self.store, name, role, by).await
    }

    /// Takes a token back, and closes the connections of this server that came with it.
    ///
    /// # Errors
    /// When there is no such token, or the database is away.
    pub async fn revoke_token(&self, name: &str, by: &str) -> Result<(), TokenError> {
        token::revoke(&*self.store, name, by).await?;
        Ok(self.router.check_tokens().await?)
    }

    /// Adds a handler for a message type; see [`Router::register_handler`].
    pub fn register_handler(&self, type_name: &str, handler: Arc<dyn Handler>) -> Registration {
        self.router.register_handler(type_name, handler)
    }

    /// Takes a handler back.
    pub fn unregister_handler(&self, registration: Registration) -> bool {
        self.router.unregister_handler(registration)
    }

    /// Adds middleware; see [`Router::add_middleware`].
    pub fn add_middleware(&self, middleware: Arc<dyn Middleware>) {
        self.router.add_middleware(middleware);
    }

    /// Stops in good order: gives out no more jobs, tells the crawlers, lets messages in flight have their effect, closes
    /// the connections, writes what is in memory, and closes the database. Jobs that run keep their lease: after a
    /// restart their crawlers go on with them.
    pub async fn stop(self) {
        self.status.stop();
        let told = self.router.drain(DRAIN_MAX, "the server is stopping").await;
        tracing::debug!(told, "crawlers told of the shutdown");
        self.drain.cancel();
        self.connections.close();
        let connections = self.connections.wait();
        if tokio::time::timeout(self.config.shutdown.timeout, connections)
            .await
            .is_err()
        {
            tracing::warn!("messages were still in flight at the end of the shutdown timeout");
        }
        self.pool.close_all(CloseReason::ServerShutdown, CLOSE_GRACE).await;
        self.stop.cancel();
        ended(self.http, HTTP_GRACE, "HTTP requests were still open").await;
        // They have hung up by then, or nobody reads what they say.
        let _ = tokio::time::timeout(CLOSE_GRACE, self.hub.sockets_closed()).await;
        ended(self.core, CORE_GRACE, "what was in memory could not be written in time").await;
        self.store.close().await;
        tracing::info!("stopped");
    }
}
