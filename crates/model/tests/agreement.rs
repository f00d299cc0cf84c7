//! Every architecture on the CPU backend agrees with the double-precision reference, and with itself however a prompt
//! is cut into steps.

mod common;

use common::{ARCHITECTURES, Tiny, blocks, difference, evaluate, options, prompt, store};
use futures::executor::block_on;
use reprise_compute::Cpu;
use reprise_compute::reference::{Reference, Rounding};
use reprise_gguf::GgmlDType;
use reprise_model::{
    Forward, LoadOptions, MAX_TOP, ModelError, Output, RopeOverrides, RopeScaling, Scores, Sequence,
    StepOutput,
};

/// Tokens of the prompts: across a block's border, and past the window of `gemma3`.
const PROMPT: usize = 45;

#[test]
fn cpu_agrees_with_the_reference() {
    // Largest error of a logit over the largest logit: f32 rounding, and KV that falls on the other side of an f16. With
    // quantised weights the reference rounds activations to 8 bits as the CPU does; a rounding that goes the other way
    // is worth up to half a percent of an activation, and is passed on by every product after it.
    for (dtype, tolerance) in
        [(GgmlDType::F32, 1e-3), (GgmlDType::F16, 1e-3), (GgmlDType::Q8_0, 5e-2), (GgmlDType::Q4_1, 5e-2)]
    {
        for architecture in ARCHITECTURES {
            let tiny = Tiny::new(architecture, dtype, 7);
            let tokens = prompt(PROMPT, 1);
            let found = evaluate(&mut tiny.load(Cpu::new(2)), &tokens, 0, &blocks(3, PROMPT));
            let wanted =
                evaluate(&mut tiny.load(Reference::new(Rounding::EightBit)), &tokens, 0, &blocks(0, PROMPT));
            let difference = difference(&found, &wanted);
            println!("{architecture} {dtype:?}: {difference:.1e}");
            assert!(difference < tolerance, "{architecture} {dtype:?}: {difference}");
        }
    }
}

#[test]
fn a_prompt_gives_the_same_logits_however_it_is_cut() {
    for architecture in ARCHITECTURES {
        for dtype in [GgmlDType::F32, GgmlDType::Q4_0] {
            let mut model = Tiny::new(architecture, dtype, 11).load(Cpu::new(2));
            let tokens = prompt(PROMPT, 2);
            let mut place = 0..;
            let mut cut = |size: usize| {
                let blocks = blocks(place.next().expect("room") * 2, PROMPT);
                let last = (PROMPT - 1) / size * size;
                for (index, chunk) in tokens[..last].chunks(size).enumerate() {
                    store(&mut model, chunk, index * size, &blocks);
                }
                evaluate(&mut model, &tokens[last..], last, &blocks)
            };
            let whole = cut(PROMPT);
            for size in [1, 2, 7, 32, 33] {
                assert_eq!(cut(size), whole, "{architecture} {dtype:?} in chunks of {size}");
            }
        }
    }
}

#[test]
fn sequences_of_a_step_do_not_touch_each_other() {
    for architecture in ARCHITECTURES {
        let mut model = Tiny::new(architecture, GgmlDType::Q8_0, 5).load(Cpu::new(2));
        let (first, second) = (prompt(20, 3), prompt(9, 4));
        let alone = [evaluate(&mut model, &first, 0, &[0]), evaluate(&mut model, &second, 0, &[1])].concat();

        let sequence = |tokens, blocks, output| Sequence { tokens, start: 0, blocks, output };
        let batch = [
            sequence(&first, &[2], Output::LastLogits),
            sequence(&second, &[3], Output::Hidden),
            sequence(&first, &[4], Output::Nothing),
            sequence(&second, &[5], Output::LastLogits),
        ];
        let mut out = StepOutput::default();
        block_on(model.forward(&batch, &mut out)).expect("a step");
        assert_eq!(out.logits, alone, "{architecture}");
        assert_eq!(out.hidden.len(), second.len() * common::WIDTH);
        // A step without logits leaves KV that the next step builds on.
        let next = prompt(1, 5);
        assert_eq!(
            evaluate(&mut model, &next, first.len(), &[4]),
            evaluate(&mut model, &next, first.len(), &[0]),
            "{architecture}"
        );
    }
}

