//! Which parts of the language a manifest uses, and where: for a program that cannot do all of them yet.

use crate::{
    fault::Fault,
    model::{Manifest, Target, WorkspaceMode},
    span::Span,
};

/// A part of the language that a program may be without.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Feature {
    /// An `agent` that has to be installed.
    Agent,
    /// `packages`.
    Packages,
    /// `setup`.
    Setup,
    /// `start`.
    Start,
    /// `workspace` with another directory than the manifest's.
    WorkspacePath,
    /// `mode="clone"`.
    CloneMode,
    /// `registries=#true` in a rule.
    Registries,
    /// `secret`.
    Secrets,
    /// `docker #true`.
    Docker,
    /// `mcp`.
    Mcp,
    /// `platform` of the image.
    Platform,
}

impl Feature {
    /// What it is called in a sentence, such as "package installation".
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Agent => "installing this agent",
            Self::Packages => "installing packages",
            Self::Setup => "setup commands",
            Self::Start => "start commands",
            Self::WorkspacePath => "a workspace that is a part of the repository",
            Self::CloneMode => "clone mode",
            Self::Registries => "allowing the image's package registries",
            Self::Secrets => "secrets",
            Self::Docker => "a container engine inside",
            Self::Mcp => "MCP servers",
            Self::Platform => "another platform than the host's",
        }
    }
}

impl Manifest {
    /// Everything of [`Feature`] that this manifest uses, with the place of the node, in the order of the file.
    #[must_use]
    pub fn features(&self) -> Vec<(Feature, Span)> {
        let mut features = self.node_features();
        let installed = self.settings.agents.iter().filter(|agent| agent.definition.install.is_some());
        features.extend(installed.map(|agent| (Feature::Agent, agent.name.span)));
        if let Some(platform) = &self.image.platform {
            features.push((Feature::Platform, platform.span));
        }
        if let Some(workspace) = &self.settings.workspace {
            if !matches!(workspace.path.value.trim_end_matches('/'), "." | "") {
                features.push((Feature::WorkspacePath, workspace.path.span));
            }
            if let Some(mode) = workspace.mode.as_ref().filter(|mode| mode.value == WorkspaceMode::Clone) {
                features.push((Feature::CloneMode, mode.span));
            }
        }
        if let Some(network) = &self.settings.network {
            let targets = network.rules.iter().flat_map(|rule| &rule.targets);
            let registries = targets.filter(|target| matches!(target.value, Target::Registries { .. }));
            features.extend(registries.map(|target| (Feature::Registries, target.span)));
        }
        features.sort_by_key(|(_, span)| *span);
        features
    }

    fn node_features(&self) -> Vec<(Feature, Span)> {
        let mut features = Vec::new();
        features.extend(
            self.settings
                .packages
                .iter()
                .flat_map(|packages| &packages.sets)
                .map(|set| (Feature::Packages, set.span)),
        );
        features.extend(self.settings.setup.iter().map(|setup| (Feature::Setup, setup.span)));
        features.extend(self.settings.start.iter().map(|start| (Feature::Start, start.span)));
        features.extend(self.settings.secrets.iter().map(|secret| (Feature::Secrets, secret.span)));
        features.extend(self.settings.mcp.iter().map(|server| (Feature::Mcp, server.span)));
        let docker = self.settings.docker.iter().filter(|docker| docker.value);
        features.extend(docker.map(|docker| (Feature::Docker, docker.span)));
        features
    }

    /// A fault for each place where the manifest uses one of `missing`.
    #[must_use]
    pub fn unsupported(&self, missing: &[Feature]) -> Vec<Fault> {
        let used = self.features().into_iter().filter(|(feature, _)| missing.contains(feature));
        used.map(|(feature, span)| {
            let message = format!("this version of sbx has no support for {}", feature.description());
            Fault::error(&self.source, "sbx::unsupported", span, message, "not possible yet")
                .with_help(self.without(feature, span))
        })
        .collect()
    }

    /// What to write as long as the feature is missing.
    fn without(&self, feature: Feature, span: Span) -> String {
        match feature {
            Feature::Agent => "agent \"shell\"".to_owned(),
            Feature::CloneMode => "mode=\"direct\"".to_owned(),
            Feature::WorkspacePath => "workspace \".\"".to_owned(),
            Feature::Docker => "docker #false".to_owned(),
            Feature::Platform => "remove it".to_owned(),
            _ => {
                let line = self.source.slice(span).lines().next().unwrap_or_default();
                format!("take it out for now: // {line}")
            }
        }
    }
}
