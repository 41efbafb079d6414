//! What the sandbox process does about its network when it is asked.

use std::io;

use sbx_net::driver::PortError;

use super::{rulebook::Rulebook, start::port_failed};
use crate::{
    error::CommandError,
    sandbox::control::{NetworkAnswer, NetworkCall},
};

/// Carries out `call`, on any thread.
pub(crate) fn answer(rulebook: Option<&Rulebook>, call: NetworkCall) -> NetworkAnswer {
    let Some(rulebook) = rulebook else { return NetworkAnswer::NoNetwork };
    let controller = rulebook.controller();
    match call {
        NetworkCall::SetRules { default, rules, registries } => {
            rulebook.set_rules(default, rules, registries);
            NetworkAnswer::Done
        }
        NetworkCall::Publish { guest, host } => match controller.publish(guest, host, None) {
            Ok(port) => NetworkAnswer::Ports(vec![port]),
            // Who has it can be found by the one who asks: this process is confined and sees no others.
            Err(PortError::Bind { port, source }) if source.kind() == io::ErrorKind::AddrInUse => {
                NetworkAnswer::Taken { host: port }
            }
            Err(error) => failed(&port_failed(error, guest)),
        },
        NetworkCall::Unpublish { host } => {
            if controller.unpublish(host) {
                NetworkAnswer::Done
            } else {
                NetworkAnswer::Unpublished
            }
        }
        NetworkCall::Ports => NetworkAnswer::Ports(controller.ports()),
    }
}

fn failed(error: &CommandError) -> NetworkAnswer {
    NetworkAnswer::Failed { chain: error.chain(), hints: error.hints().to_vec() }
}
