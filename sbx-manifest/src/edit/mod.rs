//! Changes of a manifest's text: a rule or a package more or less, and every other byte as it was.
//!
//! ```text
//! text ─parse▶ Manifest ─ where ▶ Insertion ─ text' ─parse▶ Manifest'   which must differ by that rule alone
//! ```
//!
//! Going through the KDL tree would lose indentation and comments. So the new text is put into the old one
//! ([`layout`]), and what came of it is read again: an edit that would break the file, or do nothing in it, is refused.

mod layout;
mod package;

use std::fmt;

pub use package::{PackageChange, PackageEdit, add_package, remove_package};

use miette::Diagnostic;

use self::layout::{Insertion, Layout, Piece};
use crate::{
    Parsed,
    decode::quoted,
    fault::{Fault, Faults},
    model::{Action, Manifest, Network, Profile, Rule, Settings, Target},
    parse_any as parse,
    source::Source,
    span::{Span, Spanned},
    types::{HostPattern, PortRange, Protocol},
    validate::Destination,
};

/// An `allow` or `deny` to be written. Displays as it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewRule {
    /// What it does.
    pub action: Action,
    /// To which hosts.
    pub host: HostPattern,
    /// To which ports. All, if none.
    pub port: Option<PortRange>,
    /// By which protocol. All, if none.
    pub protocol: Option<Protocol>,
}

impl fmt::Display for NewRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.action.as_str(), quoted(&self.host.to_string()))?;
        match self.port {
            Some(PortRange { first, last }) if first == last => write!(formatter, " port={first}")?,
            Some(range) => write!(formatter, " port=\"{range}\"")?,
            None => {}
        }
        match self.protocol {
            Some(protocol) => write!(formatter, " protocol=\"{}\"", protocol.as_str()),
            None => Ok(()),
        }
    }
}

/// How far the text changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Not at all: a rule says it already.
    Nothing,
    /// It has one more rule.
    Rule,
    /// It has a `network` that was not there, with the rule in it.
    Network,
}

/// What came of an edit.
#[derive(Clone, Debug)]
pub struct Edited {
    /// The whole text.
    pub text: String,
    /// How far it differs from the old one.
    pub change: Change,
    /// Line of the rule, counted from 1.
    pub line: usize,
    /// The rule as it is written there.
    pub rule: String,
    /// What does nothing any more, or not what it seems to, because of the edit.
    pub warnings: Vec<Fault>,
}

/// Why an edit was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EditError {
    /// The manifest is wrong as it is.
    #[error(transparent)]
    Faulty(#[from] Faults),
    /// It would become wrong, or the edit would do nothing.
    #[error(transparent)]
    Refused(#[from] Fault),
}

impl EditError {
    /// What to show, with its place.
    #[must_use]
    pub fn diagnostic(&self) -> &dyn Diagnostic {
        match self {
            Self::Faulty(faults) => faults,
            Self::Refused(fault) => fault,
        }
    }
}

/// Adds a rule to the manifest `text`, which diagnostics call `name`, or to one of its profiles.
///
/// The rule comes after the others of its kind in `network`, which is made if there is none.
///
/// # Errors
/// If the manifest has faults, if a `deny` in it forbids what is to be allowed, or if the rule would make another one
/// superfluous.
pub fn add_rule(name: &str, text: &[u8], profile: Option<&str>, rule: &NewRule) -> Result<Edited, EditError> {
    let old = parse(name, text)?;
    let manifest = &old.manifest;
    let place = Place::find(manifest, profile)?;
    if let Some(network) = place.network()
        && let Some(said) = compare(&manifest.source, network, rule)?
    {
        return Ok(said);
    }
    let source = &manifest.source;
    let insertion = Layout::new(source)
        .and_then(|layout| place.insertion(&layout, rule))
        .ok_or_else(|| place.unfit(source, rule))?;
    let changed = insertion.applied_to(source.text()).ok_or_else(|| place.unfit(source, rule))?;
    let new = parse(name, changed.as_bytes()).map_err(first_error)?;
    let written =
        place.added(&new.manifest, rule, insertion.span()).ok_or_else(|| place.unfit(source, rule))?;
    let source = &new.manifest.source;
    Ok(Edited {
        change: if place.network().is_some() { Change::Rule } else { Change::Network },
        line: source.line(written.offset),
        rule: source.slice(written).to_owned(),
        warnings: new_warnings(&old, &new, rule.action, &insertion)?,
        text: changed,
    })
}

/// The part of the manifest that gets the rule.
#[derive(Clone, Copy)]
struct Place<'m> {
    settings: &'m Settings,
    profile: Option<&'m Profile>,
}

