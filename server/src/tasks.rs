//! What runs beside the connections: accepting them, looking after them, HTTP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::ListenerExt;
use crawlwire_protocol::Dialect;
use crawlwire_transport::{CloseReason, ConnectionInfo, Health, HealthThresholds, Listener, Pool};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::connection::{DIALECT, Service};
use crate::http::{self, Api};

/// Waits for a task, but not for ever. One that has ended may have been waited for before.
pub(crate) async fn ended<T>(task: JoinHandle<T>, grace: Duration, otherwise: &'static str) {
    if !task.is_finished() && tokio::time::timeout(grace, task).await.is_err() {
        tracing::warn!("{otherwise}");
    }
}

/// Takes whoever connects, until the server drains.
pub(crate) async fn accept(listener: Listener, service: Service) {
    loop {
        let next = tokio::select! {
            () = service.drain.cancelled() => return,
            next = listener.next() => next,
        };
        let (stream, peer) = match next {
            Ok(accepted) => accepted,
            Err(refused) => {
                tracing::warn!(
                    peer = %refused.peer, reason = refused.reason.as_str(), detail = refused.detail, "connection refused"
                );
                service.pool.note_refused(refused);
                continue;
            }
        };
        match service.pool.reserve() {
            Ok(permit) => service.spawn(stream, peer, permit),
            Err(error) => {
                tracing::warn!(%peer, %error, reason = CloseReason::ConnectionLimit.as_str(), "connection refused");
            }
        }
    }
}

/// Looks after the connections: notices who fell silent, and closes those of the base protocol whose crawler used to send
/// heartbeats and has not for the whole timeout. The router parts with silent sessions: it hears also what is refused, and
/// says goodbye.
pub(crate) async fn watch_health(pool: Pool, thresholds: HealthThresholds, every: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let is_session =
            |info: &ConnectionInfo| info.metadata.get(DIALECT).map(String::as_str) == Some(Dialect::Session.as_str());
        for report in pool.sweep(&thresholds, is_session) {
            if report.health != Health::Healthy {
                tracing::info!(connection = %report.id, health = ?report.health, issues = ?report.issues, "not healthy");
            }
        }
    }
}

/// Answers HTTP until told to stop.
pub(crate) fn serve_http(listener: TcpListener, api: Api, stop: CancellationToken) -> JoinHandle<io::Result<()>> {
    let listener = listener.tap_io(|stream| {
        // Small events should not wait for more; failing to say so costs only speed.
        let _ = stream.set_nodelay(true);
    });
    tokio::spawn(async move {
        let service = http::routes(api).into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    })
}
