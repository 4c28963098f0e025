//! Connections: taken, served, and ended when the server stops or the other side takes too long.

use std::{future::pending, pin::pin, time::Duration};

use axum::{Router, body::Body, serve::Listener};
use hyper::{Request, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// How long a connection may take to bring the head of its first request, and then of each next one.
pub const HEAD: Duration = Duration::from_mins(1);

/// Takes connections and serves them until `stop` is cancelled; then waits until those that are open have had their
/// answers. One that does not bring the head of a request within `head` is cut.
pub async fn serve<L: Listener>(
    mut listener: L,
    routes: Router,
    stop: CancellationToken,
    head: Duration,
) {
    let connections = TaskTracker::new();
    loop {
        let io = tokio::select! {
            () = stop.cancelled() => break,
            (io, _) = listener.accept() => io,
        };
        connections.spawn(connection::<L>(io, routes.clone(), stop.clone(), head));
    }
    // Nobody else is let in while the last ones are served.
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection<L: Listener>(
    io: L::Io,
    routes: Router,
    stop: CancellationToken,
    head: Duration,
) {
    let begun = CancellationToken::new();
    let first = begun.clone();
    let answer = tower::service_fn(move |request: Request<Incoming>| {
        first.cancel();
        let routes = routes.clone();
        async move { routes.oneshot(request.map(Body::new)).await }
    });
    let mut protocol = Builder::new(TokioExecutor::new());
    protocol.http1().timer(TokioTimer::new()).header_read_timeout(head);
    let service = TowerToHyperService::new(answer);
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(io), service));
    // Until the first bytes are there it is not even known which version of HTTP it is, and its timer does not run.
    let silence = async {
        if timeout(head, begun.cancelled()).await.is_ok() {
            pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = silence => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "connection.ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn who_never_comes_to_the_point_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Listener::local_addr(&listener).unwrap();
        let (stop, routes) =
            (CancellationToken::new(), Router::new().route("/", get(async || "x")));
        let head = Duration::from_millis(20);
        let server = tokio::spawn(serve(listener, routes, stop.clone(), head));
        for said in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            let mut connection = TcpStream::connect(address).await.unwrap();
            connection.write_all(said.as_bytes()).await.unwrap();
            // Ends, without an answer.
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"", "{said}");
        }
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        stop.cancel();
        server.await.unwrap();
    }
}
