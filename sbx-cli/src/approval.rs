//! What a repository may reach outside itself, asked once and remembered.
//!
//! A manifest is somebody else's text. What it mounts from outside its own directory, and what it lets the sandbox reach or
//! be reached by, is shown and asked for. A yes is kept in `trust/`, outside the repository, as what was said yes to; a later
//! manifest that wants no more than that is not asked about.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use sbx_manifest::{Manifest, model::InstallFrom};
use sbx_net::policy::Action;
use serde::{Deserialize, Serialize};

use crate::{
    context::Context,
    error::{CommandError, Result},
    network::NetworkPlan,
    project::Project,
    sandbox::directory::write_atomically,
    shares::ProjectShare,
    ui::printable,
};

/// Bytes of a remembered approval that are read.
const MAX_BYTES: u64 = 1 << 20;

/// What is wanted, or was approved, line by line as it is shown.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Wants {
    /// What opens something.
    opens: BTreeSet<String>,
    /// What keeps something of it closed: a line that goes away opens, too.
    closes: BTreeSet<String>,
}

impl Wants {
    fn of(
        context: &Context,
        project: &Project,
        shares: &[ProjectShare],
        network: Option<&NetworkPlan>,
    ) -> Self {
        let outside = shares.iter().filter(|share| !share.host.starts_with(&project.root));
        let mut wants =
            Self { opens: outside.map(|share| mount(context, share)).collect(), ..Self::default() };
        wants.opens.extend(while_made(project.manifest()));
        let Some(network) = network else { return wants };
        if network.default == Action::Allow {
            wants.opens.insert("reach every host of the internet that no rule denies".to_owned());
        }
        for rule in &network.rules {
            let line = reach(&rule.origin.text);
            match rule.action {
                Action::Allow => wants.opens.insert(line),
                Action::Deny => wants.closes.insert(format!("not {line}")),
            };
        }
        if !network.registries.is_empty() {
            wants.opens.insert("reach the package registries that the image names".to_owned());
        }
        for port in &network.host_services {
            wants.opens.insert(format!("reach port {port} of this machine's localhost"));
        }
        for port in &network.published {
            wants.opens.insert(match port.host {
                0 => "be reached at a free port of this machine's localhost".to_owned(),
                port => format!("be reached at port {port} of this machine's localhost"),
            });
        }
        wants
    }

    /// What these open that `approved` does not, as lines to show.
    fn beyond(&self, approved: &Self) -> Vec<String> {
        let opened = self.opens.difference(&approved.opens).cloned();
        let no_longer_closed = approved.closes.difference(&self.closes);
        let reopened = no_longer_closed
            .filter_map(|line| line.strip_prefix("not "))
            .map(|line| format!("{line}, which was denied before"));
        // A denial that goes away opens something only if anything is open.
        if self.opens.is_empty() { Vec::new() } else { opened.chain(reopened).collect() }
    }
}

/// Asks for what `project` wants outside its directory, unless that was approved before.
///
/// # Errors
/// If the answer is no, or nobody can be asked.
pub(crate) fn ask(
    context: &Context,
    project: &Project,
    shares: &[ProjectShare],
    network: Option<&NetworkPlan>,
    yes: bool,
) -> Result<()> {
    let wants = Wants::of(context, project, shares, network);
    let path = path(context, project);
    let approved = read(&path);
    let lines = wants.beyond(&approved.clone().unwrap_or_default());
    if lines.is_empty() {
        return Ok(());
    }
    let more = if approved.is_some() { "now also wants" } else { "wants" };
    context.ui.note(format_args!("{} {more} to", context.paths.display(&project.manifest_path)));
    for line in &lines {
        context.ui.note(format_args!("  {}", printable(line)));
    }
    confirm(context, project, yes)?;
    remember(context, &path, &wants)
}

/// Shows everything that `project` wants outside its directory, and asks for what was not approved before.
///
/// # Errors
/// If the answer is no, or nobody can be asked.
pub(crate) fn review(
    context: &Context,
    project: &Project,
    shares: &[ProjectShare],
    network: Option<&NetworkPlan>,
    yes: bool,
) -> Result<()> {
    let wants = Wants::of(context, project, shares, network);
    let path = path(context, project);
    let lines = wants.beyond(&read(&path).unwrap_or_default());
    let manifest = context.paths.display(&project.manifest_path);
    let approved = wants.opens.iter().filter(|line| !lines.contains(line));
    for (title, lines) in [
        ("was approved to", approved.collect::<Vec<_>>()),
        ("denies itself to", wants.closes.iter().collect()),
        ("wants to", lines.iter().collect()),
    ] {
        if !lines.is_empty() {
            context.ui.note(format_args!("{manifest} {title}"));
        }
        for line in lines {
            let line = line.strip_prefix("not ").unwrap_or(line);
            context.ui.note(format_args!("  {}", printable(line)));
        }
    }
    if lines.is_empty() {
        context.ui.note(format_args!("{manifest} wants nothing that was not approved"));
        return Ok(());
    }
    confirm(context, project, yes)?;
    remember(context, &path, &wants)
}

