//! The same over a WebSocket: each event is one text message.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Asked;
use super::viewer::Viewer;
use crate::http::Api;
use crate::http::problem::Problem;

/// Bytes of a message from a viewer. Nothing is expected of it but pongs, and what it says is ignored.
const INCOMING_BYTES_MAX: usize = 4096;

const PING_EVERY: Duration = Duration::from_secs(10);

/// A viewer from which nothing was heard for so long, or that takes nothing for so long, is gone.
const SILENT_MAX: Duration = Duration::from_secs(30);

/// How long a goodbye may take to be written.
const GOODBYE: Duration = Duration::from_millis(300);

/// Bytes gathered before they are written, as for the other way to view.
const GATHERED_BYTES: usize = super::CHUNK_BYTES;

pub(super) async fn upgrade(
    State(api): State<Api>,
    asked: Asked,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let viewer = asked.join(api.clone()).await?;
    let counted = api.hub.sockets().token();
    let upgrade = upgrade
        .max_message_size(INCOMING_BYTES_MAX)
        .max_frame_size(INCOMING_BYTES_MAX)
        .write_buffer_size(GATHERED_BYTES);
    Ok(upgrade.on_upgrade(async move |socket| {
        serve(&api, viewer, socket).await;
        drop(counted);
    }))
}

type Sink = SplitSink<WebSocket, Message>;

/// Why it ends.
enum End {
    /// It hung up, or is gone.
    Gone,
    /// We hang up.
    Goodbye(u16, &'static str),
}

async fn serve(api: &Api, viewer: Viewer, socket: WebSocket) {
    let (mut sink, stream) = socket.split();
    let end = tokio::select! {
        // Before the viewer's own end, which it brings about.
        biased;
        () = api.stop.cancelled() => End::Goodbye(close_code::AWAY, "the server stops"),
        end = send(&mut sink, viewer) => end,
        end = hear(stream) => end,
    };
    if let End::Goodbye(code, reason) = end {
        let goodbye = Message::Close(Some(CloseFrame {
            code,
            reason: reason.into(),
        }));
        // Whoever does not take it finds out by itself.
        let _ = timeout(GOODBYE, sink.send(goodbye)).await;
    }
}

/// Sends what there is to see, and pings.
async fn send(sink: &mut Sink, viewer: Viewer) -> End {
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut frames = std::pin::pin!(viewer.frames());
    loop {
        let messages: Vec<_> = tokio::select! {
            frames = frames.next() => match frames {
                Some(frames) => frames.iter().map(|frame| Message::Text(frame.ws())).collect(),
                None => return End::Goodbye(close_code::AWAY, "there is nothing more to see for now"),
            },
            _ = pings.tick() => vec![Message::Ping(Default::default())],
        };
        let sent = async {
            for message in messages {
                sink.feed(message).await?;
            }
            sink.flush().await
        };
        match timeout(SILENT_MAX, sent).await {
            Ok(Ok(())) => {}
            _ => return End::Gone,
        }
    }
}

/// Hears that the viewer is there. What it says is of no interest.
async fn hear(mut stream: SplitStream<WebSocket>) -> End {
    let mut until = Instant::now() + SILENT_MAX;
    loop {
        match tokio::time::timeout_at(until, stream.try_next()).await {
            Ok(Ok(Some(Message::Close(_)) | None)) => return End::Gone,
            Ok(Ok(Some(_))) => until = Instant::now() + SILENT_MAX,
            Ok(Err(_)) => return End::Goodbye(close_code::SIZE, "what cannot be read, or has more than 4096 bytes"),
            Err(_) => return End::Goodbye(close_code::POLICY, "nothing was heard for 30 seconds"),
        }
    }
}
