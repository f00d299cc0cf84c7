//! The rows of one model file, in the order in which they were first measured.

use crate::bench::stats::{Better, Figure, median};

/// Whose sample it is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Ours,
    Peers,
}

/// Figures of a model file.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    better: Better,
    figure: Figure,
    /// Per cent of the machine's roof that ours reaches, in rounds.
    roofs: Vec<f64>,
}

impl Table {
    /// Adds the sample of a round.
    pub(super) fn add(&mut self, side: Side, name: &str, better: Better, value: f64) {
        let row = self.row(name, better);
        match side {
            Side::Ours => row.figure.ours.push(value),
            Side::Peers => row.figure.peers.push(value),
        }
    }

    /// Adds how much of the roof the round's sample of ours is.
    pub(super) fn add_roof(&mut self, name: &str, per_cent: f64) {
        self.row(name, Better::Higher).roofs.push(per_cent);
    }

    fn row(&mut self, name: &str, better: Better) -> &mut Row {
        let index = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            let row = Row { name: name.to_owned(), better, figure: Figure::default(), roofs: Vec::new() };
            self.rows.push(row);
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }

    /// The head of all tables.
    pub(super) fn print_head() {
        println!("| file | figure | reprise | llama.cpp | ratio | of the roof | load |");
        println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    }

    /// Prints the rows and forgets them.
    pub(super) fn print(&mut self, model: &str) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default();
        for row in self.rows.drain(..) {
            println!("{}", row.text(model, load));
        }
    }
}

impl Row {
    fn text(&self, model: &str, load: &str) -> String {
        let cell = |value: Option<f64>, digits: usize, unit: &str| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}{unit}"))
        };
        format!(
            "| {model} | {} | {} | {} | {} | {} | {load} |",
            self.name,
            cell(median(&self.figure.ours), 1, ""),
            cell(median(&self.figure.peers), 1, ""),
            cell(self.figure.advantage(self.better), 2, ""),
            cell(median(&self.roofs), 0, " %")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_order_and_what_is_missing_is_a_dash() {
        let mut table = Table::default();
        table.add(Side::Ours, "pp512", Better::Higher, 30.0);
        table.add_roof("pp512", 61.4);
        table.add(Side::Ours, "start, ms", Better::Lower, 50.0);
        table.add(Side::Peers, "start, ms", Better::Lower, 100.0);
        table.add(Side::Peers, "pp512", Better::Higher, 10.0);
        let rows: Vec<_> = table.rows.iter().map(|row| row.text("model", "0.10")).collect();
        assert_eq!(
            rows,
            [
                "| model | pp512 | 30.0 | 10.0 | 3.00 | 61 % | 0.10 |",
                "| model | start, ms | 50.0 | 100.0 | 2.00 | - | 0.10 |",
            ]
        );
    }
}