/// Asks whether what was shown is allowed.
fn confirm(context: &Context, project: &Project, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !context.ui.can_ask() {
        let options = [("--profile", &project.profile), ("--agent", &project.agent)];
        let chosen =
            options.iter().filter_map(|(option, value)| Some(format!(" {option} {}", value.as_ref()?)));
        let chosen: String = chosen.collect();
        return Err(CommandError::usage("this was not approved, and there is no terminal to ask at")
            .with_hint(format!(
                "`sbx trust --yes{chosen}` approves it, and so does `sbx up --yes{chosen}`"
            )));
    }
    if context.ui.confirm("Allow this?") { Ok(()) } else { Err(CommandError::usage("not approved")) }
}

/// Approves the rules `added`, which the user has written, unless more than these would have to be approved; whether all that
/// `project` wants is approved then.
///
/// # Errors
/// If it cannot be remembered.
pub(crate) fn extend(
    context: &Context,
    project: &Project,
    shares: &[ProjectShare],
    network: Option<&NetworkPlan>,
    added: &[String],
) -> Result<bool> {
    let wants = Wants::of(context, project, shares, network);
    let path = path(context, project);
    let lines = wants.beyond(&read(&path).unwrap_or_default());
    let own: Vec<String> = added.iter().map(|rule| reach(rule)).collect();
    if !lines.iter().all(|line| own.contains(line)) {
        return Ok(false);
    }
    if !lines.is_empty() {
        remember(context, &path, &wants)?;
    }
    Ok(true)
}

/// What the making of the machine reaches, besides what the machine itself may reach then.
fn while_made(manifest: &Manifest) -> Vec<String> {
    let settings = &manifest.settings;
    let installs =
        settings.agents.iter().filter_map(|agent| Some((agent, agent.definition.install.as_ref()?)));
    let (mut lines, mut asks_registries) =
        (Vec::new(), settings.packages.is_some() || !settings.setup.is_empty());
    for (agent, install) in installs {
        match &install.from {
            InstallFrom::Package { .. } => asks_registries = true,
            InstallFrom::Download(download) => {
                for url in std::iter::once(&download.url).chain(&download.latest) {
                    let host = host_of(&url.value);
                    lines.push(format!(
                        "reach \"{host}\" while the agent \"{}\" is installed",
                        agent.name.value
                    ));
                }
            }
        }
    }
    if asks_registries {
        lines.push("reach the package registries that the image names while the machine is made".to_owned());
    }
    lines
}

/// The host of a URL that the manifest's reader has checked, with its port if it names one.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// What a rule that allows opens.
fn reach(rule: &str) -> String {
    format!("reach {}", rule.split_once(' ').map_or("", |(_, what)| what))
}

fn mount(context: &Context, share: &ProjectShare) -> String {
    let rights = if share.read_only { "read" } else { "read and write" };
    let host = context.paths.display(&share.host);
    if share.at == share.host {
        format!("{rights} {host}")
    } else {
        format!("{rights} {host} at {}", share.at.display())
    }
}

/// One file for each place where a manifest is.
fn path(context: &Context, project: &Project) -> PathBuf {
    let hash = blake3::hash(project.root.as_os_str().as_encoded_bytes());
    context.paths.trust().join(format!("{}.json", hash.to_hex()))
}

/// What was approved; nothing if that cannot be read, so that it is asked for again.
fn read(path: &Path) -> Option<Wants> {
    let length = fs::metadata(path).ok()?.len();
    if length > MAX_BYTES {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn remember(context: &Context, path: &Path, wants: &Wants) -> Result<()> {
    let failed = |error: io::Error| CommandError::failed("cannot remember the approval").with_source(error);
    fs::create_dir_all(context.paths.trust()).map_err(failed)?;
    let text = serde_json::to_vec_pretty(wants).map_err(|error| failed(error.into()))?;
    write_atomically(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(opens: &[&str], closes: &[&str]) -> Wants {
        let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        Wants { opens: set(opens), closes: set(closes) }
    }

    #[test]
    fn what_the_making_of_a_machine_reaches_is_told() {
        let lines = |nodes: &str| {
            let text = format!("image \"debian\"\n{nodes}\n");
            while_made(&sbx_manifest::parse("sandbox.kdl", text.as_bytes()).unwrap().manifest)
        };
        let registries = "reach the package registries that the image names while the machine is made";
        assert!(lines("agent \"shell\"\nstart \"true\"").is_empty());
        for nodes in ["packages { apt \"git\"; }", "setup \"make\"", "agent \"claude\"\nagent \"codex\""] {
            assert_eq!(lines(nodes), [registries], "{nodes}");
        }
        let agent = r#"agent "acme" {
            install url="https://get.acme.example:8443/{version}" { program "acme"; }
            command "acme"
        }"#;
        assert_eq!(lines(agent), ["reach \"get.acme.example:8443\" while the agent \"acme\" is installed"]);
    }

    #[test]
    fn only_what_was_not_approved_is_asked_for() {
        let approved = wants(&["reach \"a\"", "reach \"**.b\""], &["not reach \"c.b\""]);
        assert_eq!(approved.beyond(&Wants::default()), ["reach \"**.b\"", "reach \"a\""]);
        assert!(approved.beyond(&approved).is_empty());
        // Less is fine, and so is a further denial.
        assert!(
            wants(&["reach \"a\""], &["not reach \"c.b\"", "not reach \"d\""]).beyond(&approved).is_empty()
        );
        assert_eq!(
            wants(&["reach \"**.b\""], &[]).beyond(&approved),
            ["reach \"c.b\", which was denied before"]
        );
        assert!(wants(&[], &[]).beyond(&approved).is_empty());
    }
}
