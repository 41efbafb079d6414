//! The effective configuration: every setting, its value, and where that comes from.

use std::fmt;

use serde::Serialize;

use crate::{
    model::{
        Action, Agent, DefinitionOrigin, InstallFrom, Manifest, Placement, Secret, Target, WorkspaceMode,
    },
    span::Span,
    types::{display_bytes, is_obeyed},
};

/// Every setting of a manifest, in the order of the language's description.
///
/// Prints as aligned text, and serialises to an array of [`Setting`]s.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Explanation {
    settings: Vec<Setting>,
}

/// One setting.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Setting {
    /// What is set, such as `memory` or `allow`.
    pub name: &'static str,
    /// Its value, as the manifest would write it.
    pub value: String,
    /// Where the value comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Origin {
    /// The manifest says it.
    File {
        /// The file's name.
        file: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// Nobody says anything else.
    Default,
    /// The agent needs it.
    Agent {
        /// The agent's name.
        agent: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(formatter, "{file}:{line}"),
            Self::Default => formatter.write_str("default"),
            Self::Agent { agent } => write!(formatter, "implied by agent \"{agent}\""),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A value that is longer than this does not push all the others' origins aside.
        const MAX_COLUMN: usize = 60;
        let width = |part: fn(&Setting) -> usize| self.settings.iter().map(part).max().unwrap_or_default();
        let names = width(|setting| setting.name.len());
        let shown: Vec<_> = self.settings.iter().map(|setting| one_line(&setting.value)).collect();
        let lengths = shown.iter().map(|value| value.chars().count());
        let values = lengths.filter(|length| *length <= MAX_COLUMN).max().unwrap_or_default();
        for (index, (Setting { name, origin, .. }, value)) in self.settings.iter().zip(&shown).enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{name:names$}  {value:values$}  {origin}")?;
        }
        Ok(())
    }
}

impl Manifest {
    /// The effective configuration. What depends on the machine, such as its number of processors, is named, not
    /// looked up: nothing here asks the host.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        let mut collector = Collector { manifest: self, settings: Vec::new() };
        collector.identity();
        collector.build();
        collector.machine();
        collector.network();
        collector.rest();
        Explanation { settings: collector.settings }
    }
}

struct Collector<'a> {
    manifest: &'a Manifest,
    settings: Vec<Setting>,
}

