//! What the sandbox process does about its network when it is asked.

use std::io;

use sbx_net::{
    driver::{Controller, PortError},
    policy::Policy,
};

use super::start::port_failed;
use crate::{
    error::CommandError,
    sandbox::control::{NetworkAnswer, NetworkCall},
};

/// Carries out `call`, on any thread.
pub(crate) fn answer(controller: Option<&Controller>, call: NetworkCall) -> NetworkAnswer {
    let Some(controller) = controller else { return NetworkAnswer::NoNetwork };
    match call {
        NetworkCall::SetRules { default, rules } => {
            controller.set_policy(Policy::new(default, rules));
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
