//! What programs in the sandbox find in the place of a credential.
//!
//! A credential never enters the sandbox. A program that wants one finds a placeholder in its environment, which names the
//! credential and says nothing about it.

use sbx_manifest::{
    Manifest,
    model::{Secret, SecretSource},
};

/// Variables for every credential that the manifest or one of its agents names and that this host has.
pub(crate) fn placeholders(manifest: &Manifest) -> Vec<(String, String)> {
    let implied = manifest.implied_secrets();
    let secrets = manifest.settings.secrets.iter().chain(implied.iter().map(|secret| secret.what));
    secrets
        .filter(|secret| is_here(secret))
        .map(|secret| (secret.name.value.clone(), placeholder(&secret.name.value)))
        .collect()
}

/// What stands for the credential called `name`.
fn placeholder(name: &str) -> String {
    format!("sbx-placeholder-{name}")
}

/// Whether the host has it, as far as can be told without reading it. An agent that finds nothing asks its user to log in,
/// and one that finds a placeholder does not.
fn is_here(secret: &Secret) -> bool {
    match secret.effective_source() {
        SecretSource::Environment { variable } => crate::environment::value(&variable).is_some(),
        SecretSource::File { .. } | SecretSource::Command { .. } | SecretSource::SecretService { .. } => true,
    }
}
