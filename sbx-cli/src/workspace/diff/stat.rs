//! How much changed, file by file.

use serde::Serialize;

use super::{Delta, binary, lines::Comparison, name::quoted};
use crate::{
    ui::plural,
    workspace::{
        clone::{objects::Objects, record::Entry},
        tree::TreeError,
    },
};

/// Files with more bytes are not looked into.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Plus and minus signs of one file, at most.
const GRAPH_COLUMNS: usize = 40;

/// One file, with the keys that `--json` promises.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct FileStat {
    path: String,
    /// Where it was, if it was renamed.
    from: Option<String>,
    status: &'static str,
    binary: bool,
    added: usize,
    removed: usize,
    old_bytes: u64,
    new_bytes: u64,
}

impl FileStat {
    /// Of one difference.
    ///
    /// # Errors
    /// If contents cannot be read.
    pub(crate) fn of(delta: &Delta, objects: &Objects) -> Result<Self, TreeError> {
        let read = |file: &Option<(std::path::PathBuf, Entry)>| match file {
            Some((_, entry)) => Ok((objects.read(&entry.hash, MAX_TEXT_BYTES)?, objects.size(&entry.hash)?)),
            None => Ok((Some(Vec::new()), 0)),
        };
        let ((old, old_bytes), (new, new_bytes)) = (read(&delta.from)?, read(&delta.to)?);
        let counts = match (&old, &new) {
            (Some(old), Some(new)) if !binary::is_binary(old) && !binary::is_binary(new) => {
                Some(Comparison::of(old, new).counts())
            }
            _ => None,
        };
        let (added, removed) = counts.unwrap_or_default();
        let old_path =
            delta.from.as_ref().filter(|(path, _)| path != delta.path()).map(|(path, _)| quoted(path));
        let status = match (&delta.from, &delta.to) {
            (None, _) => "added",
            (_, None) => "removed",
            _ if old_path.is_some() => "renamed",
            _ => "changed",
        };
        Ok(Self {
            path: quoted(delta.path()),
            from: old_path,
            status,
            binary: counts.is_none(),
            added,
            removed,
            old_bytes,
            new_bytes,
        })
    }

    fn name(&self) -> String {
        match &self.from {
            Some(from) => format!("{from} => {}", self.path),
            None => self.path.clone(),
        }
    }
}

/// The lines of `--stat`.
pub(crate) fn table(stats: &[FileStat]) -> Vec<String> {
    if stats.is_empty() {
        return Vec::new();
    }
    let width = stats.iter().map(|stat| stat.name().len()).max().unwrap_or(0);
    let most = stats.iter().map(|stat| stat.added + stat.removed).max().unwrap_or(0);
    let digits = most.to_string().len();
    let scaled =
        |count: usize| if most <= GRAPH_COLUMNS { count } else { (count * GRAPH_COLUMNS).div_ceil(most) };
    let mut lines: Vec<_> = stats
        .iter()
        .map(|stat| {
            let name = stat.name();
            if stat.binary {
                return format!(" {name:width$} | Bin {} -> {} bytes", stat.old_bytes, stat.new_bytes);
            }
            let (plus, minus) = ("+".repeat(scaled(stat.added)), "-".repeat(scaled(stat.removed)));
            format!(" {name:width$} | {:>digits$} {plus}{minus}", stat.added + stat.removed)
                .trim_end()
                .to_owned()
        })
        .collect();
    let sum = |of: fn(&FileStat) -> usize| stats.iter().map(of).sum::<usize>();
    lines.push(format!(
        " {} changed, {}(+), {}(-)",
        plural(stats.len(), "file"),
        plural(sum(|stat| stat.added), "insertion"),
        plural(sum(|stat| stat.removed), "deletion"),
    ));
    lines
}