impl<'m> Place<'m> {
    fn find(manifest: &'m Manifest, profile: Option<&str>) -> Result<Self, Fault> {
        let Some(name) = profile else { return Ok(Self { settings: &manifest.settings, profile: None }) };
        match manifest.profiles.iter().find(|profile| profile.name.value == name) {
            Some(profile) => Ok(Self { settings: &profile.settings, profile: Some(profile) }),
            None => Err(manifest.no_profile(name)),
        }
    }

    fn network(self) -> Option<&'m Network> {
        self.settings.network.as_ref()
    }

    /// Where the rule goes, if there is a place that the text leaves for it.
    fn insertion(self, layout: &Layout<'_>, rule: &NewRule) -> Option<Insertion> {
        let piece = Piece { header: rule.to_string(), children: Vec::new() };
        if let Some(network) = self.network() {
            let Some(block) = layout.block(network.span.end()) else {
                return layout.in_new_block(network.span, &piece);
            };
            let rules = network.rules.iter();
            let alike = rules.clone().rfind(|other| other.action == rule.action);
            return match alike.or_else(|| rules.clone().last()) {
                Some(before) => layout.after(before.span, block, &piece),
                None => layout.at_end(block, &piece),
            };
        }
        let node = Piece { header: "network \"deny\"".to_owned(), children: vec![piece] };
        let Some(profile) = self.profile else { return Some(layout.at_end_of_file(&node)) };
        match layout.block(profile.span.end()) {
            Some(block) => layout.at_end(block, &node),
            None => layout.in_new_block(profile.span, &node),
        }
    }

    /// The place of the rule in the new manifest, if that differs from the old by the rule alone.
    fn added(self, new: &Manifest, rule: &NewRule, inserted: Span) -> Option<Span> {
        let place = Place::find(new, self.profile.map(|profile| profile.name.value.as_str())).ok()?;
        let network = place.network()?;
        let (own, others): (Vec<_>, Vec<_>) = network
            .rules
            .iter()
            .partition(|other| inserted.offset <= other.span.offset && other.span.end() <= inserted.end());
        let [own] = own.as_slice() else { return None };
        let before = self.network();
        let old_rules = before.map_or(&[][..], |network| &network.rules);
        let as_before = others.len() == old_rules.len()
            && others.iter().zip(old_rules).all(|(new, old)| same_rule(new, old))
            && before.is_none_or(|old| {
                old.default.value == network.default.value
                    && old.host_services.len() == network.host_services.len()
                    && old.published.len() == network.published.len()
            });
        (as_before && same_rule(own, &model(rule))).then_some(own.span)
    }

    /// The fault of a text that leaves no place.
    fn unfit(self, source: &Source, rule: &NewRule) -> Fault {
        let span = self
            .network()
            .map(|network| network.span)
            .or_else(|| self.profile.map(|profile| profile.span))
            .unwrap_or_default();
        Fault::error(
            source,
            "edit::layout",
            span,
            "sbx cannot tell where to put the rule",
            "written in an unusual way",
        )
        .with_help(format!("write it yourself: network \"deny\" {{ {rule}; }}"))
    }
}

