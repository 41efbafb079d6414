//! `sbx up --profile NAME`: the manifest with what the profile names in the place of its own.

use crate::{
    decode::{closest, quoted},
    fault::Fault,
    model::{Manifest, Profile},
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
            Some(profile) => Ok(self.with(profile)),
            None => Err(self.no_profile(name)),
        }
    }

    fn with(&self, profile: &Profile) -> Self {
        let mut manifest = self.clone();
        if let Some(image) = &profile.image {
            manifest.image = image.clone();
        }
        let (settings, own) = (&mut manifest.settings, profile.settings.clone());
        take(&mut settings.packages, own.packages);
        take(&mut settings.workspace, own.workspace);
        take(&mut settings.network, own.network);
        take(&mut settings.docker, own.docker);
        let (resources, own_resources) = (&mut settings.resources, own.resources);
        take(&mut resources.cpus, own_resources.cpus);
        take(&mut resources.memory_bytes, own_resources.memory_bytes);
        take(&mut resources.disk_bytes, own_resources.disk_bytes);
        replace(&mut settings.agents, own.agents);
        replace(&mut settings.setup, own.setup);
        replace(&mut settings.start, own.start);
        replace(&mut settings.mounts, own.mounts);
        replace(&mut settings.secrets, own.secrets);
        replace(&mut settings.mcp, own.mcp);
        for variable in own.env {
            match settings.env.iter_mut().find(|known| known.name.value == variable.name.value) {
                Some(known) => *known = variable,
                None => settings.env.push(variable),
            }
        }
        manifest
    }

    pub(crate) fn no_profile(&self, name: &str) -> Fault {
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

fn take<T>(own: &mut Option<T>, other: Option<T>) {
    if other.is_some() {
        *own = other;
    }
}

fn replace<T>(own: &mut Vec<T>, others: Vec<T>) {
    if !others.is_empty() {
        *own = others;
    }
}
