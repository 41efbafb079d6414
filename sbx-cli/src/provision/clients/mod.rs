//! The package managers, one file each.

mod apt;

use sbx_manifest::model::{Agent, PackageManager};

use super::client::Client;

/// The client for packages of `manager`; none if this version has none.
pub(super) fn of_manager(manager: PackageManager) -> Option<Box<dyn Client>> {
    match manager {
        PackageManager::Apt => Some(Box::new(apt::Apt)),
        PackageManager::Apk | PackageManager::Npm | PackageManager::Pip | PackageManager::Cargo => None,
    }
}

/// The client that installs `agent`, whose pins have the owner `agent:NAME`; none if there is nothing to install.
pub(super) fn of_agent(agent: &Agent) -> Option<Box<dyn Client>> {
    let _ = agent;
    None
}
