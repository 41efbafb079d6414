//! What a manifest can say but this version cannot do, refused where it is said.

use sbx_image::Platform;
use sbx_manifest::{
    Fault, Manifest, Span,
    model::{Action, AgentKind, WorkspaceMode},
};

/// Every node of `manifest` that `sbx up` cannot carry out, in the order of the file.
pub(crate) fn find(manifest: &Manifest) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut refuse = |span: Span, what: &str, help: &str| {
        found.push((
            span,
            Fault::error(
                &manifest.source,
                "sbx::unsupported",
                span,
                format!("{what} cannot be used yet"),
                "understood, but this version of sbx cannot do it",
            )
            .with_help(help),
        ));
    };
    agent(manifest, &mut refuse);
    let later = "take it out; a later version of sbx will do it";
    if let Some(packages) = &manifest.packages {
        refuse(packages.span, "`packages`", "take it out, and use an image that has the packages");
    }
    for setup in &manifest.setup {
        refuse(
            setup.span,
            "`setup`",
            "take it out, and run the command with `sbx exec`; the disk keeps what it does",
        );
    }
    for start in &manifest.start {
        refuse(start.span, "`start`", "take it out, and run the command with `sbx exec`");
    }
    if let Some(mode) = manifest.workspace.as_ref().and_then(|workspace| workspace.mode.as_ref())
        && mode.value == WorkspaceMode::Clone
    {
        refuse(mode.span, "`mode=\"clone\"`", "workspace \".\" mode=\"direct\"");
    }
    network(manifest, &mut refuse);
    for secret in &manifest.secrets {
        refuse(secret.span, "`secret`", later);
    }
    if let Some(docker) = manifest.docker.as_ref().filter(|docker| docker.value) {
        refuse(docker.span, "`docker`", "docker #false");
    }
    for server in &manifest.mcp {
        refuse(server.span, "`mcp`", later);
    }
    if let Some(platform) = &manifest.image.platform
        && platform.value.parse::<Platform>().map_or(true, |platform| platform != Platform::host())
    {
        refuse(
            platform.span,
            &format!("the platform `{}`", platform.value),
            &format!("platform=\"{}\"", Platform::host()),
        );
    }
    found.sort_by_key(|(span, _)| *span);
    found.into_iter().map(|(_, fault)| fault).collect()
}

fn agent(manifest: &Manifest, refuse: &mut impl FnMut(Span, &str, &str)) {
    let Some(agent) = &manifest.agent else { return };
    if agent.kind != AgentKind::Shell {
        refuse(agent.name.span, &format!("the agent `{}`", agent.name.value), "agent \"shell\"");
        return;
    }
    // A shell has no version to choose and takes its command from `sbx up -- CMD`.
    let rest = agent
        .version
        .iter()
        .map(|version| version.span)
        .chain(agent.args.iter().map(|argument| argument.span));
    for span in rest {
        refuse(span, "a version or argument of `shell`", "sbx up -- CMD");
    }
}

/// Without a network device every `deny` holds already; what would open something does not.
fn network(manifest: &Manifest, refuse: &mut impl FnMut(Span, &str, &str)) {
    let Some(network) = &manifest.network else { return };
    let help = "take it out; the sandbox has no network yet, which `network \"deny\"` says too";
    if network.default.value == Action::Allow {
        refuse(network.default.span, "`network \"allow\"`", "network \"deny\"");
    }
    for rule in network.rules.iter().filter(|rule| rule.action == Action::Allow) {
        refuse(rule.span, "`allow`", help);
    }
    for service in &network.host_services {
        refuse(service.span, "`host-service`", help);
    }
    for port in &network.published {
        refuse(port.span, "`publish`", help);
    }
}
