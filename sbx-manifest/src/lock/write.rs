//! From [`Lock`] to text, and to the key of what it says.

use super::{
    model::{Lock, LockedMachine, LockedSnapshot},
    thing::Statement,
};
use crate::decode::quoted;

/// What a lock begins with.
const HEAD: &str = "// What sandbox.kdl is built from, exactly. `sbx lock` writes this file; commit it, and change sandbox.kdl instead.
lock 1
";

/// Changes whenever a key must be another for the same inputs.
const KEY_VERSION: &str = "sbx lock inputs 1\n";

impl Lock {
    /// The text of the file: the same lock is always the same text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        let machines = [(None, &self.base)]
            .into_iter()
            .chain(self.profiles.iter().map(|(name, machine)| (Some(name.as_str()), machine)));
        for (profile, machine) in machines {
            for statement in machine.statements() {
                text.push_str(&line(&statement));
                property(&mut text, "profile", profile);
                text.push('\n');
            }
        }
        text
    }
}

impl LockedMachine {
    /// BLAKE3 over all inputs, in hexadecimal digits: what a snapshot line is for. The order of pins does not count, that of
    /// setup commands does.
    #[must_use]
    pub fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(KEY_VERSION.as_bytes());
        for statement in self.statements() {
            if !matches!(statement, Statement::Snapshot(_)) {
                hasher.update(line(&statement).as_bytes());
                hasher.update(b"\n");
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The snapshot that the inputs make, if a line says it: others are left from before a merge.
    #[must_use]
    pub fn snapshot(&self) -> Option<&LockedSnapshot> {
        let key = self.key();
        self.snapshots.iter().find(|snapshot| snapshot.inputs == key)
    }
}

/// A line without its profile.
fn line(statement: &Statement) -> String {
    let mut text;
    match statement {
        Statement::Image(image) => {
            text = format!("image {}", quoted(&image.reference));
            property(&mut text, "platform", Some(&image.platform));
            property(&mut text, "digest", Some(&image.digest));
        }
        Statement::Kernel(hash) => text = format!("kernel {}", quoted(hash)),
        Statement::Guest(hash) => text = format!("guest {}", quoted(hash)),
        Statement::Agent(agent) => {
            text = format!("agent {} {}", quoted(&agent.name), quoted(&agent.version));
            property(&mut text, "wanted", agent.wanted.as_deref());
            property(&mut text, "definition", Some(&agent.definition));
        }
        Statement::Request(request) => text = format!("package {}", quoted(&request.to_string())),
        Statement::Pin(pin) => {
            text = format!("{} {} {}", pin.manager.as_str(), quoted(&pin.name), quoted(&pin.version));
            property(&mut text, "architecture", pin.architecture.as_deref());
            property(&mut text, "for", pin.owner.as_deref());
            property(&mut text, "hash", Some(&pin.hash));
            property(&mut text, "url", pin.url.as_deref());
        }
        Statement::Setup(setup) => {
            text = format!("setup {}", quoted(&setup.command));
            property(&mut text, "inputs", Some(&setup.inputs));
        }
        Statement::Snapshot(snapshot) => {
            text = format!("snapshot {}", quoted(&snapshot.digest));
            property(&mut text, "inputs", Some(&snapshot.inputs));
        }
    }
    text
}

fn property(text: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        text.push_str(&format!(" {name}={}", quoted(value)));
    }
}
