//! Memory for repacked weights and for KV blocks where there is none to choose: a wasm module has one memory, and its
//! kernels read rows.

use bytes::Bytes;

/// Has no room.
#[derive(Debug, Default)]
pub(crate) struct Arena;

/// There is none.
#[derive(Debug)]
pub(crate) enum Room {}

impl Arena {
    /// `len` bytes that `fill` has written to: there are none.
    pub(crate) fn put(&self, _len: usize, _fill: impl FnOnce(&mut [u8])) -> Option<Bytes> {
        None
    }

    /// `len` zero bytes: there are none.
    pub(crate) fn room(&self, _len: usize) -> Option<Room> {
        None
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        match *self {}
    }
}

impl AsMut<[u8]> for Room {
    fn as_mut(&mut self) -> &mut [u8] {
        match *self {}
    }
}
