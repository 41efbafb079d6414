//! `sbx policy check`.

use sbx_manifest::{Manifest, model::Target};
use sbx_net::policy::Protocol;

use crate::{
    commands::rule::ProtocolArg,
    context::Context,
    error::{Outcome, Result},
    network::{
        endpoint::Endpoint,
        judge::{Judgement, judge},
    },
    ui::{Ui, printable},
};

/// Port when none is given: most of what an agent reaches is HTTPS.
const DEFAULT_PORT: u16 = 443;

/// Say whether sandbox.kdl lets the sandbox reach a host, and by which rule
///
/// Nothing is resolved or connected. The exit code is 0 if it may be reached and 1 if not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A name or an address, [in brackets] with a port after an IPv6 one; without a port, 443
    #[arg(value_name = "HOST[:PORT]")]
    endpoint: String,
    /// By this protocol
    #[arg(long, value_enum, default_value = "tcp")]
    protocol: ProtocolArg,
    /// Apply the profile of that name first
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let endpoint = Endpoint::read(&args.endpoint, DEFAULT_PORT, "policy check")?;
    let project = context.project()?.with_profile(&context.ui, args.profile.as_deref())?;
    let protocol = match args.protocol {
        ProtocolArg::Tcp => Protocol::Tcp,
        ProtocolArg::Udp => Protocol::Udp,
    };
    let found = judge(project.manifest(), &endpoint, protocol);
    if args.json {
        context.ui.json(&found);
    } else {
        context.ui.data(line(&endpoint, &found));
        hint(&context.ui, project.manifest(), args.profile.as_deref(), &found);
    }
    Ok(if found.is_allowed() { Outcome::Done } else { Outcome::No })
}

fn line(endpoint: &Endpoint, found: &Judgement) -> String {
    let verdict = if found.is_allowed() { "allowed" } else { "refused" };
    let protocol = if found.protocol == Protocol::Udp { "/udp" } else { "" };
    let why = match &found.rule {
        Some(rule) => format!("by `{}`  {}", printable(&rule.text), printable(&rule.place)),
        None => found.message.clone(),
    };
    format!("{verdict}  {endpoint}{protocol}  {why}")
}

fn hint(ui: &Ui, manifest: &Manifest, profile: Option<&str>, found: &Judgement) {
    if let Some(advice) = &found.advice {
        match &found.arguments {
            Some(arguments) => {
                let profile = profile.map(|name| format!(" --profile {name}")).unwrap_or_default();
                ui.hint(format_args!("`sbx allow {arguments}{profile}` adds the line {advice}"));
            }
            None => ui.hint(format_args!("the line {advice} in `network` allows it")),
        }
    }
    let registries = |target: &Target| matches!(target, Target::Registries { .. });
    let mut rules = manifest.settings.network.iter().flat_map(|network| &network.rules);
    if !found.is_allowed() && rules.any(|rule| rule.targets.iter().any(|target| registries(&target.value))) {
        ui.hint("a registry of the image may be allowed by registries=#true; which those are is not looked at here");
    }
}
