//! The user's own configuration: `config.kdl`, and the variables that go before it.
//!
//! ```kdl
//! mirror "docker.io" "http://127.0.0.1:5000"   // tried before the registry itself; may be given more than once
//! ca-file "/etc/ssl/company.pem"               // trusted in addition to the system's
//! ```
//!
//! A repository cannot write this file, which is why mirrors are here and not in `sandbox.kdl`.

use std::{fs, io, path::PathBuf, sync::Arc};

use kdl::{KdlDocument, KdlNode};
use miette::{Diagnostic, NamedSource, SourceSpan};

use crate::{
    environment,
    error::{CommandError, Result},
    paths::Paths,
    ui::Ui,
};

/// A person writes this file; more than this is an accident.
const MAX_BYTES: u64 = 64 * 1024;

/// The user's configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Config {
    /// Registry and the address of a mirror of it, in the order in which they are tried.
    pub(crate) mirrors: Vec<(String, String)>,
    /// PEM files with certificates of authorities.
    pub(crate) ca_files: Vec<PathBuf>,
}

/// What is wrong with the configuration, and where.
#[derive(Clone, Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
#[diagnostic(help("{help}"))]
struct ConfigFault {
    message: String,
    help: String,
    #[source_code]
    source_code: Arc<NamedSource<String>>,
    #[label("here")]
    span: SourceSpan,
}

impl Config {
    /// Reads the configuration; none is an empty one.
    ///
    /// # Errors
    /// If the file is there but cannot be understood; its faults are printed.
    pub(crate) fn load(ui: &Ui, paths: &Paths) -> Result<Self> {
        let mut config = Self::default();
        if let Some(mirrors) = environment::value(environment::SBX_MIRRORS) {
            config.mirrors = parse_mirrors(&mirrors.to_string_lossy())?;
        }
        let unreadable = |error: io::Error| {
            CommandError::usage(format!("cannot read {}", paths.display(&paths.config))).with_source(error)
        };
        let text = match fs::metadata(&paths.config) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(config),
            Err(error) => return Err(unreadable(error)),
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                return Err(unreadable(io::Error::other(format!("larger than {MAX_BYTES} bytes"))));
            }
            Ok(_) => fs::read_to_string(&paths.config).map_err(unreadable)?,
        };
        let name = paths.display(&paths.config);
        config.add(&name, &text).map_err(|fault| {
            ui.diagnostic(&*fault);
            CommandError::reported()
        })?;
        Ok(config)
    }

    fn add(&mut self, name: &str, text: &str) -> std::result::Result<(), Box<ConfigFault>> {
        let source_code = Arc::new(NamedSource::new(name, text.to_owned()));
        let fault = |span: SourceSpan, message: String, help: &str| {
            Box::new(ConfigFault {
                message,
                help: help.to_owned(),
                source_code: Arc::clone(&source_code),
                span,
            })
        };
        let document = KdlDocument::parse_v2(text).map_err(|error| {
            let first = error.diagnostics.first();
            let message = first.and_then(|fault| fault.message.clone());
            fault(
                first.map_or_else(|| (0, 0).into(), |fault| fault.span),
                message.unwrap_or_else(|| "this is not KDL".to_owned()),
                "for example: mirror \"docker.io\" \"http://127.0.0.1:5000\"",
            )
        })?;
        for node in document.nodes() {
            let values = strings(node);
            match (node.name().value(), values.as_deref()) {
                ("mirror", Some([registry, address])) => {
                    self.mirrors.push((registry.clone(), address.clone()));
                }
                ("mirror", _) => {
                    return Err(fault(
                        node.span(),
                        "`mirror` takes a registry and an address".to_owned(),
                        "mirror \"docker.io\" \"http://127.0.0.1:5000\"",
                    ));
                }
                ("ca-file", Some([path])) => self.ca_files.push(PathBuf::from(path)),
                ("ca-file", _) => {
                    return Err(fault(
                        node.span(),
                        "`ca-file` takes a path".to_owned(),
                        "ca-file \"/etc/ssl/company.pem\"",
                    ));
                }
                (other, _) => {
                    return Err(fault(
                        node.span(),
                        format!("`{other}` is not a setting"),
                        "the settings are `mirror` and `ca-file`",
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The arguments of `node`, if all its entries are plain strings.
fn strings(node: &KdlNode) -> Option<Vec<String>> {
    if node.children().is_some() {
        return None;
    }
    node.entries()
        .iter()
        .map(|entry| if entry.name().is_none() { entry.value().as_string().map(str::to_owned) } else { None })
        .collect()
}

fn parse_mirrors(text: &str) -> Result<Vec<(String, String)>> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (registry, address) = pair.split_once('=').ok_or_else(|| {
                CommandError::usage(format!("SBX_MIRRORS: `{pair}` is not REGISTRY=ADDRESS"))
                    .with_hint("SBX_MIRRORS=docker.io=http://127.0.0.1:5000")
            })?;
            Ok((registry.trim().to_owned(), address.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_and_authorities_are_read() {
        let mut config = Config::default();
        config
            .add("config.kdl", "mirror \"docker.io\" \"http://127.0.0.1:5000\"\nca-file \"/a.pem\"")
            .unwrap();
        assert_eq!(config.mirrors, [("docker.io".to_owned(), "http://127.0.0.1:5000".to_owned())]);
        assert_eq!(config.ca_files, [PathBuf::from("/a.pem")]);
    }

    #[test]
    fn faults_have_a_place() {
        for (text, message, offset) in [
            ("mirror \"docker.io\"", "`mirror` takes a registry and an address", 0),
            ("\n\nmirorr 1", "`mirorr` is not a setting", 2),
            ("ca-file file=\"x\"", "`ca-file` takes a path", 0),
        ] {
            let fault = Config::default().add("config.kdl", text).unwrap_err();
            assert_eq!((fault.message.as_str(), fault.span.offset()), (message, offset));
        }
    }

    #[test]
    fn the_variable_is_a_list() {
        assert_eq!(
            parse_mirrors("docker.io=http://127.0.0.1:1, ghcr.io=https://m.example").unwrap(),
            [
                ("docker.io".to_owned(), "http://127.0.0.1:1".to_owned()),
                ("ghcr.io".to_owned(), "https://m.example".to_owned())
            ]
        );
        assert!(parse_mirrors("docker.io").is_err());
    }
}
