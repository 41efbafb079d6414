//! `sbx ports`.

use serde::Serialize;

use crate::{
    args::Selection,
    context::Context,
    error::{CommandError, Outcome, Result},
    network,
    sandbox::control::{self, NetworkAnswer, NetworkCall},
    ui::Table,
};

/// List the sandbox's ports that the host has, or publish more of them while it runs
///
/// Published ports are on the host's loopback addresses. What is added here lasts until the sandbox stops; `publish` in
/// sandbox.kdl lasts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Publish a port of the sandbox
    Add {
        /// The port in the sandbox
        port: u16,
        /// The port on the host; 0 chooses a free one [default: the same]
        #[arg(long = "as", value_name = "PORT")]
        host: Option<u16>,
    },
    /// Publish a port no more; connections that are open stay
    Rm {
        /// The port on the host
        port: u16,
    },
}

/// A port as JSON has it.
#[derive(Debug, Serialize)]
struct Port {
    guest: u16,
    host: u16,
    address: String,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (directory, _) = context.sandbox(&args.selection)?;
    let call = match args.action {
        None => NetworkCall::Ports,
        Some(Action::Add { port, host }) => NetworkCall::Publish { guest: port, host: host.unwrap_or(port) },
        Some(Action::Rm { port }) => NetworkCall::Unpublish { host: port },
    };
    let answer = control::network(&directory.run(), call).ok_or_else(|| {
        CommandError::failed(format!("`{}` does not run", directory.name()))
            .with_hint("`sbx up` starts it and publishes what sandbox.kdl says")
    })?;
    match answer {
        NetworkAnswer::Ports(ports) => {
            let ports: Vec<Port> = ports
                .iter()
                .map(|port| Port { guest: port.guest, host: port.host, address: port.address.to_string() })
                .collect();
            show(context, args, &ports);
        }
        NetworkAnswer::Done => {}
        NetworkAnswer::Taken { host } => {
            return Err(
                network::port_taken(host).with_hint("publish it as another port: `--as 0` chooses one")
            );
        }
        NetworkAnswer::Unpublished => {
            return Err(CommandError::usage("that port of the host is not published")
                .with_hint("`sbx ports` lists those that are"));
        }
        NetworkAnswer::NoNetwork => {
            return Err(CommandError::usage(format!("`{}` has no network", directory.name())).with_hint(
                "a network node in sandbox.kdl and a new start give it one: network { publish 3000; }",
            ));
        }
        NetworkAnswer::Failed { chain, hints } => {
            let error = CommandError::told(chain, hints);
            // The sandbox process cannot see who has the port.
            let holder = match args.action {
                Some(Action::Add { port, host }) => network::holder(host.unwrap_or(port)),
                _ => None,
            };
            return Err(match holder {
                Some(holder) => error.with_hint(format!("the port is taken by {holder}")),
                None => error,
            });
        }
    }
    Ok(Outcome::Done)
}

fn show(context: &Context, args: &Args, ports: &[Port]) {
    if args.json {
        return context.ui.json(&ports);
    }
    if ports.is_empty() {
        return context.ui.note("no port is published");
    }
    let mut table = Table::new(&["guest", "host"]);
    for port in ports {
        table.row(vec![port.guest.to_string(), format!("{}:{}", port.address, port.host)]);
    }
    context.ui.data(table);
}
