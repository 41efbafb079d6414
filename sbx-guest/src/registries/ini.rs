//! Files of sections and `key = value` lines, as dnf, pip and npm have them.

/// A value and where it stands. Lines that begin with blanks go on with the value before, each as a line of its own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// All entries, in the order of the file.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut section = String::new();
    for line in text.lines() {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with([' ', '\t'])
            && let Some(last) = entries.last_mut()
            && last.section == section
        {
            last.value.push('\n');
            last.value.push_str(content);
        } else if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.trim().clone_into(&mut section);
        } else if let Some((key, value)) = content.split_once('=') {
            let unquoted = value.trim().trim_matches(['"', '\'']);
            let (section, key) = (section.clone(), key.trim().to_ascii_lowercase());
            entries.push(Entry { section, key, value: unquoted.to_owned() });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_comments_and_values_of_several_lines() {
        let text = "; first\na = 1\n[one]\n# no\nB=\"x y\"\n  z\n\n[ two ]\n  c = 3\nnonsense\n";
        let found: Vec<_> = entries(text)
            .into_iter()
            .map(|entry| format!("{}/{}={}", entry.section, entry.key, entry.value))
            .collect();
        assert_eq!(found, ["/a=1", "one/b=x y\nz", "two/c=3"]);
    }
}
