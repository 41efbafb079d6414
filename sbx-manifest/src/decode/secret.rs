//! `secret`.

use super::{Decoder, value::quoted};
use crate::{
    model::{Placement, Secret, SecretSource},
    span::{Span, Spanned},
    tree::{Node, Value},
    types::{HostPattern, Refusal, environment_name, header_name, normal_path, shorten},
};

impl Decoder<'_> {
    pub(super) fn secret(&mut self, node: &Node) -> Option<Secret> {
        let host = self.secret_host(node);
        let placement = self.placement(node);
        let from = node.property("from").and_then(|value| self.secret_source(value));
        let name = self.checked_argument(node, environment_name)?;
        Some(Secret { span: node.header, name, host: host?, placement: placement?, from })
    }

    fn secret_host(&mut self, node: &Node) -> Option<Spanned<String>> {
        let Some(value) = node.property("host") else {
            let line = format!("{} host=\"api.example.com\"", self.source.slice(node.header));
            let fault = self
                .fault("manifest::missing", node.header, "a secret needs the host that gets it", "no `host`")
                .with_help(line);
            self.report(fault);
            return None;
        };
        let text = self.string(value)?;
        match HostPattern::read(&text.value) {
            Ok(written) => {
                let better = written.better;
                if let HostPattern::Exact(name) = written.pattern {
                    if let Some(better) = better {
                        let fault = self.fault("manifest::host", text.span, better.message, better.label);
                        self.report(fault.with_help(format!("host={}", quoted(&name))).into_warning());
                    }
                    return Some(Spanned::new(name, text.span));
                }
                let fault = self
                    .fault(
                        "manifest::host",
                        text.span,
                        "a secret goes to one host, known by its name",
                        "more than one host, or an address",
                    )
                    .with_help("write one `secret` for each host: host=\"api.example.com\"");
                self.report(fault);
            }
            Err(refusal) => {
                let fault =
                    self.fault("manifest::host", text.span, "`host` takes the name of a host", refusal.label);
                self.report(match refusal.instead {
                    Some(host) => fault.with_help(format!("host={}", quoted(&host))),
                    None => fault.with_help("host=\"api.example.com\""),
                });
            }
        }
        None
    }

    fn placement(&mut self, node: &Node) -> Option<Placement> {
        let header =
            node.property("header").map(|value| (value.span, self.checked(value, "header=", header_name)));
        let bearer = node.property("bearer").map(|value| (value.span, self.boolean(value, "bearer=")));
        match (header, bearer) {
            (Some((header, _)), Some((bearer, Some(value)))) if value.value => {
                let fault = self
                    .fault(
                        "manifest::conflict",
                        bearer,
                        "a secret goes into one place",
                        "this is Authorization: Bearer …",
                    )
                    .and_at(header, "and this another header")
                    .with_help("keep one of them");
                self.report(fault);
                None
            }
            (Some((_, header)), _) => header.map(|header| Placement::Header(header.value)),
            (None, Some((_, Some(bearer)))) if bearer.value => Some(Placement::Bearer),
            (None, Some((_, None))) => None,
            (None, _) => {
                self.no_placement(node);
                None
            }
        }
    }

    fn no_placement(&mut self, node: &Node) {
        let kept: Vec<_> = node
            .properties
            .iter()
            .filter(|property| property.name.value != "bearer")
            .map(|property| format!(" {}", self.source.slice(property.span)))
            .collect();
        let name = node.arguments.first().map_or("\"NAME\"", |value| self.source.slice(value.span));
        let help = format!("secret {name}{} bearer=#true", kept.concat());
        let fault = self
            .fault(
                "manifest::missing",
                node.header,
                "a secret needs a place in the request",
                "neither `header` nor `bearer`",
            )
            .with_help(help);
        self.report(fault);
    }

    fn secret_source(&mut self, value: &Value) -> Option<Spanned<SecretSource>> {
        let text = self.string(value)?;
        match source(&text.value) {
            Ok(source) => {
                self.risky_source(&source, text.span);
                Some(Spanned::new(source, text.span))
            }
            Err(refusal) => {
                self.refuse("manifest::secret", text.span, refusal, |instead| {
                    format!("from={}", quoted(instead))
                });
                None
            }
        }
    }

    /// A file in the repository is in the sandbox, too.
    fn risky_source(&mut self, source: &SecretSource, span: Span) {
        if let SecretSource::File { path } = source
            && !path.starts_with(['/', '~'])
            && !path.starts_with("../")
        {
            let fault = self
                .fault(
                    "manifest::secret",
                    span,
                    "this secret is in the repository, where the sandbox can read it",
                    "relative to the manifest",
                )
                .with_help("from=\"file:~/.config/…\"");
            self.report(fault.into_warning());
        }
    }
}

fn source(text: &str) -> Result<SecretSource, Refusal> {
    let forms = "the forms are env:NAME, file:PATH, command:COMMAND and secret-service:KEY";
    let Some((scheme, rest)) = text.split_once(':') else {
        let refusal = Refusal::new(format!("`{}` is no source of a secret", shorten(text)), forms);
        return Err(if environment_name(text).is_ok() {
            refusal.instead(format!("env:{text}"))
        } else if text.starts_with(['/', '~', '.']) {
            refusal.instead(format!("file:{text}"))
        } else {
            refusal.advice("for example from=\"env:GH_TOKEN\" or from=\"command:gh auth token\"")
        });
    };
    if rest.trim().is_empty() {
        return Err(Refusal::new(format!("nothing comes after `{}:`", shorten(scheme)), forms));
    }
    match scheme {
        "env" => match environment_name(rest) {
            Ok(()) => Ok(SecretSource::Environment { variable: rest.to_owned() }),
            Err(mut refusal) => {
                refusal.instead = refusal.instead.map(|name| format!("env:{name}"));
                Err(refusal)
            }
        },
        "file" => match normal_path(rest) {
            Ok(()) => Ok(SecretSource::File { path: rest.to_owned() }),
            Err(mut refusal) => {
                refusal.instead = refusal.instead.map(|path| format!("file:{path}"));
                Err(refusal)
            }
        },
        "command" => Ok(SecretSource::Command { command: rest.to_owned() }),
        "secret-service" => Ok(SecretSource::SecretService { key: rest.to_owned() }),
        other => {
            let refusal = Refusal::new(format!("`{}:` is no source of a secret", shorten(other)), forms);
            let known = ["env", "file", "command", "secret-service"];
            Err(match super::structure::closest(other, known.into_iter()) {
                Some(close) => refusal.instead(format!("{close}:{rest}")),
                None => match other {
                    "cmd" | "exec" | "sh" => refusal.instead(format!("command:{rest}")),
                    "keyring" => refusal.instead(format!("secret-service:{rest}")),
                    _ => refusal,
                },
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        for text in
            ["env:GH_TOKEN", "file:~/.token", "command:gh auth token", "secret-service:github", "command:a:b"]
        {
            assert_eq!(source(text).map(|source| source.to_string()), Ok(text.to_owned()));
        }
        for (text, instead) in [
            ("GH_TOKEN", Some("env:GH_TOKEN")),
            ("~/.token", Some("file:~/.token")),
            ("cmd:gh auth token", Some("command:gh auth token")),
            ("enviroment:X", Some("env:X")),
            ("env:A-B", Some("env:A_B")),
            ("file:", None),
            ("command: ", None),
            ("vault:x", None),
        ] {
            assert_eq!(source(text).unwrap_err().instead.as_deref(), instead, "{text}");
        }
    }
}
