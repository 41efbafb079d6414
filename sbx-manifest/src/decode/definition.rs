//! What an agent is: between the braces of `agent`, or in a file of its own.

use super::Decoder;
use crate::{
    model::{
        Action, Archive, Definition, DefinitionOrigin, Download, HomeFile, Install, InstallFrom, NodeVersion,
        PackageManager, Program, Target,
    },
    span::Spanned,
    tree::{Node, Value},
    types::{HostPattern, Refusal, shorten},
};

const MANAGERS: [PackageManager; 6] = [
    PackageManager::Apt,
    PackageManager::Apk,
    PackageManager::Dnf,
    PackageManager::Npm,
    PackageManager::Pip,
    PackageManager::Cargo,
];

/// What a vendor's URL may have in braces.
const PLACEHOLDERS: [&str; 3] = ["version", "architecture", "musl"];

impl Decoder<'_> {
    /// What `node` says of the agent `name`.
    pub(super) fn define(&mut self, node: &Node, name: &str, origin: DefinitionOrigin) -> Definition {
        let title = self.text_property(node, "title").map(|title| title.value);
        let mut definition = Definition {
            name: name.to_owned(),
            title: title.unwrap_or_else(|| name.to_owned()),
            origin,
            source: self.source.clone(),
            install: None,
            node: None,
            command: Vec::new(),
            version_command: Vec::new(),
            hosts: Vec::new(),
            secrets: Vec::new(),
            env: Vec::new(),
            config: Vec::new(),
            files: Vec::new(),
        };
        for child in node.children() {
            match child.name.value.as_str() {
                "install" => definition.install = self.install(child),
                "node" => definition.node = self.node_version(child),
                "command" => definition.command = self.text_arguments(child),
                "version-command" => definition.version_command = self.text_arguments(child),
                "allow" => definition.hosts.extend(self.agent_hosts(child)),
                "secret" => definition.secrets.extend(self.secret(child)),
                "env" => definition.env.extend(self.env(child)),
                "config" => definition.config.extend(self.config(child)),
                "file" => definition.files.extend(self.home_file(child)),
                _ => {}
            }
        }
        if definition.command.is_empty()
            && let Some(install) = &definition.install
            && !node.children().iter().any(|child| child.name.value == "command")
        {
            let fault = self
                .fault(
                    "manifest::missing",
                    install.span,
                    "nothing says how this agent is started",
                    "no `command`",
                )
                .with_help(format!("command \"{name}\""));
            self.report(fault);
        }
        definition
    }

    fn install(&mut self, node: &Node) -> Option<Install> {
        let mut found = Vec::new();
        for manager in MANAGERS {
            let Some(package) = self.text_property(node, manager.as_str()) else { continue };
            found.push((package.span, InstallFrom::Package { manager, package }));
        }
        if let Some(url) = node.property("url") {
            let download = self.download(node, url);
            found.extend(download.map(|download| (url.span, InstallFrom::Download(download))));
        }
        if let Some((second, _)) = found.get(1) {
            let fault = self
                .fault(
                    "manifest::twice",
                    *second,
                    "an agent is installed by one package manager",
                    "the second",
                )
                .with_help("keep one of them");
            self.report(fault);
        }
        if found.is_empty() && node.properties.is_empty() {
            let fault = self
                .fault(
                    "manifest::missing",
                    node.header,
                    "`install` needs a package",
                    "does not say what to install",
                )
                .with_help(r#"install npm="@acme/agent""#);
            self.report(fault);
        }
        let (_, from) = found.into_iter().next()?;
        Some(Install { span: node.header, from })
    }

    fn download(&mut self, node: &Node, url: &Value) -> Option<Download> {
        let latest = node.property("latest").and_then(|value| self.checked(value, "latest=", plain_url));
        let archive = node
            .property("archive")
            .and_then(|value| self.word(value, "archive=", "an archive", &Archive::WORDS))
            .map(|archive| archive.value)
            .unwrap_or_default();
        let programs: Vec<_> = node.children().iter().filter_map(|child| self.program(child)).collect();
        if programs.is_empty() {
            let fault = self
                .fault(
                    "manifest::missing",
                    node.header,
                    "nothing says which program is downloaded",
                    "no `program`",
                )
                .with_help(r#"install url="…" archive="tar.gz" { program "acme" path="acme/bin/acme"; }"#);
            self.report(fault);
        }
        let url = self.checked(url, "url=", versioned_url)?;
        Some(Download { url, latest, archive, programs })
    }

    fn program(&mut self, node: &Node) -> Option<Program> {
        let path = node.property("path").and_then(|value| self.checked(value, "path=", inner_path));
        let name = self.checked_argument(node, program_name)?;
        Some(Program { name, path })
    }

    fn node_version(&mut self, node: &Node) -> Option<Spanned<NodeVersion>> {
        let value = node.arguments.first()?;
        self.converted(value, "node ", |text| {
            let version = text.strip_prefix(">=").map(str::trim).and_then(NodeVersion::read);
            version.ok_or_else(|| {
                let refusal = Refusal::new(
                    format!("`{}` is not a lower bound of Node.js", shorten(text)),
                    "must be `>=` and a version",
                );
                match NodeVersion::read(text.trim_start_matches(['^', '~', '>', '='])) {
                    Some(version) => refusal.instead(format!(">={version}")),
                    None => refusal.instead(">=22"),
                }
            })
        })
    }

    fn agent_hosts(&mut self, node: &Node) -> Vec<Spanned<HostPattern>> {
        let mut hosts = Vec::new();
        for value in &node.arguments {
            if let Some(Spanned { value: Target::Host(pattern), span }) = self.target(value, Action::Allow) {
                hosts.push(Spanned::new(pattern, span));
            }
        }
        hosts
    }

    fn config(&mut self, node: &Node) -> Vec<Spanned<String>> {
        node.arguments.iter().filter_map(|value| self.checked(value, "config ", inner_path)).collect()
    }

    fn home_file(&mut self, node: &Node) -> Option<HomeFile> {
        let content = match node.property("content") {
            Some(value) => self.checked(value, "content=", super::agent::no_nul),
            None => {
                let fault = self
                    .fault("manifest::missing", node.header, "a file needs its content", "no `content`")
                    .with_help(r#"file ".acme/settings.json" content="{}""#);
                self.report(fault);
                None
            }
        };
        let path = self.checked_argument(node, inner_path)?;
        Some(HomeFile { path, content: content? })
    }
}

/// A path below a directory that is somebody else's to choose.
fn inner_path(text: &str) -> Result<(), Refusal> {
    let refuse = |label: &str| Refusal::new(format!("`{}` is not a path inside", shorten(text)), label);
    if text.is_empty() || text.contains('\0') {
        return Err(refuse("names nothing"));
    }
    if text.starts_with(['/', '~']) {
        return Err(refuse("must be relative").instead(text.trim_start_matches(['/', '~'])));
    }
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(refuse("has an empty part, `.` or `..` in it"));
    }
    Ok(())
}

/// A program's name becomes that of a file in a directory of programs.
fn program_name(text: &str) -> Result<(), Refusal> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
    if text.is_empty() || text.starts_with(['-', '.']) || !text.bytes().all(known) {
        return Err(Refusal::new(
            format!("`{}` cannot be a program", shorten(text)),
            "letters, digits, `-`, `_`, `.` and `+`",
        ));
    }
    Ok(())
}

/// A URL that can be handed to a program and written into a line.
fn plain_url(text: &str) -> Result<(), Refusal> {
    let refuse = |label: &str| Refusal::new(format!("`{}` is not a URL", shorten(text)), label);
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return Err(refuse("must begin with https://")) };
    let odd =
        |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'"' | b'\'' | b'\\' | b'`' | b'<' | b'>');
    if rest.bytes().any(odd) {
        return Err(refuse("has spaces or other characters in it that no URL has"));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() || host.contains(['@', '{', '}']) {
        return Err(refuse("names no host"));
    }
    Ok(())
}

/// A URL that says which version it is of.
fn versioned_url(text: &str) -> Result<(), Refusal> {
    plain_url(text)?;
    if !text.contains("{version}") {
        return Err(Refusal::new("the URL is the same for every version", "no `{version}` in it"));
    }
    for piece in text.split('{').skip(1) {
        let word = piece.split_once('}').map(|(word, _)| word);
        if !word.is_some_and(|word| PLACEHOLDERS.contains(&word)) {
            return Err(Refusal::new(
                format!("`{{{}}}` stands for nothing", shorten(piece.split('}').next().unwrap_or_default())),
                "known are {version}, {architecture} and {musl}",
            ));
        }
    }
    Ok(())
}
