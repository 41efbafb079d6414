//! What the manifest asks a package manager for.

use std::{fmt, str::FromStr};

use crate::{
    model::PackageManager,
    types::{Refusal, check_package, shorten},
};

/// A package that the manifest asks for. Displays and reads as users say it: `apt:git`, `npm:typescript@5`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Request {
    /// Of whom.
    pub manager: PackageManager,
    /// As the manifest writes it, with a version if there is one.
    pub name: String,
}

impl Request {
    /// The name without version, extras and the like.
    #[must_use]
    pub fn package(&self) -> &str {
        self.manager.package_name(&self.name)
    }

    /// Whether `other` asks for the same package, perhaps in another version.
    #[must_use]
    pub fn is_about(&self, other: &Self) -> bool {
        self.manager == other.manager && self.package() == other.package()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.manager.as_str(), self.name)
    }
}

/// Why a text is no [`Request`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {}", .0.message, .0.label)]
pub struct NotAPackage(Refusal);

impl NotAPackage {
    /// What was meant, in the form that is read, or else what to do.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.instead.as_deref().or(self.0.advice.as_deref())
    }
}

impl FromStr for Request {
    type Err = NotAPackage;

    fn from_str(text: &str) -> Result<Self, NotAPackage> {
        let known = || PackageManager::ALL.map(PackageManager::as_str).join(", ");
        let Some((word, name)) = text.split_once(':') else {
            let refusal = Refusal::new(format!("`{}` names no package manager", shorten(text)), "no `:`");
            return Err(NotAPackage(refusal.advice(format!("MANAGER:NAME, with one of {}", known()))));
        };
        let Some(manager) = PackageManager::named(word) else {
            let refusal =
                Refusal::new(format!("sbx cannot pin packages of `{}`", shorten(word)), "not known");
            return Err(NotAPackage(refusal.advice(format!("one of {}", known()))));
        };
        check_package(manager, name).map_err(|mut refusal| {
            refusal.instead = refusal.instead.map(|instead| format!("{word}:{instead}"));
            NotAPackage(refusal)
        })?;
        Ok(Self { manager, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_shown() {
        for text in [
            "apt:git",
            "npm:@types/node@^20",
            "cargo:just@1",
            "apt:libc6:i386",
            "apk:cmd:sh",
            "dnf:gcc-c++=14.2.1",
        ] {
            assert_eq!(text.parse::<Request>().unwrap().to_string(), text);
        }
        for (text, message, advice) in [
            (
                "git",
                "`git` names no package manager: no `:`",
                "MANAGER:NAME, with one of apt, apk, dnf, npm, pip, cargo",
            ),
            (
                "zypper:git",
                "sbx cannot pin packages of `zypper`: not known",
                "one of apt, apk, dnf, npm, pip, cargo",
            ),
            (
                "npm:x=5",
                "`x=5` cannot be a package: npm has NAME, @SCOPE/NAME, and each with @VERSION",
                "npm:x@5",
            ),
        ] {
            let error = text.parse::<Request>().unwrap_err();
            assert_eq!((error.to_string().as_str(), error.advice()), (message, Some(advice)));
        }
    }
}
