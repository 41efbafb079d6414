//! `resources`, `workspace`, `mount`, `env` and `docker`.

use super::{Decoder, agent::no_nul};
use crate::{
    model::{Mount, Resources, Variable, Workspace, WorkspaceMode},
    span::Spanned,
    tree::{Node, Value},
    types::{Refusal, absolute_path, bytes, environment_name, normal_path, shorten},
};

const MIB: u64 = 1 << 20;

/// Less memory than this does not boot.
const MIN_MEMORY_BYTES: u64 = 64 * MIB;

/// A smaller disk does not hold its own file system and anything besides.
const MIN_DISK_BYTES: u64 = 64 * MIB;

/// The largest size of an ext4 file system with 4 KiB blocks that its tools promise (ext4(5)), and of any host.
const MAX_BYTES: u64 = 16 * 1024 * 1024 * MIB;

/// vCPUs that the machine model can have: 8-bit APIC ids, and one is the IO-APIC's.
const MAX_CPUS: u8 = 254;

/// Places in the sandbox that the system has to itself.
const SYSTEM: [&str; 4] = ["/proc", "/sys", "/dev", "/run/sbx"];

impl Decoder<'_> {
    pub(super) fn resources(&mut self, node: &Node) -> Resources {
        if node.properties.is_empty() && node.arguments.is_empty() {
            let fault = self
                .fault("manifest::empty", node.header, "`resources` says nothing", "no property")
                .with_help(r#"resources cpus=4 memory="8GiB" disk="40GiB""#);
            self.report(fault.into_warning());
        }
        Resources {
            cpus: node.property("cpus").and_then(|value| self.cpus(value)),
            memory_bytes: node
                .property("memory")
                .and_then(|value| self.size(value, "memory", MIN_MEMORY_BYTES)),
            disk_bytes: node.property("disk").and_then(|value| self.size(value, "disk", MIN_DISK_BYTES)),
        }
    }

    fn cpus(&mut self, value: &Value) -> Option<Spanned<u8>> {
        let number = self.integer(value, "cpus=")?;
        match u8::try_from(number.value) {
            Ok(cpus @ 1..=MAX_CPUS) => Some(Spanned::new(cpus, number.span)),
            _ => {
                let label = format!("from 1 to {MAX_CPUS}");
                let fault = self.fault(
                    "manifest::range",
                    number.span,
                    format!("a machine cannot have {} CPUs", number.value),
                    label,
                );
                self.report(fault.with_help("cpus=4"));
                None
            }
        }
    }

    fn size(&mut self, value: &Value, property: &str, least: u64) -> Option<Spanned<u64>> {
        let before = format!("{property}=");
        if let kdl::KdlValue::Integer(number) = value.data {
            let fault = self
                .fault(
                    "manifest::type",
                    value.span,
                    format!("`{property}` needs a unit"),
                    "a number of what?",
                )
                .with_help(format!("{property}=\"{number}GiB\""));
            self.report(fault);
            return None;
        }
        let size = self.converted(value, &before, bytes)?;
        let problem = if size.value < least {
            format!("must be at least {}", crate::types::display_bytes(least))
        } else if size.value > MAX_BYTES {
            format!("must be at most {}", crate::types::display_bytes(MAX_BYTES))
        } else if !size.value.is_multiple_of(MIB) {
            "must be a whole number of MiB".to_owned()
        } else {
            return Some(size);
        };
        let right = match size.value {
            value if value < least => least,
            value if value > MAX_BYTES => MAX_BYTES,
            value => value.next_multiple_of(MIB),
        };
        let written = crate::types::display_bytes(size.value);
        let fault = self
            .fault("manifest::range", size.span, format!("`{property}` cannot be {written}"), problem)
            .with_help(format!("{property}=\"{}\"", crate::types::display_bytes(right)));
        self.report(fault);
        None
    }

    pub(super) fn workspace(&mut self, node: &Node) -> Option<Workspace> {
        let modes = [("direct", WorkspaceMode::Direct), ("clone", WorkspaceMode::Clone)];
        let mode = node.property("mode").and_then(|value| self.word(value, "mode=", "a mode", &modes));
        let path = match node.arguments.first() {
            Some(value) => self.checked(value, "workspace ", workspace_path)?,
            None => Spanned::new(".".to_owned(), node.name.span),
        };
        Some(Workspace { span: node.header, path, mode })
    }

    pub(super) fn mount(&mut self, node: &Node) -> Option<Mount> {
        let at = node.property("at").and_then(|value| self.converted(value, "at=", guest_path));
        let readonly = node.property("readonly").and_then(|value| self.boolean(value, "readonly="));
        let path = self.checked_argument(node, normal_path)?;
        if path.value == "/" {
            let fault = self
                .fault(
                    "manifest::mount",
                    path.span,
                    "the whole host cannot be mounted",
                    "everything, sbx's own files too",
                )
                .with_help("mount the directory that is needed");
            self.report(fault);
            return None;
        }
        Some(Mount { span: node.header, path, at, readonly: readonly.is_some_and(|readonly| readonly.value) })
    }

    pub(super) fn env(&mut self, node: &Node) -> Vec<Variable> {
        let mut variables = Vec::new();
        for child in node.children() {
            let valid = match environment_name(&child.name.value) {
                Ok(()) => true,
                Err(refusal) => {
                    let rest = child
                        .arguments
                        .first()
                        .map_or("\"\"", |value| self.source.slice(value.span))
                        .to_owned();
                    self.refuse("manifest::env", child.name.span, refusal, |name| format!("{name} {rest}"));
                    false
                }
            };
            let value = self.variable_value(child);
            if let (true, Some(value)) = (valid, value) {
                variables.push(Variable { name: child.name.clone(), value });
            }
        }
        variables
    }

    fn variable_value(&mut self, node: &Node) -> Option<Spanned<String>> {
        let name = shorten(&node.name.value);
        let superfluous = node.arguments.get(1).map(|value| value.span);
        if let Some(span) = superfluous.or_else(|| node.properties.first().map(|property| property.span)) {
            let fault = self
                .fault("manifest::superfluous", span, format!("`{name}` has one value"), "one too many")
                .with_help("put the value into quotes if it has spaces");
            self.report(fault);
        }
        if node.children.is_some() {
            let fault = self.fault(
                "manifest::braces",
                node.header,
                format!("`{name}` has no braces"),
                "followed by `{`",
            );
            self.report(fault.with_help(format!("{name} \"\"")));
        }
        for span in &node.annotations {
            let fault =
                self.fault("manifest::annotation", *span, "type annotations mean nothing here", "remove it");
            self.report(fault);
        }
        let Some(value) = node.arguments.first() else {
            let fault = self
                .fault("manifest::missing", node.header, format!("`{name}` has no value"), "nothing after it")
                .with_help(format!("{name} \"\""));
            self.report(fault);
            return None;
        };
        self.checked(value, &format!("{name} "), no_nul)
    }

    pub(super) fn docker(&mut self, node: &Node) -> Option<Spanned<bool>> {
        match node.arguments.first() {
            Some(value) => {
                self.boolean(value, "docker ").map(|docker| Spanned::new(docker.value, node.header))
            }
            None => Some(Spanned::new(true, node.header)),
        }
    }
}

/// The workspace is the repository or a part of it: what is outside needs approval, as a mount.
fn workspace_path(text: &str) -> Result<(), Refusal> {
    normal_path(text)?;
    if text.starts_with(['/', '~']) || text.split('/').any(|part| part == "..") {
        return Err(Refusal::new(
            format!("the workspace `{}` is not in the repository", shorten(text)),
            "must be the manifest's directory or below",
        )
        .advice(format!("workspace \".\", and beside it: mount {}", super::value::quoted(text))));
    }
    Ok(())
}

fn guest_path(text: &str) -> Result<String, Refusal> {
    let path = absolute_path(text)?;
    if path == "/" {
        return Err(Refusal::new("nothing can be mounted over the root directory", "the image is there"));
    }
    let within = |place: &&&str| {
        path.strip_prefix(**place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if let Some(place) = SYSTEM.iter().find(within) {
        return Err(Refusal::new(
            format!("nothing can be mounted at `{}`", shorten(text)),
            format!("{place} is the system's"),
        ));
    }
    Ok(path)
}
