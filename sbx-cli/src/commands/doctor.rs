//! `sbx doctor`.

use std::{fs, io};

use sbx_vmm::{
    cage::{self, CageReport, Enforced, LANDLOCK_VERSION},
    engine::{self, KvmProbe, qemu},
    seccomp::Violation,
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
    let probe = engine::probe();
    let mut findings = vec![kvm(&probe), qemu(&probe), kernel(context)];
    findings.extend(cage(environment::violation()?));
    findings.push(store(context));
    if args.json {
        context.ui.json(&findings);
    } else {
        for finding in &findings {
            let mark = match finding.verdict {
                Verdict::Good => "ok",
                Verdict::Poor => "poor",
                Verdict::Missing => "MISSING",
            };
            context.ui.data(format_args!("{:10} {mark:8} {}", finding.name, printable(&finding.text)));
            if let Some(fix) = &finding.fix {
                context.ui.data(format_args!("{:19} fix: {fix}", ""));
            }
        }
    }
    let missing = findings.iter().any(|finding| finding.verdict == Verdict::Missing);
    Ok(if missing { Outcome::No } else { Outcome::Done })
}

fn kvm(probe: &KvmProbe) -> Finding {
    let advice = probe.advice().map(|advice| printable(&advice));
    let finding = match probe {
        KvmProbe::Hardware { .. } if engine::is_nested() => {
            Finding::good("kvm", format!("{probe}, nested: this is a virtual machine itself"))
        }
        KvmProbe::Hardware { .. } => Finding::good("kvm", probe.to_string()),
        _ => Finding::poor("kvm", format!("{probe}; sandboxes run in software emulation"), advice),
    };
    Finding { probe: Some(probe.clone()), ..finding }
}

fn qemu(probe: &KvmProbe) -> Finding {
    const FIX: &str = "sudo apt install qemu-system-x86";
    // With a good KVM, sandboxes do not need it.
    let needed = !matches!(probe, KvmProbe::Hardware { .. });
    let lacking = |text: String| {
        if needed {
            Finding::missing("qemu", text, FIX)
        } else {
            Finding::good("qemu", format!("{text}; not needed here"))
        }
    };
    let program = environment::path(environment::SBX_QEMU);
    match qemu::inspect(program.as_deref()) {
        Err(error) => lacking(error.to_string()),
        Ok(facts) => {
            let text = format!("{} {}", facts.program.display(), facts.version);
            if !facts.recent {
                return lacking(format!("{text} is too old"));
            }
            if !facts.missing.is_empty() {
                return lacking(format!("{text} lacks {}", facts.missing.join(", ")));
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

/// What of the cage around a sandbox's process this kernel enforces.
fn cage(violation: Violation) -> Vec<Finding> {
    match cage::survey(violation) {
        Ok(report) => vec![landlock(&report), privileges(&report), seccomp(&report)],
        Err(error) => vec![Finding::poor("landlock", error.to_string(), None)],
    }
}

fn landlock(report: &CageReport) -> Finding {
    let version = report.landlock_version;
    match report.landlock {
        Enforced::Fully => {
            Finding::good("landlock", format!("version {version}: sandboxes open their own files only"))
        }
        Enforced::Partly => Finding::poor(
            "landlock",
            format!(
                "version {version} of {LANDLOCK_VERSION}: sandboxes open their own files only; newer rules are not enforced"
            ),
            Some("a newer kernel".to_owned()),
        ),
        Enforced::Not => Finding::poor(
            "landlock",
            "off: the sandbox process itself is not confined, the virtual machine still is",
            Some("a kernel with CONFIG_SECURITY_LANDLOCK, and `landlock` in lsm=".to_owned()),
        ),
    }
}

fn privileges(report: &CageReport) -> Finding {
    const NAME: &str = "privileges";
    if report.no_new_privileges {
        Finding::good(
            NAME,
            "none can be gained: no program gives a sandbox's process more rights than you have",
        )
    } else {
        Finding::poor(NAME, "the kernel did not take no_new_privs: set-user-id programs work as ever", None)
    }
}

fn seccomp(report: &CageReport) -> Finding {
    const NAME: &str = "seccomp";
    match report.system_calls {
        Some(Violation::Kill) => Finding::good(
            NAME,
            "each thread of a sandbox's process makes the system calls that it needs; one that tries another ends it",
        ),
        Some(Violation::Log) => Finding::poor(
            NAME,
            format!("{} is set: system calls are logged, not limited", environment::SBX_SECCOMP),
            Some(format!("unset {}", environment::SBX_SECCOMP)),
        ),
        None => Finding::missing(
            NAME,
            "system calls cannot be filtered, and sandboxes do not start without",
            "a kernel from 4.14 on with CONFIG_SECCOMP_FILTER; in a container, a profile that allows seccomp(2)",
        ),
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
