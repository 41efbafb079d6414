//! What the steps of one machine have in common: the image, the store, the files, and the machines that they are taken in.

use std::{cell::OnceCell, path::PathBuf};

use chrono::DateTime;
use sbx_image::{Image, Snapshot, Store};
use sbx_net::policy::{Action, Origin, PortRange, Protocol, Rule, Target};
use sbx_vmm::engine::EngineKind;

use super::{
    downloads::Downloads,
    machine::{Machine, Setting, Workbench},
    progress::StepProgress,
};
use crate::{
    context::Context,
    error::{CommandError, Result},
    images,
    network::{NetworkPlan, plan::RegistryGrant, proxies},
    project::Project,
    sandbox::{blueprint, plan::Clock, spawn::Foundation},
};

/// The time of an image that does not say when it was made: 2000-01-01.
const DEFAULT_EPOCH_SECONDS: i64 = 946_684_800;

/// Images that claim to be older are taken not to know: 1980-01-01, before which no ZIP archive can be.
const OLDEST_EPOCH_SECONDS: i64 = 315_532_800;

const DAY_SECONDS: i64 = 86_400;

/// vCPUs of machines in which packages are installed, which is done by one program after the other.
const PACKAGE_VCPUS: u8 = 2;

/// What a machine may reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// Nothing.
    Nothing,
    /// The registries that the image names, the hosts of the step, and what the manifest's rules are about: a mirror that only
    /// the registry names, or a private address, has a rule there.
    Registries,
    /// The same, and what no rule is about as the manifest says.
    Manifest,
}

/// What the steps have in common.
#[derive(Debug)]
pub(super) struct Bench<'b> {
    /// The terminal and the directories.
    pub(super) context: &'b Context,
    /// The manifest.
    pub(super) project: &'b Project,
    /// Layers and snapshots.
    pub(super) store: Store,
    /// The image.
    pub(super) image: Image,
    /// Downloaded files.
    pub(super) downloads: Downloads,
    /// When the image was made, in seconds since 1970: nothing in a layer is later.
    pub(super) epoch: i64,
    engine: Option<EngineKind>,
    foundation: OnceCell<Foundation>,
}

impl<'b> Bench<'b> {
    /// For the steps over `image`.
    ///
    /// # Errors
    /// If the directory of the downloads cannot be made.
    pub(super) fn new(
        context: &'b Context,
        project: &'b Project,
        store: Store,
        image: Image,
        engine: Option<EngineKind>,
    ) -> Result<Self> {
        let downloads = Downloads::open(&context.paths.home).map_err(|error| {
            CommandError::failed("cannot make the directory of downloaded files").with_source(error)
        })?;
        let epoch = epoch(image.config.created().as_deref());
        Ok(Self { context, project, store, image, downloads, epoch, engine, foundation: OnceCell::new() })
    }

    /// Boots a machine over `snapshot` for a program of `step`.
    ///
    /// # Errors
    /// If it does not come up.
    pub(super) fn boot(
        &self,
        snapshot: &Snapshot,
        reach: Reach,
        hosts: &[String],
        workbench: Workbench,
        progress: &StepProgress,
    ) -> Result<Machine> {
        let network = match reach {
            Reach::Nothing => None,
            Reach::Registries | Reach::Manifest => Some(self.network(reach, hosts)?),
        };
        let setting = Setting {
            foundation: self.foundation()?,
            snapshot,
            network,
            // Certificates of servers are valid now, not when the image was made.
            clock: if reach == Reach::Nothing { self.clock() } else { Clock::Host },
            environment: self.environment(reach),
            vcpus: match reach {
                Reach::Manifest => self.project.vcpus(),
                Reach::Nothing | Reach::Registries => PACKAGE_VCPUS.min(self.project.vcpus()),
            },
            memory_mib: self.project.memory_mib(),
            disk_bytes: self.project.disk_bytes(),
        };
        let tell = progress.clone();
        Machine::boot(self.context, &setting, workbench, move |line| tell.line(line))
    }