impl Collector<'_> {
    fn add(&mut self, name: &'static str, value: impl Into<String>, span: Option<Span>) {
        let source = &self.manifest.source;
        let origin = span.map_or(Origin::Default, |span| Origin::File {
            file: source.name().to_owned(),
            line: source.line(span.offset),
        });
        self.settings.push(Setting { name, value: value.into(), origin });
    }

    fn identity(&mut self) {
        let manifest = self.manifest;
        match &manifest.name {
            Some(name) => self.add("sandbox", &name.value, Some(name.span)),
            None => self.add("sandbox", "the directory's name", None),
        }
        if manifest.settings.agents.is_empty() {
            self.add("agent", "shell", None);
        }
        for agent in &manifest.settings.agents {
            self.agent(agent);
        }
    }

    fn agent(&mut self, agent: &Agent) {
        self.add("agent", &agent.name.value, Some(agent.name.span));
        if let Some(version) = &agent.version {
            self.add("version", &version.value, Some(version.span));
        }
        let own = agent.definition.origin == DefinitionOrigin::Manifest;
        if let Some(install) = agent.definition.install.as_ref().filter(|_| own) {
            let value = match &install.from {
                InstallFrom::Package { manager, package } => {
                    format!("{} {}", manager.as_str(), package.value)
                }
                InstallFrom::Download(download) => format!("from {}", download.url.value),
            };
            self.add("install", value, Some(install.span));
        }
        let command = own.then_some(&agent.definition.command).map(Vec::as_slice).unwrap_or_default();
        for (name, words) in [("command", command), ("args", &agent.args)] {
            if let Some(first) = words.first() {
                let value: Vec<_> = words.iter().map(|word| word.value.as_str()).collect();
                self.add(name, value.join(" "), Some(first.span));
            }
        }
    }

    fn build(&mut self) {
        let manifest = self.manifest;
        let image = &manifest.image;
        self.add("image", &image.reference.value, Some(image.reference.span));
        match &image.platform {
            Some(platform) => self.add("platform", &platform.value, Some(platform.span)),
            None => self.add("platform", "the host's", None),
        }
        if let Some(share) = &manifest.share {
            self.add("share", &share.value, Some(share.span));
        }
        for set in manifest.settings.packages.iter().flat_map(|packages| &packages.sets) {
            let names: Vec<_> = set.names.iter().map(|name| name.value.as_str()).collect();
            self.add("packages", format!("{} {}", set.manager.as_str(), names.join(" ")), Some(set.span));
        }
        for setup in &manifest.settings.setup {
            self.add("setup", &setup.command.value, Some(setup.span));
        }
        for start in &manifest.settings.start {
            self.add("start", &start.command.value, Some(start.span));
        }
    }

    fn machine(&mut self) {
        let manifest = self.manifest;
        let resources = &manifest.settings.resources;
        match &resources.cpus {
            Some(cpus) => self.add("cpus", cpus.value.to_string(), Some(cpus.span)),
            None => self.add("cpus", "the host's, at most 16", None),
        }
        match &resources.memory_bytes {
            Some(memory) => self.add("memory", display_bytes(memory.value), Some(memory.span)),
            None => self.add("memory", "4GiB, or half of the host's", None),
        }
        match &resources.disk_bytes {
            Some(disk) => self.add("disk", display_bytes(disk.value), Some(disk.span)),
            None => self.add("disk", "40GiB", None),
        }
        match &manifest.settings.workspace {
            Some(workspace) => {
                let mode = match workspace.mode.as_ref().map(|mode| mode.value).unwrap_or_default() {
                    WorkspaceMode::Direct => "direct",
                    WorkspaceMode::Clone => "clone",
                };
                self.add("workspace", format!("{} {mode}", workspace.path.value), Some(workspace.span));
            }
            None => self.add("workspace", ". direct", None),
        }
        for mount in &manifest.settings.mounts {
            let at = mount.at.as_ref().map(|at| format!(" at {}", at.value)).unwrap_or_default();
            let rights = if mount.readonly { " read-only" } else { "" };
            self.add("mount", format!("{}{at}{rights}", mount.path.value), Some(mount.span));
        }
    }

    fn network(&mut self) {
        let manifest = self.manifest;
        match &manifest.settings.network {
            Some(network) => {
                self.add("network", network.default.value.as_str(), Some(network.default.span));
                for rule in &network.rules {
                    for target in &rule.targets {
                        let host = match &target.value {
                            Target::Host(pattern) => pattern.to_string(),
                            Target::Registries { .. } => "the image's package registries".to_owned(),
                        };
                        let port = rule
                            .port
                            .as_ref()
                            .map(|port| format!(" port {}", port.value))
                            .unwrap_or_default();
                        let protocol = rule
                            .protocol
                            .as_ref()
                            .map(|protocol| format!(" {}", protocol.value.as_str()))
                            .unwrap_or_default();
                        self.add(rule.action.as_str(), format!("{host}{port}{protocol}"), Some(target.span));
                    }
                }
                for service in &network.host_services {
                    self.add("host-service", service.port.value.to_string(), Some(service.span));
                }
                for publish in &network.published {
                    let value = match publish.effective_host_port() {
                        0 => format!("{} as a port that is free", publish.port.value),
                        port => format!("{} as {port}", publish.port.value),
                    };
                    self.add("publish", value, Some(publish.span));
                }
            }
            None => self.add("network", Action::Deny.as_str(), None),
        }
        self.implied();
        for secret in &manifest.settings.secrets {
            self.add("secret", shown(secret), Some(secret.span));
        }
    }

    /// What the agents need, unless the manifest says it itself.
    fn implied(&mut self) {
        let origin = |agent: &Agent| Origin::Agent { agent: agent.name.value.clone() };
        let hosts = self.manifest.implied_hosts().into_iter().map(|host| Setting {
            name: "allow",
            value: format!("{} port 443", host.what),
            origin: origin(host.agent),
        });
        let secrets = self.manifest.implied_secrets().into_iter().map(|secret| Setting {
            name: "secret",
            value: shown(secret.what),
            origin: origin(secret.agent),
        });
        self.settings.extend(hosts.chain(secrets));
    }

    fn rest(&mut self) {
        let manifest = self.manifest;
        for variable in &manifest.settings.env {
            let value = format!("{}={}", variable.name.value, variable.value.value);
            self.add("env", value, Some(variable.name.span));
        }
        match &manifest.settings.docker {
            Some(docker) => self.add("docker", docker.value.to_string(), Some(docker.span)),
            None => self.add("docker", "false", None),
        }
        for server in &manifest.settings.mcp {
            self.add("mcp", format!("{} {}", server.name.value, server.command.value), Some(server.span));
        }
        for profile in &manifest.profiles {
            self.add("profile", &profile.name.value, Some(profile.name.span));
        }
    }
}

fn shown(secret: &Secret) -> String {
    let place = match &secret.placement {
        Placement::Header(header) => format!("header {header}"),
        Placement::Bearer => "bearer".to_owned(),
    };
    let source = secret.effective_source();
    format!("{} for {}, {place}, from {source}", secret.name.value, secret.host.value)
}

/// A value on one line, without what a terminal obeys.
fn one_line(value: &str) -> String {
    const MAX_CHARACTERS: usize = 200;
    let mut line = String::new();
    for character in value.chars().take(MAX_CHARACTERS) {
        match character {
            '\n' => line.push_str("\\n"),
            character if is_obeyed(character) => line.extend(character.escape_unicode()),
            character => line.push(character),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use crate::parse;

    #[test]
    fn every_line_says_where_it_comes_from() {
        let text = "agent \"claude\"\nimage \"debian:12\"\nresources cpus=2 memory=\"1536MiB\"\nnetwork \"deny\" {\n    allow \"example.com\" port=443\n}\nenv { A \"b\"; }\n";
        let explanation = parse("sandbox.kdl", text.as_bytes()).unwrap().manifest.explain();
        let expected = [
            "sandbox the directory's name default",
            "agent claude sandbox.kdl:1",
            "image debian:12 sandbox.kdl:2",
            "platform the host's default",
            "cpus 2 sandbox.kdl:3",
            "memory 1536MiB sandbox.kdl:3",
            "disk 40GiB default",
            "workspace . direct default",
            "network deny sandbox.kdl:4",
            "allow example.com port 443 sandbox.kdl:5",
            "allow api.anthropic.com port 443 implied by agent \"claude\"",
            "allow claude.ai port 443 implied by agent \"claude\"",
            "allow platform.claude.com port 443 implied by agent \"claude\"",
            "secret ANTHROPIC_API_KEY for api.anthropic.com, header x-api-key, from env:ANTHROPIC_API_KEY implied by agent \"claude\"",
            "env A=b sandbox.kdl:7",
            "docker false default",
        ];
        let text = explanation.to_string();
        let lines: Vec<_> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, expected);
        // All values begin in one column.
        assert!(
            text.lines().all(|line| line.chars().nth(10).is_some_and(|character| character == ' ')),
            "{text}"
        );
    }
}
