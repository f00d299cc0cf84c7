//! The operations of a pass as the recorder keeps them, and one module for each that says how it is dispatched.
//!
//! Shared by all: parameters are words (`Params` of the WGSL beside each module), rows go along the grid's `y`.

pub(crate) mod attention;
pub(crate) mod cells;
pub(crate) mod embed;
pub(crate) mod gather;
pub(crate) mod heads;
pub(crate) mod map;
pub(crate) mod norm;
pub(crate) mod top;

use reprise_compute::Activation;

use crate::buffer::Operand;
use crate::linear::{Epilogue, LinearOp, LinearOutput, Variant, plan};
use crate::recorder::Recorder;
use crate::weights::GpuWeight;

/// One recorded operation.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Embed(embed::Embed),
    Norm(norm::Norm),
    Linear(Linear),
    /// QK norms, rotations and the store of K and V, alone or together.
    Heads(Box<heads::Heads>),
    Attention(attention::Attend),
    Map(map::Map),
    Gather(gather::Gather),
}

/// Projections of the same rows.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) x: Operand,
    /// Norm weight and epsilon, when the rows are normed first.
    pub(crate) norm: Option<(GpuWeight, f32)>,
    /// Weight, bias, and where the product goes.
    pub(crate) projections: Vec<(GpuWeight, Option<GpuWeight>, Operand)>,
    pub(crate) epilogue: Epilogue,
    /// Where a fused epilogue puts its result, in place of the projections' own outputs.
    pub(crate) into: Option<Operand>,
}

impl Op {
    /// Whether the operation reads the tensor's values.
    pub(crate) fn reads(&self, tensor: &Operand) -> bool {
        match self {
            Self::Embed(_) => false,
            Self::Norm(op) => op.x.is(tensor) || (op.add && op.out.is(tensor)),
            Self::Linear(op) => {
                op.x.is(tensor)
                    || (op.epilogue == Epilogue::Add && op.into.as_ref().is_some_and(|into| into.is(tensor)))
            }
            Self::Heads(op) => op.reads(tensor),
            Self::Attention(op) => op.q.is(tensor),
            Self::Map(op) => op.x.is(tensor) || op.y.as_ref().is_some_and(|y| y.is(tensor)),
            Self::Gather(op) => op.x.is(tensor),
        }
    }

    /// Whether the operation puts new values in the place of all that the tensor holds.
    pub(crate) fn replaces(&self, tensor: &Operand) -> bool {
        let out = match self {
            Self::Embed(op) => &op.out,
            Self::Norm(op) => &op.out,
            Self::Linear(op) => {
                let mut outs = op.projections.iter().map(|(_, _, out)| out);
                return op.into.is_none() && outs.any(|out| out.is(tensor));
            }
            Self::Heads(_) | Self::Map(_) => return false,
            Self::Attention(op) => &op.out,
            Self::Gather(op) => &op.out,
        };
        out.is(tensor) && !self.reads(tensor)
    }
}

/// Records the dispatches of a matrix product.
pub(crate) fn linear(recorder: &mut Recorder, op: &Linear) {
    let outputs: Vec<_> = op
        .projections
        .iter()
        .map(|(weight, bias, out)| LinearOutput {
            weight,
            bias: bias.as_ref(),
            out: &op.into.as_ref().unwrap_or(out).buffer,
        })
        .collect();
    let norm = op.norm.as_ref().map(|(weight, eps)| (weight, *eps));
    let op = LinearOp { x: &op.x.buffer, rows: op.x.rows, norm, outputs: &outputs, epilogue: op.epilogue };
    let features = recorder.device.features;
    let variant = Variant {
        subgroup: if features.subgroups { recorder.device.subgroup_sizes.0 } else { 0 },
        dot4: features.dot4,
        f16: features.f16,
        rows: features.row_tile,
    };
    for dispatch in plan(&op, variant) {
        recorder.linear(&dispatch);
    }
}

/// The number of an activation in WGSL.
pub(crate) fn activation_index(activation: Activation) -> u32 {
    match activation {
        Activation::Silu => 0,
        Activation::Gelu => 1,
    }
}

/// `const NAME: u32 = value;` for each, before a source.
pub(crate) fn with_constants(constants: &[(&str, u32)], sources: &[&str]) -> String {
    let mut text = String::new();
    for (name, value) in constants {
        text.push_str(&format!("const {name}: u32 = {value}u;\n"));
    }
    for source in sources {
        text.push_str(source);
    }
    text
}
