//! The suite: scenarios as data, run against any server that speaks llama-server's API.

mod check;
mod http;
mod run;
mod scenario;
mod server;
mod texts;

pub use check::{Expected, Recorded};
pub use run::{Outcome, run};
pub use scenario::Scenario;
pub use server::Target;
