//! Slots that are saved, restored and erased, and what a bad file or a full disk does not do.

use crate::harness::{Also, Bench, TestStore, config, prompt, request, result};
use futures::FutureExt;
use reprise_engine::testing::ScriptedModel;
use reprise_engine::{EngineConfig, EngineError, SlotFile, SlotFormat, StoreError};
use reprise_kv::image::{ImageError, StateKey};

fn bench_on(store: &TestStore, config: EngineConfig) -> Bench {
    let model = ScriptedModel::new(config.kv_blocks(), config.micro_batch);
    Bench::with(model, config, store.clone())
}

fn save(bench: &mut Bench, slot: u32, name: &str) -> Result<SlotFile, EngineError> {
    let handle = bench.handle.clone();
    bench.ask(handle.save(slot, name.into()))
}

fn restore(bench: &mut Bench, slot: u32, name: &str) -> Result<SlotFile, EngineError> {
    let handle = bench.handle.clone();
    bench.ask(handle.restore(slot, name.into()))
}

fn pinned(seed: u32, length: usize, slot: i64) -> reprise_engine::Generate {
    request(prompt(seed, length)).also(|request| request.pin = Some(slot))
}

#[test]
fn a_slot_survives_a_restart() {
    let store = TestStore::default();
    let mut before = bench_on(&store, config(2, 256));
    let first = before.complete(pinned(1, 81, 1));
    let saved = save(&mut before, 1, "a").unwrap();
    assert_eq!(saved.tokens, 84);
    assert_eq!(saved.bytes, store.images.borrow()["a"].len() as u64);
    drop(before);

    // Another number of slots: the file does not care.
    let mut after = bench_on(&store, config(3, 512));
    assert_eq!(restore(&mut after, 2, "a").unwrap(), saved);
    assert_eq!(after.slot_tokens(), [0, 0, 84]);
    let again = after.complete(request(prompt(1, 81)));
    assert_eq!((again.slot, again.timings.cached, again.timings.prompt), (2, 80, 1));
    assert_eq!(again.text, first.text);
}

#[test]
fn an_exported_slot_is_what_a_save_would_write() {
    let store = TestStore::default();
    let mut bench = bench_on(&store, config(2, 256));
    let first = bench.complete(pinned(1, 81, 0));
    save(&mut bench, 0, "a").unwrap();
    let handle = bench.handle.clone();
    let image = bench.ask(handle.export_slot(0)).unwrap();
    let bytes = image.parts.concat();
    assert_eq!((image.tokens, image.len()), (84, bytes.len() as u64));
    assert_eq!(bytes, store.images.borrow()["a"]);

    // Another engine, without a store.
    let mut other = Bench::new(config(1, 256));
    let handle = other.handle.clone();
    let imported = other.ask(handle.import_slot(0, bytes.into())).unwrap();
    assert_eq!((imported.tokens, imported.bytes), (84, image.len()));
    let again = other.complete(request(prompt(1, 81)));
    assert_eq!((again.timings.cached, again.text), (80, first.text));
}

#[test]
fn an_import_that_fails_leaves_the_slot() {
    let mut bench = Bench::new(config(1, 256));
    bench.complete(pinned(1, 40, 0));
    let handle = bench.handle.clone();
    let mut image = bench.ask(handle.export_slot(0)).unwrap().parts.concat();
    bench.complete(pinned(2, 50, 0));
    let middle = image.len() / 2;
    image[middle] ^= 0xff;
    for bad in [image.clone(), image[..middle].to_vec(), Vec::new(), b"GGUF".to_vec()] {
        let error = bench.ask(handle.import_slot(0, bad.into())).unwrap_err();
        assert!(matches!(error, EngineError::Image(_)), "{error}");
    }
    let large = bench.ask(handle.import_slot(0, vec![0; (1 << 20) + 1].into())).unwrap_err();
    assert!(matches!(large, EngineError::Restore(StoreError::TooLarge { .. })), "{large}");
    assert_eq!(bench.reuse(pinned(2, 50, 0)), (0, 49, 1));
}

