//! `sbx doctor`.

use std::{fs, io};

use sbx_vmm::{
    cage::{self, Enforced},
    engine::{self, KvmProbe, qemu},
};
use serde::Serialize;

use crate::{
    artifacts,
    context::Context,
    environment,
    error::{Outcome, Result},
    ui::printable,
};

/// Say what this machine has for sandboxes, what it lacks, and how to mend that
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    text: String,
    fix: Option<String>,
    /// What the probe of KVM measured, for programs.
    #[serde(flatten)]
    probe: Option<KvmProbe>,
}

/// What it means for the user.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// It works, but not as well as it could.
    Poor,
    /// `sbx up` cannot work.
    Missing,
}

impl Finding {
    fn good(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Good, text: text.into(), fix: None, probe: None }
    }

    fn poor(name: &'static str, text: impl Into<String>, fix: Option<String>) -> Self {
        Self { name, verdict: Verdict::Poor, text: text.into(), fix, probe: None }
    }

    fn missing(name: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Missing, text: text.into(), fix: Some(fix.into()), probe: None }
    }
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let findings = [kvm(), qemu(), kernel(context), landlock(), store(context)];
    if args.json {
        context.ui.json(&findings);
    } else {
        for finding in &findings {
            let mark = match finding.verdict {
                Verdict::Good => "ok",
                Verdict::Poor => "slower",
                Verdict::Missing => "MISSING",
            };
            context.ui.data(format_args!("{:9} {mark:8} {}", finding.name, printable(&finding.text)));
            if let Some(fix) = &finding.fix {
                context.ui.data(format_args!("{:18} fix: {fix}", ""));
            }
        }
    }
    let missing = findings.iter().any(|finding| finding.verdict == Verdict::Missing);
    Ok(if missing { Outcome::No } else { Outcome::Done })
}

fn kvm() -> Finding {
    let probe = engine::probe();
    let text = probe.to_string();
    let finding = match &probe {
        KvmProbe::Hardware { .. } => Finding::good("kvm", text),
        KvmProbe::NoPermission { group } => Finding::poor(
            "kvm",
            text,
            Some(format!("sudo usermod --append --groups {} $USER, then log in again", printable(group))),
        ),
        KvmProbe::Missing => Finding::poor(
            "kvm",
            text,
            Some(
                "sudo modprobe kvm_intel (or kvm_amd); in a virtual machine, switch nested virtualization on"
                    .to_owned(),
            ),
        ),
        KvmProbe::Emulated { .. } | KvmProbe::Failed { .. } => {
            Finding::poor("kvm", format!("{text}; sandboxes run in software emulation"), None)
        }
    };
    Finding { probe: Some(probe), ..finding }
}

fn qemu() -> Finding {
    const FIX: &str = "sudo apt install qemu-system-x86";
    let program = environment::path(environment::SBX_QEMU);
    match qemu::inspect(program.as_deref()) {
        Err(error) => Finding::missing("qemu", error.to_string(), FIX),
        Ok(facts) => {
            let text = format!("{} {}", facts.program.display(), facts.version);
            if !facts.recent {
                return Finding::missing("qemu", format!("{text} is too old"), FIX);
            }
            if !facts.missing.is_empty() {
                return Finding::missing("qemu", format!("{text} lacks {}", facts.missing.join(", ")), FIX);
            }
            Finding::good("qemu", text)
        }
    }
}

fn kernel(context: &Context) -> Finding {
    match artifacts::kernel(&context.paths) {
        Ok(path) => Finding::good("kernel", context.paths.display(&path)),
        Err(error) => Finding::missing("kernel", error.chain().join(": "), error.hints().join("; ")),
    }
}

fn landlock() -> Finding {
    match cage::survey() {
        Ok(report) => {
            let version = report.landlock_version;
            match report.landlock {
                Enforced::Fully => Finding::good(
                    "landlock",
                    format!("version {version}: sandboxes open their own files only"),
                ),
                Enforced::Partly => Finding::poor(
                    "landlock",
                    format!("version {version}: some of the rules around sandboxes are not enforced"),
                    Some("a newer kernel".to_owned()),
                ),
                Enforced::Not => Finding::poor(
                    "landlock",
                    "off: the sandbox process itself is not confined, the virtual machine still is",
                    Some("a kernel with CONFIG_SECURITY_LANDLOCK, and `landlock` in lsm=".to_owned()),
                ),
            }
        }
        Err(error) => Finding::poor("landlock", error.to_string(), None),
    }
}

fn store(context: &Context) -> Finding {
    let home = &context.paths.home;
    let attempt = || -> io::Result<()> {
        fs::create_dir_all(home)?;
        tempfile::tempfile_in(home).map(drop)
    };
    match attempt() {
        Ok(()) => Finding::good("store", context.paths.display(home)),
        Err(error) => Finding::missing(
            "store",
            format!("{} cannot be written: {error}", context.paths.display(home)),
            "set SBX_HOME to a directory of yours",
        ),
    }
}
