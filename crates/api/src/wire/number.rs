//! Numbers as the reference prints them.

use serde::{Serialize, Serializer};

/// A 32-bit float printed with the digits of the 64-bit float that has the same value: 0.95 is 0.949999988079071.
/// What is not finite becomes null.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Widened(pub(crate) f32);

impl Serialize for Widened {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_widened_digits() {
        let cases = [
            (0.95, "0.949999988079071"),
            (0.05, "0.05000000074505806"),
            (1.0, "1.0"),
            (f32::NEG_INFINITY, "null"),
        ];
        for (value, text) in cases {
            assert_eq!(serde_json::to_string(&Widened(value)).unwrap(), text);
        }
    }
}