#[test]
fn with_a_key_only_images_with_its_tag_are_taken() {
    let keyed =
        |byte: u8| config(1, 256).also(|config| config.state_key = StateKey::derive(&[byte; 16]).ok());
    let store = TestStore::default();
    let mut bench = bench_on(&store, keyed(1));
    bench.complete(pinned(1, 40, 0));
    save(&mut bench, 0, "tagged").unwrap();
    let export = |bench: &mut Bench| {
        let handle = bench.handle.clone();
        bench.ask(handle.export_slot(0)).unwrap()
    };
    let image = export(&mut bench);
    assert_eq!(image.parts.concat(), store.images.borrow()["tagged"]);

    let mut plain = bench_on(&store, config(1, 256));
    plain.complete(pinned(1, 40, 0));
    save(&mut plain, 0, "plain").unwrap();
    let untagged = export(&mut plain);
    assert_eq!(untagged.len() + 40, image.len());
    assert_ne!(untagged.digest, image.digest);
    assert_eq!(restore(&mut plain, 0, "tagged").unwrap().tokens, 43, "no key takes every image");

    bench.complete(pinned(2, 50, 0));
    let refused = |result: Result<SlotFile, EngineError>| match result {
        Err(EngineError::Image(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(restore(&mut bench, 0, "plain")), ImageError::Untagged);
    let handle = bench.handle.clone();
    let put = bench.ask(handle.import_slot(0, untagged.parts.concat().into()));
    assert_eq!(refused(put), ImageError::Untagged);
    let mut other = bench_on(&store, keyed(2));
    assert_eq!(refused(restore(&mut other, 0, "tagged")), ImageError::Tag);
    assert_eq!(bench.reuse(pinned(2, 50, 0)), (0, 49, 1), "the slot is as it was");
    assert_eq!(restore(&mut bench, 0, "tagged").unwrap().tokens, 43);
}

#[test]
fn files_of_llama_server_come_and_go() {
    let save_as = |bench: &mut Bench, slot: u32, name: &str| {
        let handle = bench.handle.clone();
        bench.ask(handle.save_as(slot, name.into(), SlotFormat::Llama))
    };
    let store = TestStore::default();
    let mut bench = bench_on(&store, config(2, 256));
    let first = bench.complete(pinned(1, 81, 1));
    let saved = save_as(&mut bench, 1, "a").unwrap();
    assert_eq!((saved.tokens, saved.bytes), (84, store.images.borrow()["a"].len() as u64));
    let start = store.images.borrow()["a"][..8].to_vec();
    assert_eq!(start, *b"qsgg\x04\0\0\0");
    // Not the slot's number decides whose it becomes, nor does the number of slots.
    let mut other = bench_on(&store, config(1, 256).also(|config| config.unified = true));
    assert_eq!(restore(&mut other, 0, "a").unwrap(), saved);
    let again = other.complete(request(prompt(1, 81)));
    assert_eq!((again.timings.cached, again.text), (80, first.text));

    bench.complete(pinned(2, 50, 0));
    for cut in [8, 100, saved.bytes as usize - 1] {
        let file = store.images.borrow()["a"].slice(..cut);
        store.images.borrow_mut().insert("cut".into(), file);
        let error = restore(&mut bench, 0, "cut").unwrap_err();
        assert!(matches!(error, EngineError::Image(ImageError::Llama(_))), "{error}");
    }
    assert_eq!(bench.reuse(pinned(2, 50, 0)), (0, 49, 1));
    // Such a file can have no tag.
    let keyed = config(1, 256).also(|config| config.state_key = StateKey::derive(&[1; 16]).ok());
    let error = restore(&mut bench_on(&store, keyed), 0, "a").unwrap_err();
    assert!(matches!(error, EngineError::Image(ImageError::Untagged)), "{error}");

    let config = config(1, 256);
    let windowed = ScriptedModel::new(config.kv_blocks(), config.micro_batch).windowed();
    let mut windowed = Bench::with(windowed, config, store.clone());
    let error = save_as(&mut windowed, 0, "b").unwrap_err();
    assert!(matches!(error, EngineError::Unsupported(_)), "{error}");
    assert!(!store.images.borrow().contains_key("b"));
}

#[test]
fn exports_and_imports_wait_for_their_slot() {
    let mut bench = Bench::new(config(1, 256));
    let handle = bench.handle.clone();
    let mut running = handle.generate(pinned(1, 40, 0));
    bench.step();
    // Asked for while the slot is busy: it has what the slot holds at the end.
    let image = bench.ask(handle.export_slot(0)).unwrap();
    assert_eq!((image.tokens, result(&mut running).is_some()), (43, true));
    handle.drain();
    bench.settle();
    assert!(matches!(bench.ask(handle.export_slot(0)), Err(EngineError::Closed)));
}

#[test]
fn the_tutorial_of_the_reference() {
    let mut bench = Bench::new(config(2, 256));
    let asked = bench.complete(pinned(1, 21, 1).also(|request| request.limits.predict = Some(64)));
    assert_eq!(save(&mut bench, 1, "slot1").unwrap().tokens, 21 + 64 - 1);
    // The second prompt shares all but the last six tokens with the first.
    let germany = || prompt(1, 21).also(|tokens| tokens[15..].copy_from_slice(&prompt(4, 7)[1..]));
    let other = |slot| request(germany()).also(|request| request.pin = Some(slot));
    assert_eq!(bench.complete(other(1)).timings.prompt, 6);
    assert_eq!(restore(&mut bench, 0, "slot1").unwrap().tokens, 84);
    // 6 in the reference, which does not look into the other slot.
    assert_eq!(bench.complete(other(0)).timings.prompt, 1);
    assert_eq!(bench.complete(other(1)).timings.prompt, 1);
    assert_eq!(asked.timings.predicted, 64);
}

#[test]
fn a_restored_slot_was_just_used() {
    let mut bench = Bench::new(config(2, 256));
    bench.complete(pinned(1, 40, 0));
    save(&mut bench, 0, "a").unwrap();
    bench.complete(pinned(2, 40, 0));
    restore(&mut bench, 1, "a").unwrap();
    // The reference would take the restored slot, which has never run a request.
    assert_eq!(bench.reuse(request(prompt(3, 40))).0, 0);
    assert_eq!(bench.reuse(request(prompt(1, 40))), (1, 39, 1));
}

#[test]
fn an_empty_slot_can_be_saved_and_restored() {
    let mut bench = Bench::new(config(2, 256));
    bench.complete(pinned(1, 40, 0));
    assert_eq!(save(&mut bench, 1, "empty").unwrap().tokens, 0);
    assert_eq!(restore(&mut bench, 0, "empty").unwrap().tokens, 0);
    assert_eq!(bench.slot_tokens(), [0, 0]);
}

#[test]
fn erase_says_what_was_there() {
    let mut bench = Bench::new(config(2, 256));
    bench.complete(pinned(1, 40, 0));
    assert_eq!(bench.erase(0), 43);
    assert_eq!(bench.erase(0), 0);
}

#[test]
fn a_full_disk_leaves_the_slot_and_the_old_file() {
    let store = TestStore::default();
    let mut bench = bench_on(&store, config(1, 256));
    bench.complete(request(prompt(1, 40)));
    save(&mut bench, 0, "a").unwrap();
    let old = store.images.borrow()["a"].clone();
    bench.complete(request(prompt(1, 40)).also(|request| request.limits.predict = Some(9)));
    store.full.set(true);
    let error = save(&mut bench, 0, "a").unwrap_err();
    assert!(matches!(&error, EngineError::Save(StoreError::Failed(why)) if why.contains("space")), "{error}");
    assert_eq!(store.images.borrow()["a"], old);
    assert_eq!(bench.slot_tokens(), [48]);
}

#[test]
fn a_bad_file_leaves_the_slot_as_it_was() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 6] = [
        ("empty", |image| image.clear()),
        ("garbage", |image| image.fill(b'x')),
        ("one byte short", |image| image.truncate(image.len() - 1)),
        ("one byte long", |image| image.push(0)),
        ("a flipped bit in the last block", |image| *image.last_mut().unwrap() ^= 1),
        ("a flipped bit in the header", |image| image[20] ^= 1),
    ];
    for (what, damage) in damages {
        let store = TestStore::default();
        let mut bench = bench_on(&store, config(2, 256));
        bench.complete(pinned(1, 100, 0));
        save(&mut bench, 0, "a").unwrap();
        bench.complete(pinned(2, 100, 1));
        store.damage("a", damage);
        let error = restore(&mut bench, 1, "a").unwrap_err();
        assert!(matches!(error, EngineError::Image(_)), "{what}: {error}");
        assert_eq!(bench.slot_tokens(), [103, 103], "{what}");
        let kept = bench.complete(pinned(2, 100, 1));
        assert_eq!(kept.timings.prompt, 1, "{what}");
        let fresh = Bench::new(config(2, 256)).complete(pinned(2, 100, 1));
        assert_eq!(kept.text, fresh.text, "{what}");
    }
}

