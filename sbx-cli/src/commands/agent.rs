//! `sbx agent`.

use clap::Subcommand;
use sbx_manifest::model::{Definition, DefinitionOrigin, InstallFrom, Placement, Secret};
use serde::Serialize;

use crate::{
    agents,
    context::Context,
    error::{Outcome, Result},
    ui::{Table, printable},
};

/// List the agents that a sandbox.kdl can name, or show what one is
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// List sbx's own agents and yours
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how an agent is installed and started, what it reaches, and who says so
    Show {
        /// As `sbx agent ls` shows it
        name: String,
        /// Print JSON
        #[arg(long, conflicts_with = "kdl")]
        json: bool,
        /// Print the file that says it; a copy beside config.kdl, in agents/NAME.kdl, goes before ours
        #[arg(long)]
        kdl: bool,
    },
}

/// An agent, with the keys that `--json` promises.
#[derive(Debug, Serialize)]
struct Row<'d> {
    #[serde(flatten)]
    definition: &'d Definition,
    /// The file that says it.
    file: &'d str,
}

impl<'d> Row<'d> {
    fn new(definition: &'d Definition) -> Self {
        Self { definition, file: definition.source.name() }
    }

    /// Who says what the agent is.
    fn origin(&self) -> &str {
        if self.definition.origin == DefinitionOrigin::User { self.file } else { "sbx" }
    }
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    match &args.command {
        Command::Ls { json } => list(context, *json),
        Command::Show { name, json, kdl } => show(context, name, *json, *kdl),
    }
}

fn list(context: &Context, json: bool) -> Result<Outcome> {
    let catalogue = agents::catalogue(&context.paths)?;
    let (mut found, mut broken) = (Vec::new(), false);
    for name in catalogue.names() {
        match catalogue.get(name) {
            Some(Ok(definition)) => found.push(definition),
            Some(Err(faults)) => {
                context.ui.diagnostic(&faults);
                broken = true;
            }
            None => {}
        }
    }
    let rows: Vec<_> = found.iter().map(Row::new).collect();
    if json {
        context.ui.json(&rows);
    } else {
        let mut table = Table::new(&["name", "agent", "installed from", "secret", "said by"]);
        for row in &rows {
            let definition = row.definition;
            let secrets: Vec<_> =
                definition.secrets.iter().map(|secret| secret.name.value.as_str()).collect();
            table.row(
                [
                    definition.name.as_str(),
                    &definition.title,
                    &installed_from(definition).unwrap_or_else(|| "-".to_owned()),
                    &if secrets.is_empty() { "-".to_owned() } else { secrets.join(", ") },
                    row.origin(),
                ]
                .map(printable)
                .to_vec(),
            );
        }
        context.ui.data(table);
    }
    // What could be read was listed; what could not makes no table wrong, but somebody has to look at it.
    Ok(if broken { Outcome::No } else { Outcome::Done })
}

fn show(context: &Context, name: &str, json: bool, kdl: bool) -> Result<Outcome> {
    let definition = agents::find(context, name)?;
    if kdl {
        context.ui.raw(definition.source.text());
        return Ok(Outcome::Done);
    }
    let row = Row::new(&definition);
    if json {
        context.ui.json(&row);
        return Ok(Outcome::Done);
    }
    for (label, value) in lines(&row) {
        context.ui.data(format_args!("{label:9} {}", printable(&value)));
    }
    Ok(Outcome::Done)
}

/// What an agent is, as labels and values.
fn lines(row: &Row<'_>) -> Vec<(&'static str, String)> {
    let definition = row.definition;
    let words = |words: &[sbx_manifest::Spanned<String>]| {
        words.iter().map(|word| word.value.as_str()).collect::<Vec<_>>().join(" ")
    };
    let mut lines = vec![("agent", format!("{} ({})", definition.name, definition.title))];
    lines.push(("said by", row.origin().to_owned()));
    lines.push((
        "install",
        installed_from(definition).unwrap_or_else(|| "nothing; the image has it".to_owned()),
    ));
    lines.extend(definition.node.as_ref().map(|node| ("node", format!("{} or newer", node.value))));
    let command = words(&definition.command);
    let shell = "a login shell, or the command that `sbx up` is given".to_owned();
    lines.push(("command", if command.is_empty() { shell } else { command }));
    if !definition.version_command.is_empty() {
        lines.push(("version", words(&definition.version_command)));
    }
    lines.extend(definition.hosts.iter().map(|host| ("reaches", format!("{} port 443", host.value))));
    lines.extend(definition.secrets.iter().map(|secret| ("secret", shown(secret))));
    let variable = |variable: &sbx_manifest::model::Variable| {
        ("env", format!("{}={}", variable.name.value, variable.value.value))
    };
    lines.extend(definition.env.iter().map(variable));
    lines.extend(definition.config.iter().map(|path| ("config", format!("~/{}", path.value))));
    lines.extend(definition.files.iter().map(|file| ("places", format!("~/{}", file.path.value))));
    lines
}

fn installed_from(definition: &Definition) -> Option<String> {
    Some(match &definition.install.as_ref()?.from {
        InstallFrom::Package { manager, package } => format!("{} {}", manager.as_str(), package.value),
        InstallFrom::Download(download) => {
            let rest = download.url.value.split_once("://").map_or("", |(_, rest)| rest);
            rest.split('/').next().unwrap_or_default().to_owned()
        }
    })
}

fn shown(secret: &Secret) -> String {
    let place = match &secret.placement {
        Placement::Header(header) => format!("as header {header}"),
        Placement::Bearer => "as bearer token".to_owned(),
    };
    format!("{} to {}, {place}", secret.name.value, secret.host.value)
}
