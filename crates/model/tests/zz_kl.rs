//! scratch
#![allow(clippy::disallowed_methods)]
use bytes::Bytes;
use futures::executor::block_on;
use reprise_compute::Cpu;
use reprise_compute::Backend;
use reprise_compute::reference::{Reference, Rounding};
use reprise_gguf::*;
use reprise_model::*;
use std::io::Write;
fn run<B: Backend>(b: B, label: &str) {
    let f = std::env::var("MODEL").unwrap();
    let source = MemorySource(Bytes::from(std::fs::read(format!("{}{f}.gguf", std::env::var("DIR").unwrap_or("/root/.cache/reprise/models/".into()))).unwrap()));
    let gguf = block_on(Gguf::open(&source)).unwrap();
    let mut model = block_on(load(&source, &gguf, b, LoadOptions { blocks: 64, ..Default::default() })).unwrap();
    let ids: Vec<TokenId> = std::fs::read_to_string(format!("/tmp/w/model/kl-{f}.ids")).unwrap().split(',').map(|x| TokenId(x.parse().unwrap())).collect();
    let blocks: Vec<u32> = (0..64).collect();
    let mut file = std::io::BufWriter::new(std::fs::File::create(format!("/tmp/w/model/kl-{f}-{label}.bin")).unwrap());
    let mut out = StepOutput::default();
    let step = (ids.len() / std::env::var("N").map_or(60, |n| n.parse().unwrap())).max(1);
    let mut len = 3;
    let mut start = 0;
    while len < ids.len() {
        block_on(model.forward(&[Sequence { tokens: &ids[start..len], start: start as u32, blocks: &blocks, output: Output::LastLogits }], &mut out)).unwrap();
        let m = out.logits.iter().cloned().fold(f32::MIN, f32::max);
        let z = m + out.logits.iter().map(|x| ((x - m) as f64).exp()).sum::<f64>().ln() as f32;
        for l in &out.logits { file.write_all(&(l - z).to_le_bytes()).unwrap(); }
        start = len;
        len += step;
    }
}
#[test]
#[ignore]
fn ours() { run(Cpu::new(2), "ours"); }
#[test]
#[ignore]
fn exact() { run(Reference::new(Rounding::Exact), "exact"); }
#[test]
#[ignore]
fn eight() { run(Reference::new(Rounding::EightBit), "eight"); }