#[test]
fn the_best_logits_are_those_of_the_whole_row() {
    let mut model = Tiny::new("llama", GgmlDType::Q8_0, 5).load(Cpu::new(2));
    let (first, second) = (prompt(20, 3), prompt(9, 4));
    let rows = [evaluate(&mut model, &first, 0, &[0]), evaluate(&mut model, &second, 0, &[1])];
    let sequence = |tokens, blocks, output| Sequence { tokens, start: 0, blocks, output };
    let mut out = StepOutput::default();
    let batch = [
        sequence(&first, &[2], Output::Top(3)),
        sequence(&first, &[3], Output::Nothing),
        sequence(&second, &[4], Output::Top(1)),
        sequence(&second, &[5], Output::Hidden),
    ];
    block_on(model.forward(&batch, &mut out)).expect("a step");
    assert!(out.logits.is_empty());
    for (index, row) in rows.iter().enumerate() {
        let Some(Scores::Top { logits, tokens }) = out.scores(index, common::VOCAB) else {
            panic!("the best logits of sequence {index}");
        };
        let mut order: Vec<u32> = (0..row.len() as u32).collect();
        order.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
        assert!(logits.len() >= 3, "as many as any sequence asked for");
        assert_eq!(tokens, &order[..logits.len()]);
        assert_eq!(logits, tokens.iter().map(|token| row[*token as usize]).collect::<Vec<_>>());
    }
    assert!(out.scores(2, common::VOCAB).is_none());

    // Who needs all logits gets them, and the others get them too.
    for other in [Output::LastLogits, Output::Top(MAX_TOP as u32)] {
        let batch = [sequence(&first, &[2], Output::Top(3)), sequence(&second, &[4], other)];
        block_on(model.forward(&batch, &mut out)).expect("a step");
        assert_eq!(out.logits, rows.concat());
        assert!(matches!(out.scores(1, common::VOCAB), Some(Scores::All(row)) if row == rows[1]));
    }
}

#[test]
fn each_token_of_a_sequence_has_the_logits_that_it_has_alone() {
    for architecture in ARCHITECTURES {
        for dtype in [GgmlDType::Q8_0, GgmlDType::Q4_1, GgmlDType::F16] {
            let mut model = Tiny::new(architecture, dtype, 5).load(Cpu::new(2));
            let (text, draft) = (prompt(41, 3), prompt(4, 4));
            store(&mut model, &text, 0, &[0, 1]);
            store(&mut model, &text, 0, &[2, 3]);
            let start = text.len();
            let alone: Vec<f32> = (0..draft.len())
                .flat_map(|i| evaluate(&mut model, &draft[i..=i], start + i, &[0, 1]))
                .collect();
            let batch = |output| [Sequence { tokens: &draft, start: start as u32, blocks: &[2, 3], output }];
            let mut out = StepOutput::default();
            block_on(model.forward(&batch(Output::EachLogits), &mut out)).expect("a step");
            assert_eq!(out.logits, alone, "{architecture} {dtype:?}");

            block_on(model.forward(&batch(Output::EachTop(2)), &mut out)).expect("a step");
            for (index, row) in alone.chunks(common::VOCAB).enumerate() {
                let Some(Scores::Top { logits, tokens }) = out.scores(index, common::VOCAB) else {
                    panic!("the best logits of token {index}");
                };
                assert_eq!(logits[0], row.iter().copied().fold(f32::MIN, f32::max));
                assert_eq!(logits[0], row[tokens[0] as usize]);
            }
            assert!(out.scores(draft.len(), common::VOCAB).is_none());
        }
    }
}

#[test]
fn equals_among_the_best_bring_the_whole_row() {
    let mut tiny = Tiny::new("gemma3", GgmlDType::F32, 9);
    let tokens = prompt(5, 6);
    let row = evaluate(&mut tiny.load(Cpu::new(2)), &tokens, 0, &[0]);
    let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("a best one");
    // The same embedding, and with it the same logit, for the best token and another one.
    let twin = (best + 1..).find(|twin| !tokens.iter().any(|t| t.index() == *twin)).expect("another")
        % common::VOCAB;
    let embedding = tiny.data("token_embd.weight");
    let width = common::WIDTH;
    embedding.copy_within(best * width..(best + 1) * width, twin * width);
    let mut model = tiny.load(Cpu::new(2));
    let row = evaluate(&mut model, &tokens, 0, &[0]);
    assert_eq!(row[best], row[twin]);
    let mut out = StepOutput::default();
    let sequence = Sequence { tokens: &tokens, start: 0, blocks: &[1], output: Output::Top(1) };
    block_on(model.forward(&[sequence], &mut out)).expect("a step");
    assert!(matches!(out.scores(0, common::VOCAB), Some(Scores::All(found)) if found == row));
}

#[test]
fn logits_are_the_tied_embedding_times_the_hidden_state() {
    let mut tiny = Tiny::new("gemma3", GgmlDType::F32, 9);
    let embedding = tiny.data("token_embd.weight").clone();
    let mut model = tiny.load(Cpu::new(2));
    let tokens = prompt(5, 6);
    let logits = evaluate(&mut model, &tokens, 0, &[0]);
    let mut out = StepOutput::default();
    let sequence = Sequence { tokens: &tokens, start: 0, blocks: &[1], output: Output::Hidden };
    block_on(model.forward(&[sequence], &mut out)).expect("a step");
    let last = out.hidden.chunks(common::WIDTH).next_back().expect("five hidden states");
    let wanted: Vec<f32> =
        embedding.chunks(common::WIDTH).map(|row| row.iter().zip(last).map(|(a, b)| a * b).sum()).collect();
    assert!(difference(&logits, &wanted) < 1e-5);
}

