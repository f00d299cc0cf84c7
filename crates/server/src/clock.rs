//! The engine's clock on a machine with an operating system.

use std::time::{Duration, Instant};

use reprise_engine::Clock;

/// Time since the server started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock(Instant);

impl SystemClock {
    /// Starts at zero.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
