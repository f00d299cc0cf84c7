//! Between a slot and the bytes of its image, or of llama-server's slot file.

use bytes::Bytes;
use reprise_kv::image::llama::{self, LlamaFile, Piece, Place};
use reprise_kv::image::{self, Encoder, Expected, Image, ImageError, ImageHeader, Layout};
use reprise_kv::{SlotId, Tenant};
use reprise_model::{Forward, KvType};
use tracing::info;

use crate::engine::Engine;
use crate::{BlockStore, Clock, EngineError, SlotImage, SlotStore, StoreError};

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    /// A slot's tokens and KV as an image.
    pub(crate) async fn image(&mut self, slot: SlotId) -> Result<SlotImage, EngineError> {
        let header = self.header(slot);
        let tokens = self.cache.slot(slot).len();
        let payloads = self.payloads(slot, &header).await?;
        let mut encoder = Encoder::new(header);
        let mut parts = vec![Bytes::copy_from_slice(encoder.header())];
        for payload in payloads {
            let frame = encoder.frame(&payload).map_err(|error| EngineError::Backend(error.to_string()))?;
            parts.push(Bytes::copy_from_slice(&frame));
            parts.push(payload);
        }
        if let Some(key) = &self.shared.config.state_key {
            let trailer = encoder.trailer(key, parts.iter().map(AsRef::as_ref));
            parts.push(Bytes::copy_from_slice(&trailer));
        }
        Ok(SlotImage { tokens, parts, digest: encoder.digest() })
    }

    /// A slot's tokens and KV as the file that a llama-server with the same flags would save; it holds no tag.
    pub(crate) async fn llama_file(&mut self, slot: SlotId) -> Result<(u32, Vec<Bytes>), EngineError> {
        if self.shared.model.windowed {
            let reason = "llama.cpp's slot files of models with a sliding window are not written";
            return Err(EngineError::Unsupported(reason.into()));
        }
        let header = self.header(slot);
        let payloads = self.payloads(slot, &header).await?;
        let config = &self.shared.config;
        let streams = if config.unified { 1 } else { config.slots.max(1) };
        let part = |piece| match piece {
            Piece::Bytes(bytes) => Some(Bytes::from(bytes)),
            Piece::Rows { block, range } => {
                payloads.get(block).filter(|payload| range.end <= payload.len()).map(|p| p.slice(range))
            }
        };
        let parts: Option<Vec<Bytes>> =
            llama::pieces(&header, Place { streams, slot: slot.0 }).into_iter().map(part).collect();
        let parts =
            parts.ok_or_else(|| EngineError::Backend("a block of the slot has too few bytes".into()))?;
        Ok((self.cache.slot(slot).len(), parts))
    }

    /// Replaces a slot's tokens and KV by an image or by a slot file of llama-server's, all of it or nothing.
    pub(crate) fn take_image(
        &mut self,
        slot: SlotId,
        tenant: Tenant,
        bytes: &Bytes,
    ) -> Result<(u32, u64), EngineError> {
        let (found, limit) = (bytes.len() as u64, self.shared.config.max_image);
        if found > limit {
            return Err(EngineError::Restore(StoreError::TooLarge { found, limit }));
        }
        let expected = Expected {
            fingerprint: self.fingerprint(tenant),
            layout: self.layout(),
            vocab: u32::try_from(self.shared.model.vocab).unwrap_or(u32::MAX),
            max_tokens: self.cache.slot(slot).n_ctx,
        };
        let key = self.shared.config.state_key.clone();
        if llama::is_file(bytes) {
            if key.is_some() {
                return Err(EngineError::Image(ImageError::Untagged));
            }
            let file = LlamaFile::decode(bytes, &expected).map_err(EngineError::Image)?;
            info!(%slot, "slot {slot}: a llama.cpp slot file, which does not say of which model it is");
            self.replace((slot, tenant), file.header(), file.payloads().map(Ok))?;
        } else {
            let image = Image::decode(bytes, &expected).map_err(EngineError::Image)?;
            key.map_or(Ok(()), |key| image.authenticate(&key)).map_err(EngineError::Image)?;
            self.replace((slot, tenant), image.header(), image.frames())?;
        }
        Ok((self.cache.slot(slot).len(), found))
    }

    /// Fills fresh blocks, each payload verified before it is used, and makes them the slot's.
    fn replace<P: AsRef<[u8]>>(
        &mut self,
        (slot, tenant): (SlotId, Tenant),
        header: &ImageHeader,
        payloads: impl Iterator<Item = Result<P, ImageError>>,
    ) -> Result<(), EngineError> {
        let staged =
            self.cache.restore(slot, tenant, &header.tokens, header.exact).map_err(EngineError::Room)?;
        for purged in &staged.purged {
            info!(slot = %purged, "slot {purged} emptied: the restore needs its cells");
        }
        for (index, (block, payload)) in staged.blocks.iter().zip(payloads).enumerate() {
            let filled = payload.map_err(EngineError::Image).and_then(|payload| {
                let filled = self.model.import(block.index(), header.tokens_in(index), payload.as_ref());
                filled.map_err(|error| self.failure(&error))
            });
            if let Err(error) = filled {
                self.cache.abort_restore(staged);
                return Err(error);
            }
        }
        let now = self.next_millis();
        self.cache.commit_restore(staged, now);
        Ok(())
    }

    /// What an image of the slot says about itself.
    fn header(&self, slot: SlotId) -> ImageHeader {
        let view = self.cache.slot(slot);
        ImageHeader {
            fingerprint: self.fingerprint(view.tenant),
            layout: self.layout(),
            tokens: view.tokens.to_vec(),
            exact: view.exact,
        }
    }

    /// The KV of a slot's blocks.
    async fn payloads(&mut self, slot: SlotId, header: &ImageHeader) -> Result<Vec<Bytes>, EngineError> {
        let blocks = self.cache.slot(slot).blocks.to_vec();
        let mut payloads = Vec::with_capacity(blocks.len());
        for (index, block) in blocks.iter().enumerate() {
            let payload = self.model.export(block.index(), header.tokens_in(index)).await;
            payloads.push(Bytes::from(payload.map_err(|error| self.failure(&error))?));
        }
        Ok(payloads)
    }

    /// Of the model and of whose tokens they are: an image restores where it was made, and for whom.
    pub(crate) fn fingerprint(&self, tenant: Tenant) -> [u8; 32] {
        let mut fingerprint = self.shared.model.fingerprint;
        fingerprint.iter_mut().zip(tenant.0.to_le_bytes()).for_each(|(byte, salt)| *byte ^= salt);
        fingerprint
    }

    pub(crate) fn layout(&self) -> Layout {
        let shape = self.shared.model.kv;
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let kv_type = |kv_type| match kv_type {
            KvType::F16 => image::KvType::F16,
            KvType::Q8_0 => image::KvType::Q8_0,
            KvType::Q4_0 => image::KvType::Q4_0,
        };
        let (layers, kv_heads, head) = (number(shape.layers), number(shape.kv_heads), number(shape.head_dim));
        Layout {
            keys: kv_type(shape.keys),
            values: kv_type(shape.values),
            ..Layout::new(layers, kv_heads, head, head)
        }
    }
}
