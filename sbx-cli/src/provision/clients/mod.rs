//! The package managers, one file each.

mod apk;
mod apt;
mod cargo;
mod dnf;
mod download;
mod npm;
mod pip;

use sbx_manifest::model::{Agent, InstallFrom, PackageManager};

use super::client::Client;

/// The client for packages of `manager`; none if this version has none.
pub(super) fn of_manager(manager: PackageManager) -> Option<Box<dyn Client>> {
    match manager {
        PackageManager::Apk => Some(Box::new(apk::Apk)),
        PackageManager::Apt => Some(Box::new(apt::Apt)),
        PackageManager::Dnf => Some(Box::new(dnf::Dnf)),
        PackageManager::Npm => Some(Box::new(npm::Npm::of_machine())),
        PackageManager::Pip => Some(Box::new(pip::Pip)),
        PackageManager::Cargo => Some(Box::new(cargo::Cargo)),
    }
}

/// The client that installs `agent`, whose pins have the owner `agent:NAME`; none if there is nothing to install.
pub(super) fn of_agent(agent: &Agent) -> Option<Box<dyn Client>> {
    let name = agent.name.value.as_str();
    match &agent.definition.install.as_ref()?.from {
        InstallFrom::Package { manager: PackageManager::Npm, .. } => {
            let node = agent.definition.node.as_ref().map(|node| node.value);
            Some(Box::new(npm::Npm::of_agent(name, node)))
        }
        InstallFrom::Package { manager, .. } => of_manager(*manager),
        InstallFrom::Download(described) => {
            let version = agent.version.as_ref().map(|version| version.value.clone());
            Some(Box::new(download::Download::of_agent(name, described.clone(), version)))
        }
    }
}

/// Where an agent is installed. Its name is the manifest's, or that of a file of the user's.
fn agent_directory(name: &str) -> String {
    let safe = |character: char| {
        if character.is_ascii_alphanumeric() || matches!(character, '-' | '_') { character } else { '-' }
    };
    format!("/opt/sbx/agents/{}", name.chars().map(safe).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_directory_is_below_that_of_all() {
        assert_eq!(agent_directory("claude"), "/opt/sbx/agents/claude");
        assert_eq!(agent_directory("../a b/c.d"), "/opt/sbx/agents/---a-b-c-d");
    }
}
