//! How much memory connections get.
//!
//! A few connections that move much should have large buffers, and ten thousand should not take the host's memory. So a
//! buffer's size depends on what all have together when the connection begins.

/// Bytes of one direction while there are few connections.
pub(super) const LARGEST_BYTES: usize = 1024 * 1024;

/// Sizes of one direction of a connection, in bytes, each with the sum over all connections up to which it is given. Few
/// connections have four times what fits into the pipe between two programs on one machine; the smallest size still holds the longest first
/// message of a TLS client that is looked at.
const TIERS: [(usize, usize); 3] =
    [(LARGEST_BYTES, 64 * 1024 * 1024), (128 * 1024, 192 * 1024 * 1024), (16 * 1024, 512 * 1024 * 1024)];

/// Keeps account of buffers.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    used: usize,
}

impl Budget {
    /// Bytes for each direction of one more connection; none if there is no memory left.
    pub(crate) fn take(&mut self) -> Option<usize> {
        let (size, used) = TIERS.iter().find_map(|(size, limit)| {
            let used = self.used.checked_add(size.checked_mul(2)?)?;
            (used <= *limit).then_some((*size, used))
        })?;
        self.used = used;
        Some(size)
    }

    /// Gives back what [`take`](Self::take) gave.
    pub(crate) fn give_back(&mut self, size: usize) {
        self.used = self.used.saturating_sub(size.saturating_mul(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_connections_fit_and_the_sum_has_an_end() {
        let mut budget = Budget::default();
        let sizes: Vec<usize> = std::iter::from_fn(|| budget.take()).collect();
        assert!(sizes.len() > 10_000, "{}", sizes.len());
        assert_eq!(sizes.first(), Some(&(1024 * 1024)));
        assert!(sizes.iter().sum::<usize>() * 2 <= 512 * 1024 * 1024);
        for size in sizes {
            budget.give_back(size);
        }
        assert_eq!(budget.used, 0);
    }
}
