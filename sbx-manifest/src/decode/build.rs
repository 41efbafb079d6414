//! `image`, `packages`, `setup` and `start`.

use std::collections::HashMap;

use super::Decoder;
use crate::{
    model::{Image, PackageManager, PackageSet, Packages, Setup, Start},
    span::Span,
    tree::Node,
    types::{Refusal, check_image, check_platform, normal_path, seconds, shorten},
};

impl Decoder<'_> {
    pub(super) fn base_image(&mut self, node: &Node) -> Option<Image> {
        let platform =
            node.property("platform").and_then(|value| self.checked(value, "platform=", check_platform));
        let reference = self.checked_argument(node, check_image)?;
        Some(Image { span: node.header, reference, platform })
    }

    pub(super) fn packages(&mut self, node: &Node) -> Packages {
        let mut sets: Vec<PackageSet> = Vec::new();
        let mut seen: HashMap<(PackageManager, String), Span> = HashMap::new();
        for child in node.children() {
            let manager = match child.name.value.as_str() {
                "apt" => PackageManager::Apt,
                "npm" => PackageManager::Npm,
                "pip" => PackageManager::Pip,
                "cargo" => PackageManager::Cargo,
                _ => continue,
            };
            let before = format!("{} ", manager.as_str());
            let names: Vec<_> = child
                .arguments
                .iter()
                .filter_map(|value| self.checked(value, &before, package_name))
                .collect();
            for name in &names {
                let Some(earlier) = seen.insert((manager, name.value.clone()), name.span) else { continue };
                let fault = self
                    .fault(
                        "manifest::twice",
                        name.span,
                        format!("`{}` is listed twice", name.value),
                        "the second",
                    )
                    .and_at(earlier, "the first")
                    .with_help("remove one of them");
                self.report(fault.into_warning());
            }
            sets.push(PackageSet { span: child.header, manager, names });
        }
        Packages { span: node.header, sets }
    }

    pub(super) fn setup(&mut self, node: &Node) -> Option<Setup> {
        let inputs = node.property("inputs").and_then(|value| self.checked(value, "inputs=", normal_path));
        let timeout_seconds =
            node.property("timeout").and_then(|value| self.converted(value, "timeout=", seconds));
        let command = self.text_argument(node)?;
        Some(Setup { span: node.header, command, inputs, timeout_seconds })
    }

    pub(super) fn start(&mut self, node: &Node) -> Option<Start> {
        Some(Start { span: node.header, command: self.text_argument(node)? })
    }
}

/// A package's name is handed to a package manager, which must not take it for an option or for several.
fn package_name(text: &str) -> Result<(), Refusal> {
    let refuse = |label: &str| Refusal::new(format!("`{}` cannot be a package", shorten(text)), label);
    if text.is_empty() {
        return Err(refuse("is empty"));
    }
    if text.starts_with('-') {
        return Err(refuse("an option, not a name"));
    }
    if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        let names: Vec<_> = text.split_whitespace().collect();
        return Err(refuse("one string for each package").advice(
            names.iter().take(5).map(|name| super::value::quoted(name)).collect::<Vec<_>>().join(" "),
        ));
    }
    Ok(())
}
