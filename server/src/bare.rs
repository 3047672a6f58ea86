//! A server without listeners, HTTP and a database: for simulations, which bring streams, a store and a clock.

use std::sync::Arc;

use crawlwire_progress::{Policy, Store, StoreError};
use crawlwire_router::Router;
use crawlwire_transport::{Peer, Pool};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::connection::Service;
use crate::parts;

/// What lies between streams and a store: connections and the router, as a server of this configuration has them.
#[derive(Clone)]
pub struct Bare {
    service: Service,
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.debug_struct("Bare").finish_non_exhaustive()
    }
}

impl Bare {
    /// Serves nobody before [`Bare::run`] runs beside it.
    pub fn new(config: &Config, store: Arc<dyn Store>) -> Self {
        let router = Router::new(store, parts::router_config(config));
        let pool = Pool::new(config.connection.max_connections);
        Self {
            service: Service::new(config, router, pool),
        }
    }

    /// The numbers that a store must go by, for a server of this configuration.
    pub fn policy(config: &Config) -> Policy {
        parts::policy(config)
    }

    /// The router.
    pub fn router(&self) -> &Router {
        &self.service.router
    }

    /// The connections.
    pub fn pool(&self) -> &Pool {
        &self.service.pool
    }

    /// Serves a stream in tasks of its own, as if it came from this process. One too many is dropped.
    pub fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        match self.service.pool.reserve() {
            Ok(permit) => self.service.spawn(stream, Peer::Memory, permit),
            Err(error) => tracing::warn!(%error, "connection refused"),
        }
    }

    /// Runs what does not wait for a line, until told to stop.
    ///
    /// # Errors
    /// As [`Router::run`].
    pub async fn run(&self, stop: CancellationToken) -> Result<(), StoreError> {
        self.service.router.run(stop).await
    }
}
