//! Where things are on the host.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::{
    environment,
    error::{CommandError, Result},
};

/// The directories that sbx owns.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// `$SBX_HOME`, absolute.
    pub(crate) home: PathBuf,
    /// The user's configuration file, which need not exist.
    pub(crate) config: PathBuf,
    /// The user's home directory.
    pub(crate) user_home: PathBuf,
}

impl Paths {
    /// From the environment.
    ///
    /// # Errors
    /// If there is neither a home directory nor the variables that stand in for it.
    pub(crate) fn from_environment() -> Result<Self> {
        let strategy = etcetera::choose_base_strategy().map_err(|error| {
            CommandError::failed("cannot find your home directory")
                .with_source(error)
                .with_hint("set HOME, or SBX_HOME and SBX_CONFIG")
        })?;
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        Ok(Self {
            home: absolute(
                environment::path(environment::SBX_HOME).unwrap_or_else(|| strategy.data_dir().join("sbx")),
            ),
            config: absolute(
                environment::path(environment::SBX_CONFIG)
                    .unwrap_or_else(|| strategy.config_dir().join("sbx/config.kdl")),
            ),
            user_home: strategy.home_dir().to_path_buf(),
        })
    }

    /// The user's own agents, one file for each, beside the configuration.
    pub(crate) fn agents(&self) -> PathBuf {
        self.config.with_file_name("agents")
    }

    /// One directory per sandbox.
    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.home.join("sandboxes")
    }

    /// Approvals, keyed by what was approved.
    pub(crate) fn trust(&self) -> PathBuf {
        self.home.join("trust")
    }

    /// Guest kernels, `<key>/vmlinux`.
    pub(crate) fn kernels(&self) -> PathBuf {
        self.home.join("kernels")
    }

    /// Initramfs images that this program carries, written out once.
    pub(crate) fn guests(&self) -> PathBuf {
        self.home.join("guests")
    }

    /// `path` with the home directory written as `~`, for people.
    pub(crate) fn display(&self, path: &Path) -> String {
        match path.strip_prefix(&self.user_home) {
            Ok(rest) if self.user_home.as_os_str().len() > 1 => format!("~/{}", rest.display()),
            _ => path.display().to_string(),
        }
    }
}
