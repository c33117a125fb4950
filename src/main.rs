//! Arguments → command.

use std::process::ExitCode;

/// Its pages go back to the kernel when sessions leave, and small allocations
/// waste less than with the C library's: a session's price is its memory.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    usher::cli::main(usher_source::version!())
}
