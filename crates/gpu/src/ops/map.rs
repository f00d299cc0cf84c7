//! What is done element by element, in place: sums, gates, caps.

use reprise_compute::Activation;

use crate::buffer::Operand;
use crate::kernel::Access;
use crate::ops::{activation_index, with_constants};
use crate::recorder::{Bind, Recorder};

/// `x = f(x, y)` for every element.
#[derive(Debug, Clone)]
pub(crate) struct Map {
    pub(crate) x: Operand,
    pub(crate) y: Option<Operand>,
    pub(crate) function: Function,
}

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Function {
    /// `x + y`.
    Add,
    /// `activation(x) * y`.
    Gate(Activation),
    /// `tanh(x / cap) * cap`.
    Softcap(f32),
}

const INVOCATIONS: u32 = 128;

pub(crate) fn record(recorder: &mut Recorder, op: &Map) {
    let (name, text, parameter): (_, _, u32) = match op.function {
        Function::Add => ("add", include_str!("add.wgsl"), 0),
        Function::Gate(activation) => ("gate", include_str!("gate.wgsl"), activation_index(activation)),
        Function::Softcap(cap) => ("softcap", include_str!("softcap.wgsl"), cap.to_bits()),
    };
    let mut buffers = vec![(Access::Write, Bind::Buffer(op.x.buffer.clone()))];
    buffers.extend(op.y.iter().map(|y| (Access::Read, Bind::Buffer(y.buffer.clone()))));
    recorder.dispatch(
        (name, &[]),
        || with_constants(&[("SIZE", INVOCATIONS)], &[include_str!("tanh.wgsl"), text]),
        &buffers,
        &[op.x.width, parameter],
        [op.x.width.div_ceil(INVOCATIONS), op.x.rows, 1],
    );
}
