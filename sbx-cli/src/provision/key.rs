//! Names of steps: a hash over everything that decides what a step makes.

/// Goes into every key: a change of how steps are made must not meet old ones.
const FORMAT: &str = "sbx-step-1";

/// A hash over texts, each with its length, so that no two lists of texts are the same bytes.
#[derive(Debug)]
pub(super) struct Hasher(blake3::Hasher);

impl Hasher {
    /// Of something called `kind`.
    pub(super) fn new(kind: &str) -> Self {
        let mut hasher = Self(blake3::Hasher::new());
        hasher.text(FORMAT).text(kind);
        hasher
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// A list of texts, which is told from those before and behind it.
    pub(super) fn texts<'t>(
        &mut self,
        texts: impl IntoIterator<Item = &'t (impl AsRef<str> + ?Sized + 't)>,
    ) -> &mut Self {
        let texts: Vec<&str> = texts.into_iter().map(AsRef::as_ref).collect();
        self.0.update(&u64::try_from(texts.len()).unwrap_or(u64::MAX).to_le_bytes());
        for text in texts {
            self.text(text);
        }
        self
    }

    /// In hexadecimal digits.
    pub(super) fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_text_ends_counts() {
        let key = |texts: &[&str]| Hasher::new("x").texts(texts.iter().copied()).finish();
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["ab", ""]), key(&["ab"]));
        assert_eq!(key(&[]).len(), 64);
    }
}