/// Holds a rule against those that are there: whether they forbid it, say it, or become superfluous by it.
fn compare(source: &Source, network: &Network, rule: &NewRule) -> Result<Option<Edited>, Fault> {
    let model = model(rule);
    let Some(new) = Destination::all(&model).next() else { return Ok(None) };
    let destinations = || network.rules.iter().flat_map(Destination::all);
    let denial = destinations().find(|other| other.rule.action == Action::Deny && other.covers(&new));
    if let Some(by) = denial.filter(|_| rule.action == Action::Allow) {
        return Err(Fault::error(
            source,
            "edit::denied",
            by.target.span,
            format!("`{rule}` would do nothing: a `deny` wins over every `allow`"),
            "denied here",
        )
        .with_help(format!("remove deny {}", source.slice(by.target.span))));
    }
    let alike = || destinations().filter(|other| other.rule.action == rule.action);
    if let Some(said) = alike().find(|other| other.covers(&new)) {
        return Ok(Some(Edited {
            text: source.text().to_owned(),
            change: Change::Nothing,
            line: source.line(said.target.span.offset),
            rule: source.slice(said.rule.span).to_owned(),
            warnings: Vec::new(),
        }));
    }
    match alike().find(|other| new.covers(other)) {
        Some(narrow) => Err(Fault::error(
            source,
            "edit::superfluous",
            narrow.target.span,
            format!("`{rule}` would make this `{}` superfluous", rule.action.as_str()),
            "says less",
        )
        .with_help(format!("write {rule} in its place"))),
        None => Ok(None),
    }
}

/// The warnings that the edit brought, or the one that speaks against it.
fn new_warnings(
    old: &Parsed,
    new: &Parsed,
    action: Action,
    insertion: &Insertion,
) -> Result<Vec<Fault>, Fault> {
    let inserted = insertion.span();
    let before = |fault: &Fault| {
        let mut span = fault.span();
        if span.offset >= inserted.end() {
            span.offset = span.offset.saturating_sub(inserted.length);
        }
        (fault.code(), span)
    };
    let known: Vec<_> = old.warnings.iter().map(|fault| (fault.code(), fault.span())).collect();
    let mut warnings = Vec::new();
    for fault in &new.warnings {
        let inside = inserted.offset <= fault.span().offset && fault.span().offset < inserted.end();
        if !inside && known.contains(&before(fault)) {
            continue;
        }
        // Denying what a rule allows is what `deny` is for.
        let expected = action == Action::Deny && !inside;
        if inside || (fault.code() == "manifest::dead-rule" && !expected) {
            return Err(fault.clone().into_error());
        }
        warnings.push(fault.clone());
    }
    Ok(warnings)
}

/// The first error of a text that became wrong.
fn first_error(faults: Faults) -> EditError {
    let first = faults.iter().find(|fault| fault.severity() == crate::Severity::Error).cloned();
    first.map_or(EditError::Faulty(faults), EditError::Refused)
}

fn model(rule: &NewRule) -> Rule {
    let nowhere = Span::default();
    Rule {
        span: nowhere,
        action: rule.action,
        targets: vec![Spanned::new(Target::Host(rule.host.clone()), nowhere)],
        port: rule.port.map(|port| Spanned::new(port, nowhere)),
        protocol: rule.protocol.map(|protocol| Spanned::new(protocol, nowhere)),
    }
}

/// Whether two rules say the same, wherever they stand.
fn same_rule(left: &Rule, right: &Rule) -> bool {
    let targets = |rule: &Rule| rule.targets.iter().map(|target| target.value.clone()).collect::<Vec<_>>();
    left.action == right.action
        && targets(left) == targets(right)
        && left.port.as_ref().map(|port| port.value) == right.port.as_ref().map(|port| port.value)
        && left.protocol.as_ref().map(|protocol| protocol.value)
            == right.protocol.as_ref().map(|protocol| protocol.value)
}

#[cfg(test)]
mod tests;
