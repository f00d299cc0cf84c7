//! Blocks below a URL.

use std::net::TcpListener;

use bytes::Bytes;
use futures::executor::block_on;
use reprise_engine::BlockStore;
use reprise_kv::stored::BlockKey;

use super::super::remote::UrlBlocks;
use super::{Block, chain};
use objects::Objects;

#[path = "../../../tests/common/objects.rs"]
mod objects;

fn open(url: &str) -> UrlBlocks {
    UrlBlocks::open(url).unwrap()
}

fn write_all(store: &UrlBlocks, blocks: &[Block]) {
    for block in blocks {
        store.write(block.key, block.parts());
    }
    block_on(store.flush());
}

fn keys(blocks: &[Block]) -> Vec<BlockKey> {
    blocks.iter().map(|block| block.key).collect()
}

#[test]
fn what_one_server_stores_another_finds_and_reads() {
    let place = Objects::start();
    let (blocks, strange) = (chain(1, 9, 1000), chain(2, 3, 10));
    let first = open(&place.url);
    write_all(&first, &blocks[..7]);
    assert_eq!((first.stats().blocks, first.stats().dropped, place.held.lock().unwrap().len()), (7, 0, 7));
    assert!(!first.write(blocks[0].key, blocks[0].parts()), "it is there");

    // With and without the slash.
    let second = open(&format!("{}/", place.url));
    assert_eq!(block_on(second.find(&keys(&blocks))), 7);
    assert_eq!(block_on(second.find(&keys(&strange))), 0);
    assert!(second.holds(&blocks[3].key) && !second.holds(&blocks[7].key));
    for block in &blocks[..7] {
        let bytes = block_on(second.read(&block.key)).unwrap();
        assert_eq!(block.decode(&bytes), Some(&block.payload[..]));
    }
    assert_eq!(block_on(second.read(&blocks[8].key)), None);
}

#[test]
fn what_is_queued_is_there_already_and_what_is_discarded_is_not() {
    let place = Objects::start();
    let blocks = chain(1, 2, 1000);
    let store = open(&place.url);
    store.write(blocks[0].key, blocks[0].parts());
    assert_eq!(block_on(store.read(&blocks[0].key)), Some(blocks[0].parts().concat().into()));
    write_all(&store, &blocks);
    for bytes in place.held.lock().unwrap().values_mut() {
        *bytes = Bytes::from(bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>());
    }
    let bytes = block_on(store.read(&blocks[0].key)).unwrap();
    assert_eq!(blocks[0].decode(&bytes), None);
    store.discard(&blocks[0].key);
    block_on(store.flush());
    assert_eq!((place.held.lock().unwrap().len(), store.stats().damaged), (1, 1));
    assert_eq!(block_on(store.find(&keys(&blocks))), 0);
}

#[test]
fn a_place_that_does_not_answer_is_left_alone_for_a_while() {
    let blocks = chain(1, 2, 1000);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let store = open(&format!("http://{address}/kv"));
    assert_eq!(block_on(store.find(&keys(&blocks))), 0);
    let place = Objects::start_at(TcpListener::bind(address).unwrap());
    write_all(&store, &blocks);
    assert_eq!((store.stats().dropped, place.held.lock().unwrap().len()), (2, 0));
    assert_eq!(block_on(store.read(&blocks[0].key)), None);
}

#[test]
fn what_is_no_url_of_a_place_is_refused() {
    for url in ["http://", "http:///kv", "http://a b/kv", "http://host/kv?list"] {
        assert!(UrlBlocks::open(url).is_err(), "{url}");
    }
}
