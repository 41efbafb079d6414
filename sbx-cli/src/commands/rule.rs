//! What `sbx allow` and `sbx deny` have in common: rules more in sandbox.kdl, and in the sandbox that runs.

use sbx_manifest::{
    HostPattern, PortRange, Protocol,
    edit::{self, Change, Edited, NewRule},
    model::Action,
};

use crate::{
    context::Context,
    error::{CommandError, Outcome, Result},
    network::{self, Applied},
    project::{self, MANIFEST},
    repository_file::RepositoryFile,
    ui::printable,
};

/// The rules that are wanted.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// A name, `*.` or `**.` and a name, an address, or a network such as 10.1.0.0/16
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,
    /// Only this port, or a range of ports
    #[arg(long, value_name = "P|A-B")]
    port: Option<PortRange>,
    /// Only this protocol
    #[arg(long, value_enum)]
    protocol: Option<ProtocolArg>,
    /// In the profile of that name
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

/// The protocols by the names that users know.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum ProtocolArg {
    /// Connections
    Tcp,
    /// Datagrams
    Udp,
}

impl From<ProtocolArg> for Protocol {
    fn from(protocol: ProtocolArg) -> Self {
        match protocol {
            ProtocolArg::Tcp => Self::Tcp,
            ProtocolArg::Udp => Self::Udp,
        }
    }
}

/// Adds the rules to the manifest, all of them or none, and hands them to the sandbox.
pub(crate) fn add(context: &Context, action: Action, wanted: &Wanted) -> Result<Outcome> {
    let rules =
        wanted.hosts.iter().map(|host| rule(action, host, wanted)).collect::<Result<Vec<NewRule>>>()?;
    let here = std::env::current_dir()
        .map_err(|error| CommandError::failed("cannot tell the current directory").with_source(error))?;
    let file = RepositoryFile::open(&project::root_of(&here)?, MANIFEST)?;
    let (profile, name) = (wanted.profile.as_deref(), project::display_name(file.path()));
    let old = file.read()?.unwrap_or_default();
    let (mut text, mut edits) = (old.clone(), Vec::new());
    for rule in &rules {
        let edited = edit::add_rule(&name, &text, profile, rule).map_err(|error| {
            // Shown in the file as it is, not as the rules before this one would have made it.
            let error = edit::add_rule(&name, &old, profile, rule).err().unwrap_or(error);
            context.ui.diagnostic(error.diagnostic());
            CommandError::reported()
        })?;
        text = edited.text.clone().into_bytes();
        edits.push(edited);
    }
    if text != old {
        file.replace(Some(&old), &text)?;
    }
    for edited in &edits {
        report(context, &name, profile, edited);
    }
    if text != old {
        // Whatever does nothing any more is said when the file is read.
        let project = context.project()?;
        let added: Vec<String> = edits.into_iter().map(|edited| edited.rule).collect();
        match network::apply(context, project, &added)? {
            Applied::NotRunning => {}
            Applied::Now => context.ui.detail("the sandbox that runs goes by it"),
            Applied::AtNextStart => {
                context.ui.detail("the sandbox runs without a network: `sbx stop`, then `sbx up`, gives it one");
            }
            Applied::NotApproved => context
                .ui
                .detail("sandbox.kdl wants more than that which was not approved; `sbx up` asks, and applies all of it"),
        }
    }
    Ok(Outcome::Done)
}

fn report(context: &Context, name: &str, profile: Option<&str>, edited: &Edited) {
    let label = if edited.change == Change::Nothing { "unchanged" } else { "added" };
    context
        .ui
        .status(label, format_args!("{}  {}:{}", printable(&edited.rule), printable(name), edited.line));
    if let (Change::Network, Some(profile)) = (edited.change, profile) {
        context
            .ui
            .detail(format_args!("in the profile `{profile}` this `network` now stands for the manifest's"));
    }
}

fn rule(action: Action, host: &str, wanted: &Wanted) -> Result<NewRule> {
    let protocol = wanted.protocol.map(Protocol::from);
    let host: HostPattern = host.parse().map_err(|error: sbx_manifest::NotAHost| {
        let word = action.as_str();
        let refusal = CommandError::usage(format!("{}: {}", error.sentence(word), error.label()));
        let Some(meant) = error.host() else {
            return error.advice().into_iter().fold(refusal, CommandError::with_hint);
        };
        let mut command = format!("sbx {word} {}", shell_word(meant));
        let written = || error.port().map(|port| PortRange { first: port, last: port });
        if let Some(port) = wanted.port.or_else(written) {
            command.push_str(&format!(" --port {port}"));
        }
        if let Some(protocol) = protocol {
            command.push_str(&format!(" --protocol {}", protocol.as_str()));
        }
        refusal.with_hint(command)
    })?;
    Ok(NewRule { action, host, port: wanted.port, protocol })
}

/// A pattern as a shell takes it.
fn shell_word(pattern: &str) -> String {
    if pattern.contains('*') { format!("'{pattern}'") } else { pattern.to_owned() }
}
