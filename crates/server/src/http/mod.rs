//! HTTP on every node: health, metrics, the console, and the JSON behind it.
//!
//! All pages come from this node's own view and from what its peers answer within a second; none needs a quorum, so the
//! console works exactly when an operator needs it.

mod cluster;
mod metrics;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::ServerError;
use crate::peers::Peers;

/// What the pages are made from.
pub(crate) struct Pages {
    /// This node and the others.
    pub(crate) peers: Arc<Peers>,
    /// SQL is served here.
    pub(crate) ready: Arc<AtomicBool>,
}

/// Binds the port; the pages are served by [`serve`].
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|error| ServerError::Listen { what: "HTTP", address, error })
}

/// Serves until `shutdown`.
pub(crate) async fn serve(listener: TcpListener, pages: Arc<Pages>, shutdown: CancellationToken) {
    let routes = Router::new()
        .route("/", get(|| async { Html(include_str!("console.html")) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/cluster", get(cluster_view))
        .route("/api/v1/node", get(node_view))
        .with_state(pages);
    let serving = axum::serve(listener, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    // A browser that polls keeps its connection: after the signal nobody waits for it.
    tokio::select! {
        result = serving => {
            if let Err(error) = result {
                tracing::error!(%error, "HTTP server ended");
            }
        }
        () = async { shutdown.cancelled().await; tokio::time::sleep(std::time::Duration::from_secs(1)).await; } => {}
    }
}

async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    if pages.ready.load(Ordering::Acquire) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "SQL is not served yet\n").into_response()
    }
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    match pages.peers.local_status().await {
        Ok(status) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            (kind, metrics::render(&status)).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

async fn cluster_view(State(pages): State<Arc<Pages>>) -> Response {
    Json(cluster::view(&pages.peers.all_statuses().await)).into_response()
}

async fn node_view(State(pages): State<Arc<Pages>>) -> Response {
    match pages.peers.local_status().await {
        Ok(status) => Json(cluster::node(&status)).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

pub(crate) use cluster::{Seen, view as cluster_json};
