//! Slot files: saved and restored, against copying a file of the same bytes.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::stats::{Better, Figure, cell, median};
use super::super::{client, http};
use super::{Contestant, Server};

const TOKENS: usize = 2000;
const FLAGS: [&str; 6] = ["-np", "2", "-c", "8192", "--cache-ram", "0"];

/// What is timed, all in MB/s.
const ROWS: [&str; 3] = ["save", "restore", "save and restore"];

/// A server with a folder, and a slot that is full.
struct Side {
    server: Server,
    folder: tempfile::TempDir,
}

/// Prints the speeds of both servers and of a copy.
pub(super) fn run(contestants: &[&Contestant], rounds: usize) -> Result<()> {
    let sides = contestants.iter().map(|contestant| side(contestant)).collect::<Result<Vec<_>>>()?;
    let mut figures: [Figure; ROWS.len()] = std::array::from_fn(|_| Figure::default());
    let (mut copies, mut synced) = (Figure::default(), Figure::default());
    let mut bytes = 0;
    for _ in 0..rounds {
        for (side, is_ours) in sides.iter().zip([true, false]) {
            let (written, save) = client::slot_file(&side.server.url, 0, "save")?;
            let (read, restore) = client::slot_file(&side.server.url, 1, "restore")?;
            let times = [speed(written, save), speed(read, restore), speed(written + read, save + restore)];
            for (figure, time) in figures.iter_mut().zip(times) {
                if is_ours { figure.ours.push(time) } else { figure.peers.push(time) }
            }
        }
        let from = sides[0].folder.path().join("bench");
        bytes = fs::metadata(&from).context("the slot file")?.len();
        let both = figures[2].ours.last().copied().unwrap_or(f64::NAN);
        for (figure, sync) in [(&mut copies, false), (&mut synced, true)] {
            figure.ours.push(both);
            figure.peers.push(speed(2 * bytes, copy(&from, sync)?));
        }
    }
    println!(
        "slot files of {TOKENS} tokens, {:.1} MB, medians of {rounds} interleaved rounds, MB/s\n",
        bytes as f64 / 1e6
    );
    println!("| | reprise | llama-server | ratio |\n| --- | ---: | ---: | ---: |");
    for (name, figure) in ROWS.iter().zip(&figures) {
        println!("{}", row(name, figure));
    }
    println!("\n| save and restore against | reprise | copy | ratio |\n| --- | ---: | ---: | ---: |");
    println!("{}", row("a copy of the file", &copies));
    println!("{}\n", row("a copy that is on disk when it ends, as a saved slot is", &synced));
    Ok(())
}

fn side(contestant: &Contestant) -> Result<Side> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_string_lossy().into_owned();
    let server = contestant.start(&[&FLAGS[..], &["--slot-save-path", &path]].concat())?;
    let prompt = http::prompt(&server.url, 0, TOKENS)?;
    client::stream(&server.url, &prompt, 1, 0)?;
    Ok(Side { server, folder })
}

/// Reads a file and writes another: both directions of its bytes, as a save and a restore are.
fn copy(from: &Path, sync: bool) -> Result<Duration> {
    let to = from.with_extension("copy");
    let begin = Instant::now();
    fs::copy(from, &to)?;
    if sync {
        File::open(&to)?.sync_all()?;
    }
    let took = begin.elapsed();
    fs::remove_file(&to)?;
    Ok(took)
}

fn speed(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

fn row(name: &str, figure: &Figure) -> String {
    let ratio = figure.advantage(Better::Higher);
    format!(
        "| {name} | {} | {} | {} |",
        cell(median(&figure.ours), 0),
        cell(median(&figure.peers), 0),
        cell(ratio, 2)
    )
}
