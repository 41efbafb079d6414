//! Which removed file became which new one.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use super::Delta;
use crate::workspace::{
    clone::{
        Change,
        objects::Objects,
        record::{Entry, FileMode},
    },
    tree::TreeError,
};

/// Pairs that are compared by their contents, at most; beyond it only equal files are renamed ones.
const MAX_PAIRS: usize = 10_000;

/// Larger files are compared as a whole only.
const MAX_BYTES: u64 = 1 << 20;

/// How much of a renamed file has to be the same, in percent, as git has it.
const ENOUGH: u64 = 50;

/// The differences that `changes` are, a removed and a new file with the same or nearly the same contents as one.
///
/// # Errors
/// If contents cannot be read.
pub(crate) fn deltas(changes: &[Change], objects: &Objects) -> Result<Vec<Delta>, TreeError> {
    let mut removed = BTreeMap::new();
    let mut added = BTreeMap::new();
    let mut deltas = Vec::new();
    for change in changes {
        let at = |entry: Option<Entry>| entry.map(|entry| (change.path.clone(), entry));
        match (change.from, change.to) {
            (Some(from), None) => drop(removed.insert(change.path.clone(), from)),
            (None, Some(to)) => drop(added.insert(change.path.clone(), to)),
            // git has no name for a file that became a link: one goes, the other comes.
            (Some(from), Some(to)) if (from.mode == FileMode::Link) != (to.mode == FileMode::Link) => {
                deltas.push(Delta { from: at(change.from), to: None, similarity: None });
                deltas.push(Delta { from: None, to: at(change.to), similarity: None });
            }
            _ => deltas.push(Delta { from: at(change.from), to: at(change.to), similarity: None }),
        }
    }
    for (from, to, similarity) in pairs(&removed, &added, objects)? {
        let (Some(old), Some(new)) = (removed.remove(&from), added.remove(&to)) else { continue };
        deltas.push(Delta { from: Some((from, old)), to: Some((to, new)), similarity: Some(similarity) });
    }
    deltas.extend(removed.into_iter().map(|file| Delta { from: Some(file), to: None, similarity: None }));
    deltas.extend(added.into_iter().map(|file| Delta { from: None, to: Some(file), similarity: None }));
    // What goes before what comes in its place: a sort that keeps the order of equals.
    deltas.sort_by(|left, right| left.path().cmp(right.path()));
    Ok(deltas)
}

type Files = BTreeMap<PathBuf, Entry>;

/// Pairs of a removed and a new path, each path at most once, the most similar first.
fn pairs(
    removed: &Files,
    added: &Files,
    objects: &Objects,
) -> Result<Vec<(PathBuf, PathBuf, u8)>, TreeError> {
    let mut found = Vec::new();
    let mut left: Files = removed.clone();
    let mut open = Vec::new();
    for (to, entry) in added {
        let same = left.iter().find(|(_, old)| *old == entry).map(|(path, _)| path.clone());
        match same {
            Some(from) if objects.size(&entry.hash)? > 0 => {
                left.remove(&from);
                found.push((from, to.clone(), 100));
            }
            _ => open.push((to, entry)),
        }
    }
    if left.len().saturating_mul(open.len()) > MAX_PAIRS {
        return Ok(found);
    }
    let mut chunks = HashMap::new();
    for entry in left.values().chain(open.iter().map(|(_, entry)| *entry)) {
        if entry.mode != FileMode::Link
            && let Some(bytes) = objects.read(&entry.hash, MAX_BYTES)?
        {
            chunks.insert(entry.hash, Chunks::of(&bytes));
        }
    }
    let mut candidates = Vec::new();
    for (from, old) in &left {
        for (to, new) in &open {
            if let (Some(old), Some(new)) = (chunks.get(&old.hash), chunks.get(&new.hash)) {
                let similarity = old.similarity(new);
                if similarity >= ENOUGH {
                    candidates.push((similarity, from, *to));
                }
            }
        }
    }
    candidates
        .sort_by(|one, other| other.0.cmp(&one.0).then_with(|| (one.1, one.2).cmp(&(other.1, other.2))));
    let mut taken = std::collections::BTreeSet::new();
    for (similarity, from, to) in candidates {
        if !taken.contains(from) && !taken.contains(to) {
            taken.extend([from, to]);
            found.push((from.clone(), to.clone(), u8::try_from(similarity).unwrap_or(100).min(99)));
        }
    }
    Ok(found)
}

/// The lines of a file, each with how many bytes it makes.
struct Chunks {
    lines: HashMap<Vec<u8>, u64>,
    bytes: u64,
}

impl Chunks {
    fn of(text: &[u8]) -> Self {
        let mut lines = HashMap::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
            *lines.entry(line.to_vec()).or_insert(0) += length;
        }
        Self { lines, bytes: u64::try_from(text.len()).unwrap_or(u64::MAX) }
    }

    /// How much of the larger one is in both, in percent.
    fn similarity(&self, other: &Self) -> u64 {
        let common: u64 = self
            .lines
            .iter()
            .filter_map(|(line, bytes)| other.lines.get(line).map(|others| *bytes.min(others)))
            .sum();
        (common * 100).checked_div(self.bytes.max(other.bytes)).unwrap_or(0)
    }
}
