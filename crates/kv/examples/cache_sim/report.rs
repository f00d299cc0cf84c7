//! The table, and whether the targets are met.

use std::fmt;

use crate::Request;
use crate::rivals::{BELADY, LRU, NAMES, REPRISE};
use crate::workloads::{Target, Workload};

/// Points below Belady allowed, in tenths of a per cent.
const BELADY_TENTHS: u64 = 30;
/// Points below LRU allowed where LRU is good, in tenths of a per cent.
const LRU_TENTHS: u64 = 10;

/// All results.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    target: Target,
    cells: [Cell; NAMES.len()],
}

/// Over all seeds.
#[derive(Default)]
struct Cell {
    found: u64,
    asked: u64,
    /// Share of each prompt that was recomputed, in thousandths.
    recomputed: Vec<u64>,
}

impl Cell {
    /// Share of prompt tokens found, in tenths of a per cent.
    fn hit(&self) -> u64 {
        (self.found * 1000 + self.asked / 2) / self.asked.max(1)
    }

    /// Nineteen of twenty requests recompute no more than this share, in per cent.
    fn p95(&self) -> u64 {
        let mut sorted = self.recomputed.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 19 / 20).map_or(0, |share| (share + 5) / 10)
    }
}

impl Row {
    /// What is asked of the policy: by how much it misses the mark, and by how much it may; tenths of a per cent.
    fn target(&self) -> Option<(&'static str, i64, u64)> {
        let below = |column: usize| self.cells[column].hit() as i64 - self.cells[REPRISE].hit() as i64;
        match self.target {
            Target::Belady => Some(("Belady", below(BELADY), BELADY_TENTHS)),
            Target::Lru => Some(("LRU", below(LRU), LRU_TENTHS)),
            Target::None => None,
        }
    }

    fn is_met(&self) -> bool {
        self.target().is_none_or(|(_, below, allowed)| below <= allowed as i64)
    }
}

impl Report {
    /// Adds one seed's requests with the leading blocks found of each.
    pub(crate) fn add<'a>(
        &mut self,
        workload: &Workload,
        column: usize,
        served: impl Iterator<Item = (&'a Request, usize)>,
    ) {
        if self.rows.last().is_none_or(|row| row.name != workload.name) {
            let (name, target) = (workload.name.clone(), workload.target);
            self.rows.push(Row { name, target, cells: Default::default() });
        }
        let Some(cell) = self.rows.last_mut().map(|row| &mut row.cells[column]) else { return };
        for (request, found) in served {
            let (asked, found) = (request.prompt as u64, found as u64);
            cell.found += found;
            cell.asked += asked;
            cell.recomputed.push((asked - found) * 1000 / asked);
        }
    }

    pub(crate) fn is_met(&self) -> bool {
        self.rows.iter().all(Row::is_met)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Prompt tokens found, per cent / share recomputed by the 95th of 100 requests, per cent.\n"
        )?;
        writeln!(f, "| workload | {} |", NAMES.join(" | "))?;
        writeln!(f, "| --- |{}", " ---: |".repeat(NAMES.len()))?;
        for row in &self.rows {
            write!(f, "| {} |", row.name)?;
            for cell in &row.cells {
                write!(f, " {}.{} / {} |", cell.hit() / 10, cell.hit() % 10, cell.p95())?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for row in &self.rows {
            if let Some((mark, below, allowed)) = row.target() {
                let verdict = if row.is_met() { "met" } else { "MISSED" };
                let (sign, tenths) = (if below < 0 { "-" } else { "" }, below.unsigned_abs());
                let (whole, part, allowed) = (tenths / 10, tenths % 10, allowed / 10);
                writeln!(
                    f,
                    "- {}: {sign}{whole}.{part} points below {mark}, at most {allowed}: {verdict}",
                    row.name
                )?;
            }
        }
        Ok(())
    }
}
