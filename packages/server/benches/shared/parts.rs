//! A benchmark that has parts.

use crate::figures::Figures;

/// The parts that are named on the command line; all of them if none is.
pub(crate) struct Wanted(Vec<String>);

impl Wanted {
    pub(crate) fn has(&self, part: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|name| name == part)
    }
}

/// Measures the parts that are wanted, and prints the figures.
pub(crate) fn run<F>(measure: impl FnOnce(Wanted) -> F)
where
    F: Future<Output = Figures> + Send + 'static,
{
    // No client can be made without it, not even one that speaks no TLS.
    rustls::crypto::ring::default_provider().install_default().expect("the first");
    let named = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let runtime = matryx_repository::runtime().expect("threads");
    let measured = runtime.block_on(runtime.spawn(measure(Wanted(named))));
    println!("{}", measured.expect("the benchmark runs"));
    runtime.shutdown_background();
}
