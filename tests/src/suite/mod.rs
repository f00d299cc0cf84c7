//! The suite: scenarios as data, run against any host that speaks llama-server's API.

mod browser;
mod check;
mod host;
mod http;
mod process;
mod run;
mod scenario;
mod step;
mod target;
mod texts;

pub use check::{Expected, Recorded};
pub use host::{Hosts, is_generated};
pub use run::{Outcome, run};
pub use scenario::Scenario;
pub use target::{KnownFailure, Target};
