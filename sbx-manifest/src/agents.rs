//! The agents that have a name: sbx's own, one file each in `agents/`, and the user's, which go before them.
//!
//! A file holds one `agent` with everything that the manifest can say about an agent of its own. What sbx's own files say is
//! from the vendors' documentation; a repository that uses an agent otherwise (another provider, a gateway) says so with
//! `allow` and `secret`, which come on top.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    decode,
    fault::{Faults, Severity},
    model::{Definition, DefinitionOrigin},
    read,
};

/// sbx's own, by their names.
const OURS: [(&str, &str); 8] = [
    ("claude", include_str!("../agents/claude.kdl")),
    ("codex", include_str!("../agents/codex.kdl")),
    ("copilot", include_str!("../agents/copilot.kdl")),
    ("gemini", include_str!("../agents/gemini.kdl")),
    ("kiro", include_str!("../agents/kiro.kdl")),
    ("opencode", include_str!("../agents/opencode.kdl")),
    ("qwen", include_str!("../agents/qwen.kdl")),
    ("shell", include_str!("../agents/shell.kdl")),
];

/// The agents that a manifest can name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    users: BTreeMap<String, UserFile>,
    /// Whether every name is taken for an agent's, of which nothing is known.
    anything: bool,
}

#[derive(Clone, Debug)]
struct UserFile {
    name: String,
    text: Vec<u8>,
}

impl Catalogue {
    /// Adds the user's agent `agent`, from the text of a file that diagnostics call `file`. It is not read before it is asked
    /// for.
    pub fn add(&mut self, agent: impl Into<String>, file: impl Into<String>, text: Vec<u8>) {
        self.users.insert(agent.into(), UserFile { name: file.into(), text });
    }

    /// All names, in their order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let users = self.users.keys().map(String::as_str);
        OURS.iter().map(|(name, _)| *name).chain(users).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What the agent `name` is; none if nobody says.
    ///
    /// # Errors
    /// The faults of the file that says it.
    pub fn get(&self, name: &str) -> Option<Result<Definition, Faults>> {
        if let Some(file) = self.users.get(name) {
            return Some(parse(&file.name, &file.text, name, DefinitionOrigin::User));
        }
        let (_, text) = OURS.iter().find(|(known, _)| *known == name)?;
        Some(parse(&format!("agents/{name}.kdl"), text.as_bytes(), name, DefinitionOrigin::Sbx))
    }

    /// One that knows every agent: what is changed in a manifest has nothing to do with what its agents are.
    pub(crate) fn of_anything() -> Self {
        Self { users: BTreeMap::new(), anything: true }
    }

    pub(crate) const fn knows_anything(&self) -> bool {
        self.anything
    }
}

/// Reads the file of the agent `agent`.
fn parse(file: &str, text: &[u8], agent: &str, origin: DefinitionOrigin) -> Result<Definition, Faults> {
    let (definition, faults) =
        read(file, text, |document, source| decode::definition(document, source, agent, origin))?;
    debug_assert!(faults.iter().all(|fault| fault.severity() == Severity::Warning));
    Ok(definition)
}

#[cfg(test)]
mod tests;