#[test]
fn a_missing_or_oversized_file_is_refused() {
    let store = TestStore::default();
    let mut bench = bench_on(&store, config(1, 256).also(|config| config.max_image = 3000));
    let missing = restore(&mut bench, 0, "nothing").unwrap_err();
    assert!(matches!(missing, EngineError::Restore(StoreError::Missing)));
    store.images.borrow_mut().insert("huge".into(), vec![0; 3001].into());
    let huge = restore(&mut bench, 0, "huge").unwrap_err();
    assert!(matches!(huge, EngineError::Restore(StoreError::TooLarge { found: 3001, limit: 3000 })));
}

#[test]
fn another_models_file_is_refused() {
    let store = TestStore::default();
    let mut bench = bench_on(&store, config(1, 256));
    bench.complete(request(prompt(1, 40)));
    save(&mut bench, 0, "a").unwrap();
    let config = config(1, 256);
    let other = ScriptedModel::new(config.kv_blocks(), config.micro_batch).with_fingerprint([8; 32]);
    let mut bench = Bench::with(other, config, store);
    bench.complete(request(prompt(2, 40)));
    let error = restore(&mut bench, 0, "a").unwrap_err();
    assert!(matches!(error, EngineError::Image(ImageError::OtherModel { .. })), "{error}");
    assert_eq!(bench.reuse(request(prompt(2, 40))), (0, 39, 1));
}

