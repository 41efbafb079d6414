//! A place of its own for every test: home, store, workspace, and a user to run as.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::{ImageBuilder, Lan, Outcome};

/// The unprivileged user that tests run as when the suite runs as root (`nobody`, in every Debian).
const NOBODY: u32 = 65534;

/// A hermetic environment. Dropped, it stops and removes every sandbox that the test made.
#[derive(Debug)]
pub struct Environment {
    directory: TempDir,
    mirror: Option<String>,
    kernel: Option<OsString>,
    engine: Option<OsString>,
    lan: Option<Lan>,
    drop_privileges: bool,
    elsewhere: bool,
}

impl Default for Environment {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment {
    /// An environment with an empty store and an empty repository, for the user who runs the tests.
    ///
    /// # Panics
    /// If the disk does not take it.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("sbx-test-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["home", "sbx", "repo", "images"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let [kernel, engine] = ["SBX_TEST_KERNEL", "SBX_TEST_ENGINE"].map(std::env::var_os);
        Self { directory, mirror: None, kernel, engine, lan: None, drop_privileges: false, elsewhere: false }
    }

    /// The same for a user without any privilege; what the tests run as already if that is not root.
    ///
    /// # Panics
    /// If the files cannot be given to that user.
    #[must_use]
    pub fn unprivileged() -> Self {
        let mut environment = Self::new();
        if rustix::process::geteuid().is_root() {
            environment.drop_privileges = true;
            for name in ["home", "sbx", "repo", "images"] {
                environment.give_to_user(&environment.directory.path().join(name));
            }
        }
        environment
    }

    /// On what looks like another computer of another user: its own name, language, time zone and umask, and, where the tests
    /// run as root, somebody without privileges.
    ///
    /// # Panics
    /// If the files cannot be given to that user.
    #[must_use]
    pub fn elsewhere() -> Self {
        let mut environment = Self::unprivileged();
        environment.elsewhere = true;
        environment
    }

