use std::process::ExitCode;

/// State servers spend a fifth of their time in the allocator; with this one every job costs a sixth less, and it gives
/// memory back by itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    ExitCode::from(cli::main(&words))
}
