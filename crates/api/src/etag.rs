//! Strong entity tags: what a client has already need not be sent again (RFC 9110, 8.8.3 and 13.1.2).

use axum::http::{HeaderMap, HeaderValue, header};

/// A strong entity tag with its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ETag(String);

impl ETag {
    /// The tag of a digest, in hexadecimal.
    pub(crate) fn new(digest: &[u8]) -> Self {
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("\"{digits}\""))
    }

    /// Whether the request says that it has what this tag stands for. A weak tag counts too, as it does for `GET`.
    pub(crate) fn is_known(&self, request: &HeaderMap) -> bool {
        let given = request.get_all(header::IF_NONE_MATCH).into_iter().flat_map(|value| value.to_str());
        // A comma inside of a foreign tag cuts it in two, neither of which is ours.
        given
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.0)
    }
}

impl From<ETag> for HeaderValue {
    fn from(tag: ETag) -> Self {
        // Quotes and hexadecimal digits are always a header's value.
        Self::try_from(tag.0).unwrap_or(Self::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_weak_tags_and_the_star_are_understood() {
        let tag = ETag::new(&[0x0a, 0xff]);
        assert_eq!(HeaderValue::from(tag.clone()), "\"0aff\"");
        for (values, known) in [
            (&["\"0aff\""][..], true),
            (&["W/\"0aff\""], true),
            (&["\"a,b\", \"0aff\""], true),
            (&["\"other\"", "\"0aff\""], true),
            (&["*"], true),
            (&[], false),
            (&["0aff"], false),
            (&["\"0AFF\""], false),
            (&["\"0af\",\"f\""], false),
            (&[""], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            }
            assert_eq!(tag.is_known(&headers), known, "{values:?}");
        }
    }
}
