//! What a model says about itself, and when two models' KV may be exchanged.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::{ARCHITECTURES, Tiny, options};
use reprise_compute::Cpu;
use reprise_gguf::{GgmlDType, TensorInfo, Value};
use reprise_model::{Forward, LoadOptions, LoadProgress, RopeOverrides};

fn fingerprint(tiny: &Tiny, options: LoadOptions) -> [u8; 32] {
    tiny.try_load(Cpu::new(2), options).expect("a model that loads").info().fingerprint
}

#[test]
fn facts_of_a_file() {
    let mut tiny = Tiny::new("qwen3", GgmlDType::Q8_0, 1);
    tiny.set_full("general.name", Value::String("Tiny".into()));
    tiny.set_full("general.file_type", Value::U32(7));
    let info = tiny.load(Cpu::new(2)).info().clone();
    assert_eq!(
        (info.architecture.as_str(), info.name.as_str(), info.file_type.as_str()),
        ("qwen3", "Tiny", "Q8_0")
    );
    assert_eq!((info.vocab, info.embedding, info.train_context), (common::VOCAB, common::WIDTH, 256));
    assert_eq!((info.kv.layers, info.kv.kv_heads, info.kv.head_dim), (4, 2, 32));
    let gguf = tiny.gguf();
    assert_eq!(info.parameters, gguf.tensors().map(|tensor| tensor.elements() as u64).sum::<u64>());
    assert_eq!(info.bytes, gguf.tensors().map(TensorInfo::bytes).sum::<u64>());

    let unnamed = Tiny::new("qwen3", GgmlDType::Q8_0, 1).load(Cpu::new(2)).info().clone();
    assert_eq!((unnamed.name.as_str(), unnamed.file_type.as_str()), ("", "(guessed) Q8_0"));
}

#[test]
fn a_fingerprint_is_the_same_for_the_same_model_only() {
    for architecture in ARCHITECTURES {
        let tiny = Tiny::new(architecture, GgmlDType::F32, 1);
        let own = fingerprint(&tiny, options());
        let more_room = LoadOptions { blocks: 3, batch: 8, ..options() };
        assert_eq!(fingerprint(&tiny, more_room), own, "{architecture}: room is not the model's");

        let changed = |change: &dyn Fn(&mut Tiny)| {
            let mut tiny = tiny.clone();
            change(&mut tiny);
            fingerprint(&tiny, options())
        };
        let rope = |rope| fingerprint(&tiny, LoadOptions { rope, ..options() });
        let others = [
            fingerprint(&Tiny::new(architecture, GgmlDType::F32, 2), options()),
            fingerprint(&Tiny::new(architecture, GgmlDType::F16, 1), options()),
            changed(&|tiny| tiny.data("blk.1.attn_k.weight")[0] += 1.0),
            changed(&|tiny| *tiny.data("blk.3.ffn_down.weight").last_mut().expect("an element") += 1.0),
            changed(&|tiny| tiny.data("output_norm.weight")[30] += 1.0),
            changed(&|tiny| {
                tiny.set("attention.layer_norm_rms_epsilon", Value::F32(1e-6));
            }),
            changed(&|tiny| {
                tiny.set("rope.freq_base", Value::F32(5e5));
            }),
            rope(RopeOverrides { freq_base: Some(2e4), ..RopeOverrides::default() }),
            rope(RopeOverrides { freq_scale: Some(0.5), ..RopeOverrides::default() }),
        ];
        let mut all = [&[own][..], &others].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1 + others.len(), "{architecture}: two of them are the same");
    }
    let gemma3 = |key, value| {
        let mut tiny = Tiny::new("gemma3", GgmlDType::F32, 1);
        tiny.set(key, value);
        fingerprint(&tiny, options())
    };
    let window = |tokens| gemma3("attention.sliding_window", Value::U32(tokens));
    assert_eq!(
        window(common::WINDOW as u32),
        fingerprint(&Tiny::new("gemma3", GgmlDType::F32, 1), options())
    );
    assert_ne!(window(common::WINDOW as u32), window(common::WINDOW as u32 + 1));
    let local_base = |base| gemma3("rope.freq_base_swa", Value::F32(base));
    assert_ne!(local_base(1e4), local_base(2e4));
}

#[test]
fn loading_tells_its_progress() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let report = Rc::clone(&seen);
    let progress: Box<dyn FnMut(LoadProgress)> = Box::new(move |progress| report.borrow_mut().push(progress));
    let tiny = Tiny::new("gemma3", GgmlDType::F32, 1);
    let model = tiny.try_load(Cpu::new(2), LoadOptions { progress: Some(progress), ..options() });
    let total = model.expect("a model that loads").info().bytes;
    let seen = seen.borrow();
    assert_eq!(seen.len(), tiny.gguf().tensors().len());
    assert!(seen.iter().all(|progress| progress.total == total));
    assert!(seen.array_windows().all(|[before, after]| before.loaded < after.loaded));
    assert_eq!(seen.last().map(|progress| progress.loaded), Some(total));
}
