//! `waymark`: the host, its worker processes, and the client, in one binary.

fn main() -> std::process::ExitCode {
    waymark::program::main()
}
