//! What a kernel of [`super::plan`] is compiled for, and its WGSL.

use minijinja::context;
use reprise_gguf::GgmlDType;

use super::Epilogue;
use crate::kernel::Access;
use crate::weights;

/// Lanes that share an output.
pub(super) const LANES: u32 = 8;

/// In what the activations meet the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// f32.
    Float,
    /// Groups of 32 scaled into -1..1 as f16, products in f16.
    Half,
    /// Groups of 32 rounded to 8 bits, integer products.
    Integer,
}

/// Everything that changes a kernel's source: two that are equal are one pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LinearKernel {
    pub(super) mode: Mode,
    /// How many lanes add by subgroup operations: 1, 4 or [`LANES`].
    pub(super) subgroup: u32,
    /// Activation rows of a tile: 1, 2, 4 or 8.
    pub(super) rows: u32,
    /// Rows of each weight that an invocation multiplies with.
    pub(super) per: u32,
    /// Whether activation rows are whole `vec4`s.
    pub(super) aligned: bool,
    pub(super) weights: Vec<GgmlDType>,
    /// How many buffers hold norm and biases.
    pub(super) vectors: usize,
    /// Which of them holds the norm's weight.
    pub(super) norm: Option<usize>,
    /// Which of them holds the bias of each weight.
    pub(super) biases: Vec<Option<usize>>,
    pub(super) epilogue: Epilogue,
}

impl LinearKernel {
    /// A name for the device's messages; different kernels may share one.
    pub(crate) fn label(&self) -> String {
        let types: Vec<_> = self.weights.iter().map(|dtype| format!("{dtype:?}")).collect();
        format!("linear {} {:?} x{}", types.join(" "), self.mode, self.rows)
    }

    /// WGSL extensions that the source uses.
    pub(crate) fn enables(&self) -> Vec<&'static str> {
        let mut enables = Vec::new();
        if self.mode == Mode::Half {
            enables.push("f16");
        }
        if self.subgroup > 1 {
            enables.push("subgroups");
        }
        enables
    }

    /// How the storage buffers are used, from binding 1 on: activations, vectors, weights, outputs.
    pub(crate) fn accesses(&self) -> Vec<Access> {
        let read = 1 + self.vectors + self.weights.len();
        [vec![Access::Read; read], vec![Access::Write; self.outs()]].concat()
    }

    /// The WGSL, without directives. The entry point is `main`.
    pub(crate) fn source(&self) -> String {
        let integer = self.mode == Mode::Integer;
        let access = |(i, &dtype): (usize, &GgmlDType)| weights::access(dtype, &i.to_string(), integer);
        let weights: Vec<_> = self.weights.iter().enumerate().filter_map(access).collect();
        let mode = match self.mode {
            Mode::Float => "f32",
            Mode::Half => "f16",
            Mode::Integer => "i8",
        };
        let gate = match self.epilogue {
            Epilogue::Silu => "silu",
            Epilogue::Gelu => "gelu",
            Epilogue::Store | Epilogue::Add => "",
        };
        let context = context! {
            common => weights::common(),
            mode,
            gate,
            weights,
            quantised => self.weights.iter().all(|&dtype| weights::is_quantised(dtype)),
            subgroup => self.subgroup,
            rows => self.rows,
            threads => self.threads(),
            per => self.per,
            aligned => self.aligned,
            vectors => self.vectors,
            norm => self.norm,
            biases => self.biases.clone(),
            outs => self.outs(),
            add => self.epilogue == Epilogue::Add,
        };
        weights::render(include_str!("linear.wgsl"), &PARTS, &context)
    }

    /// Invocations of a workgroup.
    pub(super) fn threads(&self) -> u32 {
        if self.rows > 4 { 256 } else { 64 }
    }

    /// Outputs of a tile.
    pub(super) fn tile(&self) -> u32 {
        self.threads() / LANES * self.per
    }

    fn outs(&self) -> usize {
        if self.epilogue.is_gate() { 1 } else { self.weights.len() }
    }
}

const PARTS: [(&str, &str); 5] = [
    ("f32_dot.wgsl", include_str!("f32_dot.wgsl")),
    ("f16_dot.wgsl", include_str!("f16_dot.wgsl")),
    ("i8_dot.wgsl", include_str!("i8_dot.wgsl")),
    ("scaled_stage.wgsl", include_str!("scaled_stage.wgsl")),
    ("reduce.wgsl", include_str!("reduce.wgsl")),
];
