//! `sbx up --profile NAME`: the manifest with what the profile names in the place of its own.

use crate::{
    decode::{closest, quoted},
    fault::Fault,
    model::{Manifest, Settings},
    span::Span,
};

impl Manifest {
    /// This manifest with the nodes of a profile in the places of its own.
    ///
    /// A node that the profile has replaces all of the manifest's of that name; of `resources` each property by itself,
    /// of `env` each variable.
    ///
    /// # Errors
    /// A fault at the profiles that there are, if there is none of this name.
    pub fn with_profile(&self, name: &str) -> Result<Self, Fault> {
        match self.profiles.iter().find(|profile| profile.name.value == name) {
            Some(profile) => Ok(self.with_settings(&profile.settings)),
            None => Err(self.no_profile(name)),
        }
    }

    fn with_settings(&self, settings: &Settings) -> Self {
        let mut manifest = self.clone();
        let own = settings.clone();
        manifest.agent = own.agent.or(manifest.agent);
        manifest.image = own.image.unwrap_or(manifest.image);
        manifest.packages = own.packages.or(manifest.packages);
        manifest.workspace = own.workspace.or(manifest.workspace);
        manifest.network = own.network.or(manifest.network);
        manifest.docker = own.docker.or(manifest.docker);
        manifest.resources.cpus = own.resources.cpus.or(manifest.resources.cpus);
        manifest.resources.memory_bytes = own.resources.memory_bytes.or(manifest.resources.memory_bytes);
        manifest.resources.disk_bytes = own.resources.disk_bytes.or(manifest.resources.disk_bytes);
        replace(&mut manifest.setup, own.setup);
        replace(&mut manifest.start, own.start);
        replace(&mut manifest.mounts, own.mounts);
        replace(&mut manifest.secrets, own.secrets);
        replace(&mut manifest.mcp, own.mcp);
        for variable in own.env {
            match manifest.env.iter_mut().find(|known| known.name.value == variable.name.value) {
                Some(known) => *known = variable,
                None => manifest.env.push(variable),
            }
        }
        manifest
    }

    fn no_profile(&self, name: &str) -> Fault {
        let names: Vec<_> = self.profiles.iter().map(|profile| profile.name.value.as_str()).collect();
        let message = format!("there is no profile {}", quoted(name));
        let Some(first) = self.profiles.first() else {
            return Fault::error(
                &self.source,
                "manifest::no-profile",
                Span::default(),
                message,
                "no `profile` in this file",
            )
            .with_help(format!("profile {} {{ agent \"shell\"; }}", quoted(name)));
        };
        let fault =
            Fault::error(&self.source, "manifest::no-profile", first.name.span, message, "this is one");
        match closest(name, names.iter().copied()) {
            Some(close) => fault.with_help(format!("--profile {close}")),
            None => fault.with_help(format!("the profiles are {}", names.join(", "))),
        }
    }
}

fn replace<T>(own: &mut Vec<T>, others: Vec<T>) {
    if !others.is_empty() {
        *own = others;
    }
}
