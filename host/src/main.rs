//! The `tribox` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tribox::cli::main()
}