#[test]
fn a_file_with_more_tokens_than_the_slot_is_refused() {
    let store = TestStore::default();
    let mut large = bench_on(&store, config(1, 512));
    large.complete(request(prompt(1, 300)));
    save(&mut large, 0, "a").unwrap();
    let mut small = bench_on(&store, config(1, 256));
    small.complete(request(prompt(2, 40)));
    let error = restore(&mut small, 0, "a").unwrap_err();
    assert!(matches!(error, EngineError::Image(ImageError::TooManyTokens { .. })), "{error}");
    assert_eq!(small.slot_tokens(), [43]);
}

#[test]
fn a_restore_waits_for_a_busy_slot_and_the_answer_is_not_disturbed() {
    let alone = Bench::new(config(1, 256)).complete(pinned(2, 40, 0).also(|request| {
        request.limits.predict = Some(50);
    }));
    let mut bench = Bench::new(config(1, 256));
    bench.complete(pinned(1, 40, 0));
    save(&mut bench, 0, "a").unwrap();
    let mut running =
        bench.handle.generate(pinned(2, 40, 0).also(|request| request.limits.predict = Some(50)));
    bench.step();
    let handle = bench.handle.clone();
    let mut waiting = Box::pin(handle.restore(0, "a".into()));
    assert!((&mut waiting).now_or_never().is_none());
    bench.settle();
    assert_eq!(result(&mut running).unwrap().unwrap().text, alone.text);
    assert_eq!(waiting.now_or_never().unwrap().unwrap().tokens, 43);
    assert_eq!(bench.reuse(request(prompt(1, 40))), (0, 39, 1));
}
