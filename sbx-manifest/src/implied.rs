//! What the agents of a manifest need besides what the manifest says itself.

use crate::{
    model::{Action, Agent, Manifest, Rule, Secret, Settings, Target},
    types::{HostPattern, PortRange},
};

/// The port on which agents talk to their hosts.
pub const AGENT_PORT: PortRange = PortRange { first: 443, last: 443 };

/// Something that an agent needs.
#[derive(Clone, Copy, Debug)]
pub struct Implied<'m, T> {
    /// Who needs it; the first, if several do.
    pub agent: &'m Agent,
    /// What it is.
    pub what: &'m T,
}

impl Manifest {
    /// The hosts that the agents talk to on [`AGENT_PORT`], without those that the manifest allows itself.
    #[must_use]
    pub fn implied_hosts(&self) -> Vec<Implied<'_, HostPattern>> {
        let mut hosts: Vec<Implied<'_, HostPattern>> = Vec::new();
        for agent in &self.settings.agents {
            for host in &agent.definition.hosts {
                let what = &host.value;
                if !self.settings.allows(what) && !hosts.iter().any(|known| known.what == what) {
                    hosts.push(Implied { agent, what });
                }
            }
        }
        hosts
    }

    /// The credentials that the agents are known by, without those that the manifest says something about itself.
    #[must_use]
    pub fn implied_secrets(&self) -> Vec<Implied<'_, Secret>> {
        let mut secrets: Vec<Implied<'_, Secret>> = Vec::new();
        for agent in &self.settings.agents {
            for what in &agent.definition.secrets {
                let same = |other: &Secret| other.name.value == what.name.value;
                if !self.settings.secrets.iter().any(same) && !secrets.iter().any(|known| same(known.what)) {
                    secrets.push(Implied { agent, what });
                }
            }
        }
        secrets
    }
}

impl Settings {
    /// Whether one of the agents talks to `host`.
    pub(crate) fn implies(&self, host: &HostPattern) -> bool {
        let hosts = self.agents.iter().flat_map(|agent| &agent.definition.hosts);
        hosts.into_iter().any(|own| own.value.covers(host))
    }

    /// Whether the rules alone allow `host` on the port that agents use.
    fn allows(&self, host: &HostPattern) -> bool {
        let covers = |rule: &Rule| {
            rule.targets.iter().any(|target| matches!(&target.value, Target::Host(own) if own.covers(host)))
        };
        let rules = self.network.iter().flat_map(|network| &network.rules);
        rules
            .filter(|rule| rule.action == Action::Allow && rule.protocol.is_none())
            .filter(|rule| rule.port.as_ref().is_none_or(|port| port.value.covers(AGENT_PORT)))
            .any(covers)
    }
}
