//! scratch: compare with recorded llama-server logprobs
#![allow(clippy::disallowed_methods)]
use bytes::Bytes;
use futures::executor::block_on;
use reprise_compute::Cpu;
use reprise_gguf::*;
use reprise_model::*;
#[test]
#[ignore]
fn oracle() {
    for line in std::fs::read_to_string(std::env::var("ORACLE").unwrap()).unwrap().lines() {
        let f: Vec<&str> = line.split('|').collect();
        let source = MemorySource(Bytes::from(std::fs::read(f[0]).unwrap()));
        let gguf = block_on(Gguf::open(&source)).unwrap();
        let t = std::time::Instant::now();
        let mut model = block_on(load(&source, &gguf, Cpu::new(2), LoadOptions { blocks: 64, ..Default::default() })).unwrap();
        println!("{} loaded in {:?} {:?}", f[0], t.elapsed(), model.info());
        let ints = |s: &str| s.split(',').map(|x| TokenId(x.parse().unwrap())).collect::<Vec<_>>();
        let prompt = ints(f[1]);
        let tokens = ints(f[2]);
        let blocks: Vec<u32> = (0..64).collect();
        let mut out = StepOutput::default();
        let t = std::time::Instant::now();
        for (i, c) in prompt.chunks(512).enumerate() {
            block_on(model.forward(&[Sequence { tokens: c, start: i as u32 * 512, blocks: &blocks, output: Output::LastLogits }], &mut out)).unwrap();
        }
        let pre = t.elapsed();
        let mut pos = prompt.len() as u32;
        let (mut max, mut sum, mut n, mut agree) = (0f32, 0f32, 0, 0);
        let t = std::time::Instant::now();
        for (step, tops) in f[3..].iter().enumerate() {
            let m = out.logits.iter().cloned().fold(f32::MIN, f32::max);
            let z = m + out.logits.iter().map(|x| ((x - m) as f64).exp()).sum::<f64>().ln() as f32;
            let best = (0..out.logits.len()).max_by(|&a, &b| out.logits[a].total_cmp(&out.logits[b])).unwrap();
            if best as u32 == tokens[step].0 { agree += 1 } else { println!("  step {step}: {best} not {} gap {}", tokens[step].0, out.logits[best] - out.logits[tokens[step].index()]) }
            for pair in tops.split(',') {
                let (id, lp) = pair.split_once(':').unwrap();
                let lp: f32 = lp.parse().unwrap();
                let d = (out.logits[id.parse::<usize>().unwrap()] - z - lp).abs();
                max = max.max(d); sum += d; n += 1;
            }
            block_on(model.forward(&[Sequence { tokens: &tokens[step..=step], start: pos, blocks: &blocks, output: Output::LastLogits }], &mut out)).unwrap();
            pos += 1;
        }
        println!("  prompt {} greedy {agree}/{} top20 max {max:.4} mean {:.5}; prefill {pre:?} decode {:?}", prompt.len(), f.len() - 3, sum / n as f32, t.elapsed());
    }
}