    /// With the suite's registry as a mirror of docker.io.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn with_registry(mut self) -> Self {
        self.mirror = Some(format!("docker.io=http://{}", registry()));
        self
    }

    /// With the files that earlier runs of the suite have downloaded. They are kept by their hashes and hashed before they are
    /// used, so that several environments can share them, and a damaged one is downloaded again.
    ///
    /// # Panics
    /// If `cargo xtask test` did not say where they are.
    #[must_use]
    pub fn with_shared_downloads(self) -> Self {
        let shared = std::env::var_os("SBX_TEST_DOWNLOADS")
            .expect("SBX_TEST_DOWNLOADS is not set; run the tests with `cargo xtask test`");
        symlink(shared, self.home().join("downloads")).unwrap();
        self
    }

    /// On QEMU, for what is about QEMU's process.
    #[must_use]
    pub fn on_qemu(mut self) -> Self {
        self.engine = Some("qemu".into());
        self
    }

    /// With `lan` as the host's network.
    #[must_use]
    pub fn on_lan(mut self, lan: &Lan) -> Self {
        self.lan = Some(lan.clone());
        self
    }

    /// With a kernel that boots on this computer's KVM: the suite's own kernel on the hardware, its variant on a KVM that
    /// emulates. Nothing where no guest can run on KVM.
    ///
    /// # Panics
    /// If KVM emulates and `cargo xtask test` did not prepare the kernel for that.
    #[must_use]
    pub fn on_kvm(mut self) -> Option<Self> {
        match self.kvm().as_str() {
            "hardware" => Some(self),
            "emulated" => {
                let variant = std::env::var_os("SBX_TEST_KERNEL_EMULATED_KVM");
                self.kernel = Some(variant.expect(
                    "SBX_TEST_KERNEL_EMULATED_KVM is not set; run the tests with `cargo xtask test`",
                ));
                Some(self)
            }
            _ => None,
        }
    }

    /// With a `sandbox.kdl` for a small busybox image, small enough for many machines side by side.
    ///
    /// # Panics
    /// If the disk does not take it.
    #[must_use]
    pub fn with_busybox(self) -> Self {
        let image = self.image("busybox", ImageBuilder::busybox());
        self.manifest(&format!(
            "agent \"shell\"\nimage \"{image}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n"
        ))
    }

    /// The same with a `network` node: its default and what is between its braces.
    ///
    /// # Panics
    /// If the disk does not take it.
    #[must_use]
    pub fn with_network(self, default: &str, rules: &str) -> Self {
        let env = self.with_busybox();
        let manifest = format!("{}network \"{default}\" {{\n{rules}\n}}\n", env.read("sandbox.kdl"));
        env.manifest(&manifest)
    }

    /// With a `sandbox.kdl` for the suite's Debian image.
    ///
    /// # Panics
    /// If the disk does not take it.
    #[must_use]
    pub fn with_debian(self) -> Self {
        self.with_registry().manifest(
            "agent \"shell\"\nimage \"docker.io/library/debian:bookworm-slim\"\nresources cpus=2 memory=\"1GiB\" disk=\"4GiB\"\n",
        )
    }

    /// With a `sandbox.kdl` for the suite's image with the clients of many protocols, and a `network` node as
    /// [`with_network`](Self::with_network) has it.
    ///
    /// # Panics
    /// If the disk does not take it.
    #[must_use]
    pub fn with_clients(mut self, default: &str, rules: &str) -> Self {
        // The registry is beside the tests, where a network of a test's own does not lead.
        let lan = self.lan.take();
        let mut env = self.with_registry();
        env.sbx(&["image", "pull", "docker.io/library/clients:bookworm"]).success();
        env.lan = lan;
        env.manifest(&format!(
            "agent \"shell\"\nimage \"docker.io/library/clients:bookworm\"\nresources cpus=2 memory=\"1GiB\" disk=\"4GiB\"\n\
             network \"{default}\" {{\n{rules}\n}}\n",
        ))
    }

    /// With this `sandbox.kdl`.
    ///
    /// # Panics
    /// If the disk does not take it.
    #[must_use]
    pub fn manifest(self, text: &str) -> Self {
        self.write("sandbox.kdl", text);
        self
    }

    /// With everything approved that the manifest wants now.
    ///
    /// # Panics
    /// If it cannot be.
    #[must_use]
    pub fn approved(self) -> Self {
        self.sbx(&["trust", "--yes"]).success();
        self
    }

    /// Writes an image into the environment and returns how a manifest names it.
    pub fn image(&self, name: &str, image: ImageBuilder) -> String {
        let directory = self.directory.path().join("images").join(name);
        let source = image.write(&directory);
        self.give_tree(&directory);
        source
    }

    /// The repository.
    #[must_use]
    pub fn repo(&self) -> PathBuf {
        self.directory.path().join("repo")
    }

    /// `$SBX_HOME`.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("sbx")
    }

    /// A directory outside the repository.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The directory of the only sandbox there is.
    ///
    /// # Panics
    /// If there is none, or more than one.
    #[must_use]
    pub fn sandbox(&self) -> PathBuf {
        let mut all = fs::read_dir(self.home().join("sandboxes")).unwrap();
        let first = all.next().unwrap().unwrap().path();
        assert!(all.next().is_none(), "more than one sandbox");
        first
    }

    /// Writes a file in the repository, owned by the user of the environment.
    ///
    /// # Panics
    /// If the disk does not take it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.repo().join(name);
        let parent = path.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        fs::write(&path, content).unwrap();
        for made in path.ancestors().take_while(|made| *made != self.repo()) {
            self.give_to_user(made);
        }
    }

    /// Reads a file in the repository.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        let path = self.repo().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The program with `arguments`, in the repository, ready to be started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if self.elsewhere {
            if rustix::process::geteuid().is_root() {
                words.extend(["unshare", "--uts"].map(Into::into));
            }
            let script = "echo elsewhere > /proc/sys/kernel/hostname; umask 077; exec \"$@\"";
            words.extend(["sh", "-c", script, "sh"].map(Into::into));
        }
        if self.drop_privileges {
            let identity = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
            words.push("setpriv".into());
            words.extend(identity.map(Into::into));
            words.extend(["--clear-groups", "--no-new-privs", "--"].map(Into::into));
        }
        words.push(self.program().into());
        let mut command = match &self.lan {
            Some(lan) => {
                let mut command = lan.enter(&self.repo());
                command.args(words);
                command
            }
            None => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            }
        };
        command
            .args(arguments)
            .current_dir(self.repo())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.outside())
            .env("SBX_HOME", self.home())
            .stdin(Stdio::null());
        if self.elsewhere {
            command.env("TZ", "Pacific/Kiritimati").env("LANG", "tr_TR.UTF-8").env("LC_ALL", "tr_TR.UTF-8");
        }
        if let Some(kernel) = &self.kernel {
            command.env("SBX_KERNEL", self.readable(Path::new(kernel), "vmlinux"));
        }
        if let Some(engine) = &self.engine {
            command.env("SBX_ENGINE", engine);
        }
        if let Some(mirror) = &self.mirror {
            command.env("SBX_MIRRORS", mirror);
        }
        command
    }

    /// Runs the program with `arguments` in the repository.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use = "look at what happened"]
    pub fn sbx(&self, arguments: &[&str]) -> Outcome {
        self.run(self.command(arguments), arguments)
    }

    /// Runs the program with `arguments`, and `input` as its standard input.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use = "look at what happened"]
    pub fn sbx_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        use std::io::Write;
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output: Output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A program that stops reading is what some tests are about.
                let _ = stdin.write_all(input);
            });
            child.wait_with_output().unwrap()
        });
        Outcome::new(arguments.join(" "), output)
    }

    /// What `sbx doctor` says of KVM: `hardware`, `emulated`, `missing`, `no-permission` or `failed`.
    ///
    /// # Panics
    /// If it says nothing.
    #[must_use]
    pub fn kvm(&self) -> String {
        let report = self.sbx(&["doctor", "--json"]).stdout();
        let findings: Vec<serde_json::Value> = serde_json::from_str(&report).unwrap();
        let word = findings.iter().find_map(|finding| finding["kvm"].as_str());
        word.unwrap_or_else(|| panic!("nothing about KVM in {report}")).to_owned()
    }

    /// `sbx up -- sh -c SCRIPT`.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use = "look at what happened"]
    pub fn up(&self, script: &str) -> Outcome {
        self.sbx(&["up", "--", "sh", "-c", script])
    }

    /// `sbx exec -- sh -c SCRIPT`.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use = "look at what happened"]
    pub fn exec(&self, script: &str) -> Outcome {
        self.sbx(&["exec", "--", "sh", "-c", script])
    }

    /// The user id that the program runs under.
    #[must_use]
    pub fn uid(&self) -> u32 {
        if self.drop_privileges { NOBODY } else { rustix::process::geteuid().as_raw() }
    }

    /// Gives `path` to the user of the environment.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn give_to_user(&self, path: &Path) {
        if self.drop_privileges {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// Gives `path` and everything below it to the user of the environment.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn give_tree(&self, path: &Path) {
        self.give_to_user(path);
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.give_tree(&entry.unwrap().path());
            }
        }
    }

    /// Runs a [`command`](Self::command) that was made with these arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use = "look at what happened"]
    pub fn run(&self, mut command: Command, arguments: &[&str]) -> Outcome {
        Outcome::new(arguments.join(" "), command.output().unwrap())
    }

    /// The program under test.
    fn program(&self) -> PathBuf {
        self.readable(&program(), "sbx-program")
    }

    /// `file`, or a copy of it where every user may read it: a checkout and a home may be private.
    fn readable(&self, file: &Path, name: &str) -> PathBuf {
        if !self.drop_privileges {
            return file.to_path_buf();
        }
        let copy = self.directory.path().join(name);
        if !copy.exists() {
            fs::copy(file, &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        }
        copy
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        let Ok(sandboxes) = fs::read_dir(self.home().join("sandboxes")) else { return };
        for sandbox in sandboxes.flatten() {
            if let Some(name) = sandbox.file_name().to_str()
                && !name.starts_with('.')
            {
                let _ = self.command(&["rm", "--force", "--name", name]).output();
            }
        }
    }
}

/// The registry of the suite, as `127.0.0.1:PORT`.
///
/// # Panics
/// If `cargo xtask test` did not start one.
#[must_use]
pub fn registry() -> String {
    std::env::var("SBX_TEST_REGISTRY")
        .expect("SBX_TEST_REGISTRY is not set; run the tests with `cargo xtask test`")
}

/// The program under test: beside the test's own executable, where cargo puts it.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let program = target.join("sbx");
    assert!(program.is_file(), "{} is not built; `cargo build -p sbx-cli` builds it", program.display());
    program
}
