//! The kernels against products in f64, on whatever adapter there is.

mod bench;
mod inputs;
mod products;
mod splits;

use super::{Epilogue, LinearOp, LinearOutput, Variant, plan};