    /// Where the output of a step is kept.
    pub(super) fn log(&self, key: &str) -> PathBuf {
        super::machine::logs(self.context).join(format!("{key}.log"))
    }

    /// Kernel, guest and engine, looked for when the first machine boots.
    fn foundation(&self) -> Result<&Foundation> {
        if self.foundation.get().is_none() {
            let found = Foundation::find(self.context, self.engine)?;
            let _ = self.foundation.set(found);
        }
        self.foundation.get().ok_or_else(|| CommandError::failed("there is no engine"))
    }

    /// The midnight after the image was made: everything that is written is later than the image, and gets its time, and a day
    /// passes before a date could be another one.
    fn clock(&self) -> Clock {
        let midnight = self.epoch.div_euclid(DAY_SECONDS).saturating_add(1).saturating_mul(DAY_SECONDS);
        Clock::From(u64::try_from(midnight).unwrap_or(0).saturating_mul(1_000_000_000))
    }

    /// The image's variables, for a setup command also the manifest's, and those that programs know which want to be
    /// reproducible (reproducible-builds.org, "SOURCE_DATE_EPOCH").
    fn environment(&self, reach: Reach) -> Vec<(Vec<u8>, Vec<u8>)> {
        let image = images::environment(&self.image);
        let image = image.iter().filter_map(|variable| variable.split_once('='));
        let mut variables = blueprint::Variables::new();
        image.for_each(|(name, value)| variables.set(name, value));
        let epoch = self.epoch.to_string();
        for (name, value) in [
            ("SOURCE_DATE_EPOCH", epoch.as_str()),
            ("PYTHONHASHSEED", "0"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC"),
            ("DEBIAN_FRONTEND", "noninteractive"),
        ] {
            variables.set(name, value);
        }
        if reach == Reach::Manifest {
            for (name, value) in self.project.manifest().environment() {
                variables.set(&name, &value);
            }
        }
        variables.into_pairs()
    }

    fn network(&self, reach: Reach, hosts: &[String]) -> Result<NetworkPlan> {
        let manifest = NetworkPlan::of(self.project.manifest()).unwrap_or_default();
        let hosts = hosts.iter().filter_map(|host| rule_for(host));
        Ok(NetworkPlan {
            default: if reach == Reach::Manifest { manifest.default } else { Action::Deny },
            rules: manifest.rules.into_iter().chain(hosts).collect(),
            registries: vec![RegistryGrant { ports: None, protocol: None }],
            host_services: if reach == Reach::Manifest { manifest.host_services } else { Vec::new() },
            proxies: proxies::of_environment()?,
            ..NetworkPlan::default()
        })
    }
}

fn rule_for(host: &str) -> Option<Rule> {
    const PORT: u16 = 443;
    Some(Rule {
        action: Action::Allow,
        target: Target::Exact(sbx_net::name::Name::new(host).ok()?),
        ports: Some(PortRange { first: PORT, last: PORT }),
        protocol: Some(Protocol::Tcp),
        origin: Origin { place: "the agent's definition".to_owned(), text: format!("allow \"{host}\"") },
    })
}

/// When an image was made, as far as that can be (RFC 3339).
fn epoch(created: Option<&str>) -> i64 {
    let created = created.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let seconds = created.map(|time| time.timestamp());
    // A clock of 32 bits ends in 2038; programs in the guest may have one.
    seconds
        .filter(|seconds| (OLDEST_EPOCH_SECONDS..=i64::from(i32::MAX)).contains(seconds))
        .unwrap_or(DEFAULT_EPOCH_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_does_not_know_its_age_gets_one() {
        assert_eq!(epoch(Some("2025-05-20T00:00:00Z")), 1_747_699_200);
        assert_eq!(epoch(Some("2025-05-20T02:00:00.123+02:00")), 1_747_699_200);
        for text in
            [None, Some(""), Some("yesterday"), Some("1970-01-01T00:00:00Z"), Some("9999-01-01T00:00:00Z")]
        {
            assert_eq!(epoch(text), DEFAULT_EPOCH_SECONDS, "{text:?}");
        }
    }
}
