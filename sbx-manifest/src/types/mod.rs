//! The small languages inside a manifest's strings. Each is a pure function from text to a value or a [`Refusal`].

mod duration;
mod host;
mod image;
mod name;
mod package;
mod path;
mod port;
mod size;

pub use host::{HostPattern, NotAHost};
pub use image::{NotARepository, Repository};
pub use port::{NotAPort, PortRange, Protocol};

pub(crate) use duration::seconds;
pub(crate) use image::{check_image, check_platform, check_repository};
pub(crate) use name::{environment_name, header_name, is_obeyed, sandbox_name, shorten};
pub(crate) use package::{check_package, is_name, is_version, package_name};
pub(crate) use path::{absolute_path, normal_path, workspace_path};
pub(crate) use size::{bytes, display_bytes};

/// Why a text is not what it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    /// One sentence without a full stop.
    pub(crate) message: String,
    /// What is at the place.
    pub(crate) label: String,
    /// What to write instead of the text, alone, if that is known.
    pub(crate) instead: Option<String>,
    /// What to do, where there is no text to write instead.
    pub(crate) advice: Option<String>,
}

impl Refusal {
    pub(crate) fn new(message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { message: message.into(), label: label.into(), instead: None, advice: None }
    }

    pub(crate) fn instead(mut self, text: impl Into<String>) -> Self {
        self.instead = Some(text.into());
        self
    }

    pub(crate) fn advice(mut self, text: impl Into<String>) -> Self {
        self.advice = Some(text.into());
        self
    }
}
