//! The binary: nothing but the way into the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    matryx_server::commands::run()
}
