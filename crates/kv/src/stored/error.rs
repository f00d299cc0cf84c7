//! Why a stored block is of no use.

/// Bytes that are not the block that was asked for. Nobody but the log reads the texts: the prompt is evaluated instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// Other bytes, or none.
    #[error("not a stored block")]
    NotABlock,
    /// Written by another version of the format.
    #[error("stored with version {found} of the format, this build reads version {expected}")]
    Version {
        /// Version in the bytes.
        found: u32,
        /// Version of this build.
        expected: u32,
    },
    /// Longer or shorter than its header says.
    #[error("{found} bytes instead of {wanted}")]
    Length {
        /// Bytes that the header announces.
        wanted: u64,
        /// Bytes at hand.
        found: u64,
    },
    /// The header's checksum does not match.
    #[error("the header is damaged")]
    HeaderChecksum,
    /// The payload's checksum does not match.
    #[error("the KV is damaged")]
    PayloadChecksum,
    /// Whole, but the block of another key, parent or depth.
    #[error("the block of another prompt")]
    OtherBlock,
    /// The right key over other tokens: a collision, or a forgery.
    #[error("other tokens under the same key")]
    OtherTokens,
    /// Not as much KV as the layout has.
    #[error("{found} bytes of KV instead of {expected}")]
    PayloadLength {
        /// Bytes that the header announces.
        found: u64,
        /// Bytes that the layout implies.
        expected: u64,
    },
}
