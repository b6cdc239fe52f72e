//! The `countersign` program: parse arguments, hand over.

fn main() -> std::process::ExitCode {
    countersign::cli::run()
}