#[test]
fn the_final_cap_bounds_logits() {
    let tiny = Tiny::new("gemma3", GgmlDType::F32, 9);
    let mut capped = tiny.clone();
    capped.set("final_logit_softcapping", reprise_gguf::Value::F32(2.0));
    let tokens = prompt(5, 6);
    let free = evaluate(&mut tiny.load(Cpu::new(2)), &tokens, 0, &[0]);
    let found = evaluate(&mut capped.load(Cpu::new(2)), &tokens, 0, &[0]);
    let wanted: Vec<f32> = free.iter().map(|logit| (logit / 2.0).tanh() * 2.0).collect();
    assert!(difference(&found, &wanted) < 1e-5);
}

#[test]
fn a_window_layer_forgets_what_lies_before_it() {
    let mut tiny = Tiny::new("gemma3", GgmlDType::F32, 13);
    // Every layer local: what is further away than all windows together cannot reach the last token.
    tiny.set("attention.sliding_window_pattern", reprise_gguf::Value::U32(0));
    let reach = common::LAYERS * (common::WINDOW - 1) + 1;
    let tokens = prompt(reach + 1, 8);
    let mut other = tokens.clone();
    other[0].0 ^= 1;
    let mut model = tiny.load(Cpu::new(2));
    let blocks = [blocks(0, tokens.len()), blocks(4, tokens.len())];
    let far = [&tokens, &other].map(|tokens| evaluate(&mut model, tokens, 0, &blocks[0]));
    assert_eq!(far[0], far[1]);
    let near = [&tokens[..reach], &other[..reach]].map(|tokens| evaluate(&mut model, tokens, 0, &blocks[1]));
    assert_ne!(near[0], near[1]);
}

#[test]
fn rope_overrides_reach_the_frequencies() {
    for architecture in ARCHITECTURES {
        let tiny = Tiny::new(architecture, GgmlDType::F32, 17);
        let tokens = prompt(30, 9);
        let logits = |tiny: &Tiny, rope| {
            let mut model =
                tiny.try_load(Cpu::new(2), LoadOptions { rope, ..options() }).expect("a model that loads");
            evaluate(&mut model, &tokens, 0, &[0])
        };
        let plain = logits(&tiny, RopeOverrides::default());
        let based = logits(&tiny, RopeOverrides { freq_base: Some(123.0), ..RopeOverrides::default() });
        assert_ne!(based, plain, "{architecture}");
        let mut file = tiny.clone();
        file.set("rope.freq_base", reprise_gguf::Value::F32(123.0));
        assert_eq!(logits(&file, RopeOverrides::default()), based, "{architecture}");

        let scaled = logits(&tiny, RopeOverrides { freq_scale: Some(0.25), ..RopeOverrides::default() });
        assert_ne!(scaled, plain, "{architecture}");
        let mut file = tiny.clone();
        file.set("rope.scaling.type", reprise_gguf::Value::String("linear".into()));
        file.set("rope.scaling.factor", reprise_gguf::Value::F32(4.0));
        assert_eq!(logits(&file, RopeOverrides::default()), scaled, "{architecture}");
        let none = RopeOverrides { scaling: Some(RopeScaling::None), ..RopeOverrides::default() };
        assert_eq!(logits(&file, none), plain, "{architecture}");
    }
}

#[test]
fn a_step_that_does_not_fit_is_refused() {
    let mut model = Tiny::new("llama", GgmlDType::F32, 1).load(Cpu::new(2));
    let tokens = prompt(65, 1);
    let step = |tokens, start, blocks, output| Sequence { tokens, start, blocks, output };
    let many = [step(&tokens[..1], 0, &[0], Output::LastLogits); 5];
    let unknown = [reprise_gguf::TokenId(common::VOCAB as u32)];
    for (batch, wanted) in [
        (&[step(&tokens, 0, &[0, 1, 2], Output::Nothing)][..], "at most 64"),
        (&many[..], "at most 4"),
        (&[step(&tokens[..5], 0, &[0], Output::EachTop(1))][..], "at most 4"),
        (&[step(&[], 0, &[0], Output::Nothing)][..], "without tokens"),
        (&[step(&unknown, 0, &[0], Output::Nothing)][..], "vocabulary of 64"),
        (&[step(&tokens[..1], 32, &[0], Output::Nothing)][..], "33 positions"),
        (&[step(&tokens[..1], 0, &[16], Output::Nothing)][..], "block 16"),
    ] {
        let error = block_on(model.forward(batch, &mut StepOutput::default())).expect_err(wanted);
        assert!(matches!(error, ModelError::Step(_)), "{error}");
        assert!(error.to_string().contains(wanted), "{error}");
    }
}
