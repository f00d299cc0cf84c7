//! The model's file behind a JavaScript handle.

use std::ops::Range;

use bytes::Bytes;
use js_sys::Uint8Array;
use reprise_gguf::{ModelSource, SourceError};
use wasm_bindgen::JsCast;

use crate::host::{FileHandle, settled};

/// Bytes asked for at a time: what lies in JavaScript's memory beside the module's.
const PIECE: u64 = 8 << 20;

/// A file that is read by range; nothing of it is kept.
#[derive(Debug, Clone)]
pub(crate) struct JsSource {
    handle: FileHandle,
    len: u64,
}

impl JsSource {
    pub(crate) fn new(handle: FileHandle) -> Self {
        let len = handle.size() as u64;
        Self { handle, len }
    }

    async fn piece(&self, range: &Range<u64>, into: &mut Vec<u8>) -> Result<(), SourceError> {
        let length = range.end - range.start;
        let bytes = settled(self.handle.read(range.start as f64, length as f64)).await;
        let bytes = bytes.map_err(std::io::Error::other)?;
        let bytes = bytes
            .dyn_into::<Uint8Array>()
            .map_err(|_| std::io::Error::other("the host's `source.read` gave no Uint8Array"))?;
        let found = bytes.length() as usize;
        if found as u64 != length {
            return Err(SourceError::Short { range: range.clone(), found });
        }
        let at = into.len();
        into.resize(at + found, 0);
        bytes.copy_to(&mut into[at..]);
        Ok(())
    }
}

impl ModelSource for JsSource {
    fn len(&self) -> u64 {
        self.len
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        if range.start > range.end || range.end > self.len {
            return Err(SourceError::OutOfRange { range, len: self.len });
        }
        let length = range.end - range.start;
        let mut bytes = Vec::new();
        usize::try_from(length)
            .ok()
            .and_then(|length| bytes.try_reserve_exact(length).ok())
            .ok_or_else(|| std::io::Error::other(format!("there is no memory for {length} bytes")))?;
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + PIECE);
            self.piece(&(at..end), &mut bytes).await?;
            at = end;
        }
        Ok(bytes.into())
    }
}
