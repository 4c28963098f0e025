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
#[path = "../shared/parts.rs"]
mod parts;
mod signatures;
#[expect(
    dead_code,
    unused_imports,
    reason = "by far not all that tests are written with is of use here"
)]
#[path = "../../../../tests/support/mod.rs"]
mod support;
mod thread;

use figures::Figures;
use parts::Wanted;

fn main() {
    parts::run(measure);
}

/// `cargo bench --bench federation -- incoming join` measures two parts.
async fn measure(wanted: Wanted) -> Figures {
    let mut figures = Figures::default();
    if wanted.has("outgoing") {
        outgoing::measure(&mut figures).await;
    }
    if wanted.has("incoming") {
        incoming::measure(&mut figures).await;
    }
    if wanted.has("signatures") {
        signatures::measure(&mut figures).await;
    }
    if wanted.has("join") {
        join::measure(&mut figures).await;
    }
    if wanted.has("fork") {
        fork::measure(&mut figures).await;
    }
    figures
}
