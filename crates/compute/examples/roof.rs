//! The most that this machine does: what the benchmarks call the roof.
//!
//! `cargo run --release -p reprise-compute --example roof -- [threads]` prints multiply-adds of 8-bit integers and bytes read
//! from memory, a second, the best of several times.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that measures time")]

use std::error::Error;
use std::time::Instant;

use reprise_compute::{Backend, Cpu};

fn main() -> Result<(), Box<dyn Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(2), |text| text.parse())?;
    let cpu = Cpu::new(threads);
    let roof = cpu.roof(256 << 20).ok_or("there are no 256 MiB to read")?;
    println!("{}", cpu.name());
    println!("{:.1} G multiply-adds/s", best(|| roof.multiply_adds(5_000_000_000)) / 1e9);
    println!("{:.1} GB/s read", best(|| roof.read()) / 1e9);
    Ok(())
}

/// What `work` says that it did, a second.
fn best(work: impl Fn() -> u64) -> f64 {
    let rate = |_| {
        let start = Instant::now();
        work() as f64 / start.elapsed().as_secs_f64()
    };
    (0..10).map(rate).fold(0.0, f64::max)
}
