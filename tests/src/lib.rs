//! The conformance suite.

pub mod fixtures;
pub mod suite;
