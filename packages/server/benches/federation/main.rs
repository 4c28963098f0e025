//! What other servers cost, in ratios in one run: `cargo bench --bench federation`.
//!
//! Numbers are medians; the ratios are what counts, and what `docs/architecture.md` quotes. Servers and peers are those of the
//! tests: peers have keys, certificates and addresses of their own, and share the machine with the server.

#![expect(clippy::expect_used, reason = "a benchmark that can't go on stops")]
#![expect(unreachable_pub, reason = "what the tests are written with is public to them")]

mod crowded;
#[path = "../shared/figures.rs"]
mod figures;
mod fork;
mod incoming;
mod join;
mod outgoing;
mod signatures;
#[expect(unused_imports, reason = "not all that the tests are written with is of use here")]
#[path = "../../../../tests/support/mod.rs"]
mod support;
mod thread;

use figures::Figures;

fn main() {
    // Peers speak TLS by it, and clients can't be made without.
    rustls::crypto::ring::default_provider().install_default().expect("the first");
    // On a thread of the runtime: the engine wants its stack.
    let runtime = support::runtime();
    let figures =
        runtime.block_on(async { tokio::spawn(run()).await.expect("the benchmark runs") });
    println!("{figures}");
}

/// All parts, or those that are named: `cargo bench --bench federation -- incoming join`.
async fn run() -> Figures {
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    let mut figures = Figures::default();
    if wanted("outgoing") {
        outgoing::measure(&mut figures).await;
    }
    if wanted("incoming") {
        incoming::measure(&mut figures).await;
    }
    if wanted("signatures") {
        signatures::measure(&mut figures).await;
    }
    if wanted("join") {
        join::measure(&mut figures).await;
    }
    if wanted("fork") {
        fork::measure(&mut figures).await;
    }
    figures
}
