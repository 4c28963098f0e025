//! Connections: taken, served, and ended when the server stops or the other side takes too long.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, serve::Listener};
use hyper::{Request, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// How long a connection may take to bring the head of its first request, and then of each next one.
pub const HEAD: Duration = Duration::from_mins(1);

/// How many connections there is room for. Each takes a file of those that the system lets the process open, and so does
/// the database now and then: a quarter is left to it, since it ends the server if it can't write.
#[must_use]
pub fn places() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    // Unlimited, or a system that has another way to say it.
    let files = files.and_then(|limits| limits.split_whitespace().next()?.parse::<usize>().ok());
    files.map_or(Semaphore::MAX_PERMITS, |files| {
        (files - files / 4).clamp(2, Semaphore::MAX_PERMITS)
    })
}

/// Takes connections and serves them until `stop` is cancelled; then waits until those that are open have had their
/// answers. One that does not bring the head of a request within `head` is cut. Where none of the `places` is free, who
/// comes waits until one is.
pub async fn serve<L: Listener>(
    mut listener: L,
    routes: Router,
    stop: CancellationToken,
    head: Duration,
    places: Arc<Semaphore>,
) {
    let connections = TaskTracker::new();
    loop {
        let next = async {
            // Never closed.
            let place = Arc::clone(&places).acquire_owned().await;
            let (io, _) = listener.accept().await;
            (place, io)
        };
        let (place, io) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        let served = connection::<L>(io, routes.clone(), stop.clone(), head);
        connections.spawn(async move {
            served.await;
            drop(place);
        });
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

    /// A connection to a server with this patience, and what stops it.
    async fn serving(head: Duration) -> (TcpStream, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Listener::local_addr(&listener).unwrap();
        let (stop, routes) =
            (CancellationToken::new(), Router::new().route("/", get(async || "x")));
        tokio::spawn(serve(listener, routes, stop.clone(), head, Arc::new(Semaphore::new(1))));
        (TcpStream::connect(address).await.unwrap(), stop)
    }

    #[tokio::test]
    async fn who_never_comes_to_the_point_is_cut_off() {
        for said in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            let (mut connection, _) = serving(Duration::from_millis(20)).await;
            // It ends without an answer, and if this takes long, before all of it is said.
            drop(connection.write_all(said.as_bytes()).await);
            let mut answer = Vec::new();
            drop(connection.read_to_end(&mut answer).await);
            assert_eq!(answer, b"", "{said}");
        }
        let (mut connection, stop) = serving(HEAD).await;
        connection.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut begin = [0; 12];
        connection.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");
        // An idle connection holds up no stop.
        stop.cancel();
        connection.read_to_end(&mut Vec::new()).await.unwrap();
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_for_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Listener::local_addr(&listener).unwrap();
        let (stop, places) = (CancellationToken::new(), Arc::new(Semaphore::new(1)));
        let routes = Router::new().route("/", get(async || "x"));
        let server = tokio::spawn(serve(listener, routes, stop.clone(), HEAD, places));
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let (mut byte, mut more) = ([0], [0; 200]);
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(request).await.unwrap();
        first.read_exact(&mut byte).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(request).await.unwrap();
        // The first one's next request is served, and the second one's first is not.
        first.write_all(request).await.unwrap();
        tokio::select! {
            biased;
            read = second.read_exact(&mut byte) => panic!("{read:?}"),
            read = first.read_exact(&mut more) => { read.unwrap(); }
        }
        drop(first);
        second.read_exact(&mut byte).await.unwrap();
        drop(second);
        stop.cancel();
        server.await.unwrap();
    }
}
