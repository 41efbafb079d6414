//! `image`, `packages`, `setup` and `start`.

use std::collections::HashMap;

use super::Decoder;
use crate::{
    model::{Image, PackageManager, PackageSet, Packages, Setup, Start},
    span::{Span, Spanned},
    tree::Node,
    types::{check_image, check_package, check_platform, seconds, shorten, workspace_path},
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
            let Some(manager) = PackageManager::named(&child.name.value) else { continue };
            let before = format!("{} ", manager.as_str());
            let names: Vec<_> = child
                .arguments
                .iter()
                .filter_map(|value| self.checked(value, &before, |text| check_package(manager, text)))
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
        let inputs = self.inputs(node);
        let timeout_seconds =
            node.property("timeout").and_then(|value| self.converted(value, "timeout=", seconds));
        let command = self.text_argument(node)?;
        Some(Setup { span: node.header, command, inputs, timeout_seconds })
    }

    /// One as a property, several between braces.
    fn inputs(&mut self, node: &Node) -> Vec<Spanned<String>> {
        let property = node.property("inputs").map(|value| (value, "inputs="));
        let nodes = node.children().iter().filter(|child| child.name.value == "inputs");
        let values = nodes.flat_map(|child| &child.arguments).map(|value| (value, "inputs "));
        let mut inputs: Vec<Spanned<String>> = Vec::new();
        for (value, before) in property.into_iter().chain(values) {
            let Some(input) = self.converted(value, before, workspace_path) else { continue };
            let Some(earlier) = inputs.iter().find(|earlier| earlier.value == input.value) else {
                inputs.push(input);
                continue;
            };
            let message = format!("the input `{}` is given twice", shorten(&input.value));
            let fault = self
                .fault("manifest::twice", input.span, message, "the second")
                .and_at(earlier.span, "the first")
                .with_help("remove one of them");
            self.report(fault.into_warning());
        }
        inputs
    }

    pub(super) fn start(&mut self, node: &Node) -> Option<Start> {
        Some(Start { span: node.header, command: self.text_argument(node)? })
    }
}
