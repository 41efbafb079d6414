//! Changes of a copy as a branch of the host's repository, whose working tree is not touched.
//!
//! What the sandbox committed is kept if it builds on the commit that the copy was made of. The copy's `.git` is the guest's, so no
//! git of the host ever runs with it: loose objects and packs are copied, as data, into a bare repository of our own, packs are
//! indexed anew, and what the branch needs goes from there into the host's objects through `git index-pack --strict`, the door
//! that fetches from strangers go through. The host's own configuration is not read either, but for where its references are.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::File,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{
    Protected,
    git::{Scratch, pipe, plain, run},
};
use crate::{
    context::Context,
    error::{CommandError, Result},
    workspace::{
        clone::{
            Change, PrivateCopy,
            objects::Objects,
            record::Entry,
            repository::{self, packs},
        },
        git::{Directories, Repository, index::is_inside},
        tree::{Kind, Tree, copy_contents},
    },
};

/// Loose objects and packs in one directory.
const MAX_ENTRIES: usize = 100_000;

/// What is wanted of the branch.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Keep what the sandbox committed, if that is possible.
    pub(crate) history: bool,
    /// Paths that the sandbox's commits must not have touched.
    pub(crate) without: &'a Protected,
    /// The sandbox's name, for the message of a commit.
    pub(crate) sandbox: String,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Made {
    /// The branch's commit.
    pub(crate) commit: String,
    /// How many of the sandbox's own commits it has.
    pub(crate) kept: usize,
    /// Why it has none, if there were any.
    pub(crate) dropped: Option<String>,
}

/// Makes the branch from `changes`.
///
/// # Errors
/// If there is no repository or no git, if the branch exists, or if git fails.
pub(crate) fn make(
    context: &Context,
    copy: &mut PrivateCopy,
    changes: &[Change],
    wish: &Wish<'_>,
) -> Result<Made> {
    let workspace = copy.about.workspace.clone();
    let Some(Repository { top, directories: Some(directories) }) = Repository::around(&workspace) else {
        return Err(CommandError::usage(format!("{} is in no git repository", workspace.display()))
            .with_hint("`sbx apply` changes the files, `sbx apply --patch FILE` writes a patch"));
    };
    check_name(wish.name, &directories)?;
    let directory = copy.journal().with_file_name("branch.git");
    let objects = directories.common.join("objects");
    let scratch = Scratch::new(directory, copy.about.hash_bytes, &objects)?;
    let prefix = workspace.strip_prefix(&top).unwrap_or_else(|_| Path::new(""));
    let parts = Parts { context, copy, scratch: &scratch, objects: &objects, changes, wish, prefix };
    let (tip, mut dropped) = match own_commits(copy, &scratch, &objects, wish) {
        Ok(tip) => (tip, None),
        Err(error) => (None, Some(error.chain().join(": "))),
    };
    let (commit, kept) = match (parts.build(tip.as_deref()), &tip) {
        // What git does not take from a stranger is made anew from the files.
        (Err(error), Some(_)) => {
            dropped = Some(error.chain().join(": "));
            parts.build(None)?
        }
        (built, _) => built?,
    };
    set_reference(&directories, wish.name, &commit, copy.about.hash_bytes)?;
    copy.move_base(changes, Some(commit.clone()))?;
    Ok(Made { commit, kept, dropped })
}

/// What a branch is made of.
struct Parts<'a> {
    context: &'a Context,
    copy: &'a PrivateCopy,
    scratch: &'a Scratch,
    objects: &'a Path,
    changes: &'a [Change],
    wish: &'a Wish<'a>,
    /// Where the workspace is in its repository.
    prefix: &'a Path,
}

impl Parts<'_> {
    /// The branch's commit, among the host's objects, and how many commits of the sandbox's it has: on `tip`, or without it on the
    /// commit that the copy was made of.
    fn build(&self, tip: Option<&str>) -> Result<(String, usize)> {
        let base = self.copy.about.commit.as_deref();
        let tree = self.tree(base, tip)?;
        let parent = tip.or(base);
        let commit = match parent {
            Some(parent)
                if self.scratch.line(&["rev-parse", &format!("{parent}^{{tree}}")], &[])? == tree =>
            {
                parent.to_owned()
            }
            _ => self.commit(&tree, parent)?,
        };
        let kept = match (tip, base) {
            (Some(tip), Some(base)) => self
                .scratch
                .line(&["rev-list", "--count", &format!("{base}..{tip}")], &[])?
                .parse()
                .unwrap_or(0),
            _ => 0,
        };
        self.hand_over(&commit, base)?;
        Ok((commit, kept))
    }
    /// The tree of the branch's last commit: that of its parent, with the changed files as they are in the copy.
    fn tree(&self, base: Option<&str>, tip: Option<&str>) -> Result<String> {
        let Self { copy, scratch, changes, prefix, .. } = self;
        match tip.or(base) {
            Some(parent) => scratch.run(&["read-tree", parent], &[])?,
            None => scratch.run(&["read-tree", "--empty"], &[])?,
        };
        let mut files: Vec<(PathBuf, Option<Entry>)> =
            changes.iter().map(|change| (prefix.join(&change.path), change.to)).collect();
        if let (Some(base), Some(tip)) = (base, tip) {
            // What was committed and then changed back is as it was.
            let known: BTreeSet<_> = files.iter().map(|(path, _)| path.clone()).collect();
            let committed =
                scratch.run(&["diff-tree", "-r", "-z", "--no-renames", "--name-only", base, tip], &[])?;
            let committed = committed.split(|byte| *byte == 0).map(|name| Path::new(OsStr::from_bytes(name)));
            let unchanged = committed.filter(|path| is_inside(path) && !known.contains(*path));
            files.extend(unchanged.map(|path| (path.to_path_buf(), copy.base.get(path).copied())));
        }
        let kept: Vec<_> = files.iter().filter_map(|(_, entry)| *entry).collect();
        let mut paths = Vec::new();
        for entry in &kept {
            paths.extend_from_slice(Objects::name(&entry.hash).as_os_str().as_bytes());
            paths.push(b'\n');
        }
        let mut command = scratch.git(&["hash-object", "-w", "--no-filters", "--stdin-paths"]);
        command.current_dir(copy.journal().with_file_name("objects"));
        let names = run(command, &paths)?;
        let names = String::from_utf8_lossy(&names);
        let mut names = names.lines();
        let zeros = "0".repeat(copy.about.hash_bytes * 2);
        let (mut gone, mut coming) = (Vec::new(), Vec::new());
        for (path, entry) in &files {
            let (list, field) = match entry {
                None => (&mut gone, format!("0 {zeros}\t")),
                Some(entry) => {
                    (&mut coming, format!("{} {}\t", entry.mode.octal(), names.next().unwrap_or(&zeros)))
                }
            };
            list.extend_from_slice(field.as_bytes());
            list.extend_from_slice(path.as_os_str().as_bytes());
            list.push(0);
        }
        gone.extend_from_slice(&coming);
        scratch.run(&["update-index", "--replace", "-z", "--index-info"], &gone)?;
        scratch.line(&["write-tree"], &[])
    }

    /// A commit of `tree` on `parent`.
    fn commit(&self, tree: &str, parent: Option<&str>) -> Result<String> {
        let Self { context, scratch, wish, .. } = self;
        let mut arguments = vec!["commit-tree", tree];
        arguments.extend(parent.into_iter().flat_map(|parent| ["-p", parent]));
        // Whose commit it is, is in the user's own configuration.
        let as_user = |arguments: &[&str]| {
            let mut command = scratch.git(arguments);
            command.env_remove("GIT_CONFIG_GLOBAL").env("HOME", &context.paths.user_home);
            command
        };
        let known = run(as_user(&["var", "GIT_COMMITTER_IDENT"]), &[]).is_ok();
        let mut command = as_user(&arguments);
        if !known {
            for variable in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"] {
                command.env(variable, "sbx");
            }
            for variable in ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
                command.env(variable, "sbx@localhost");
            }
        }
        let message = format!("Changes in the sandbox {}\n", wish.sandbox);
        Ok(String::from_utf8_lossy(&run(command, message.as_bytes())?).trim().to_owned())
    }

    /// Puts what `commit` has beyond `base` into the host's objects.
    fn hand_over(&self, commit: &str, base: Option<&str>) -> Result<()> {
        let Self { scratch, objects, .. } = self;
        let mut revisions = format!("{commit}\n");
        if let Some(base) = base {
            revisions.push_str(&format!("^{base}\n"));
        }
        let pack = scratch.git(&["pack-objects", "--quiet", "--revs", "--stdout"]);
        let mut index = scratch.git(&["index-pack", "--stdin", "--strict"]);
        index.env("GIT_OBJECT_DIRECTORY", objects);
        pipe(pack, revisions.as_bytes(), index)
    }
}

fn check_name(name: &str, directories: &Directories) -> Result<()> {
    let mut command = plain();
    command.args(["check-ref-format", "--branch", name]);
    if name.starts_with('-') || run(command, &[]).map_err(no_git)?.trim_ascii() != name.as_bytes() {
        return Err(CommandError::usage(format!("`{name}` cannot be the name of a branch")));
    }
    let mut command = plain();
    command.env("GIT_DIR", &directories.own).args(["rev-parse", "--verify", "--quiet"]);
    command.arg(format!("refs/heads/{name}"));
    if run(command, &[]).is_ok() {
        return Err(CommandError::usage(format!("there is a branch `{name}` already"))
            .with_hint("choose another name, or remove it with `git branch -D`"));
    }
    Ok(())
}

/// A name that git refuses is wrong use; that there is no git is said as it is.
fn no_git(error: CommandError) -> CommandError {
    if error.kind() == crate::error::Kind::Usage {
        return error;
    }
    CommandError::usage("this cannot be the name of a branch").with_source(error.chain().join(": "))
}

/// The sandbox's last commit, with everything that it needs in `scratch`; nothing if it made none.
///
/// # Errors
/// If its commits cannot be kept; why.
fn own_commits(
    copy: &PrivateCopy,
    scratch: &Scratch,
    objects: &Path,
    wish: &Wish<'_>,
) -> Result<Option<String>> {
    let git = Path::new(".git");
    if !copy.about.history || copy.tree.kind(git)? != Some(Kind::Directory) {
        return Ok(None);
    }
    let (Some(base), Some(head)) =
        (copy.about.commit.as_deref(), repository::head((&copy.tree, git), (&copy.tree, git))?)
    else {
        return Ok(None);
    };
    if head == base || head.len() != base.len() {
        return Ok(None);
    }
    if !wish.history {
        return Err(CommandError::usage("only some paths are wanted"));
    }
    import(copy, scratch, objects)?;
    if !scratch.succeeds(&["merge-base", "--is-ancestor", base, &head]) {
        return Err(CommandError::usage("they do not build on the commit that the copy was made of"));
    }
    for path in wish.without.paths() {
        let mut command = scratch.git(&["rev-list", "--max-count=1", &format!("{base}..{head}"), "--"]);
        command.arg(path);
        if !run(command, &[])?.is_empty() {
            return Err(CommandError::usage(format!("they touch {}", path.display())));
        }
    }
    Ok(Some(head))
}

/// Copies the objects that the sandbox made into `scratch`, as data.
fn import(copy: &PrivateCopy, scratch: &Scratch, objects: &Path) -> Result<()> {
    let into = Tree::open(&scratch.objects())?;
    let from = Path::new(".git/objects");
    for (directory, kind) in copy.tree.entries(from, MAX_ENTRIES)? {
        if kind != Kind::Directory || !is_hexadecimal(&directory, 2) {
            continue;
        }
        let inside = from.join(&directory);
        for (name, kind) in copy.tree.entries(&inside, MAX_ENTRIES)? {
            let path = Path::new(&directory).join(&name);
            let digits = copy.about.hash_bytes * 2 - 2;
            if matches!(kind, Kind::File { .. })
                && is_hexadecimal(&name, digits)
                && !objects.join(&path).exists()
            {
                into.make_directories(Path::new(&directory))?;
                copy_object(&copy.tree, &inside.join(&name), &into, &path)?;
            }
        }
    }
    let known = packs(objects);
    let inside = from.join("pack");
    if copy.tree.kind(&inside)? != Some(Kind::Directory) {
        return Ok(());
    }
    into.make_directories(Path::new("pack"))?;
    for (index, (name, kind)) in copy.tree.entries(&inside, MAX_ENTRIES)?.into_iter().enumerate() {
        let is_pack = Path::new(&name).extension() == Some(OsStr::new("pack"));
        if !is_pack || !matches!(kind, Kind::File { .. }) || known.contains(Path::new(&name)) {
            continue;
        }
        // Under a name of ours, and with an index that is made here.
        let path = PathBuf::from(format!("pack/pack-{index:040x}.pack"));
        copy_object(&copy.tree, &inside.join(&name), &into, &path)?;
        let mut command = scratch.git(&["index-pack"]);
        command.arg(scratch.objects().join(&path));
        run(command, &[])?;
    }
    Ok(())
}

fn copy_object(from: &Tree, path: &Path, into: &Tree, to: &Path) -> Result<()> {
    let (source, target): (File, File) = (from.file(path)?, into.new_file(to, 0o400)?);
    copy_contents(&source, &target)
        .map_err(|error| CommandError::failed("cannot copy the sandbox's commits").with_source(error))
}

fn is_hexadecimal(name: &OsStr, digits: usize) -> bool {
    name.len() == digits
        && name.as_bytes().iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

fn set_reference(directories: &Directories, name: &str, commit: &str, hash_bytes: usize) -> Result<()> {
    let mut command = plain();
    command.env("GIT_DIR", &directories.own).args(["update-ref", "-m", "sbx apply"]);
    command.arg(format!("refs/heads/{name}")).arg(commit).arg("0".repeat(hash_bytes * 2));
    run(command, &[]).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::{
        paths::Paths,
        ui::Ui,
        workspace::testing::{Fixture, contents, git, write},
    };

    fn branch(fixture: &Fixture, name: &str, without: &Protected) -> Result<Made> {
        let home = fixture.directory.path().join("elsewhere");
        let paths = Paths { home: home.clone(), config: home.join("config"), user_home: home };
        let context = Context { ui: Ui::new(), paths };
        let mut copy = fixture.copy();
        let changes = copy.changes()?.files;
        make(
            &context,
            &mut copy,
            &changes,
            &Wish { name, history: true, without, sandbox: "demo".to_owned() },
        )
    }

    fn files(fixture: &Fixture, commit: &str) -> String {
        git(&fixture.work(), &["ls-tree", "-r", "--name-only", commit])
    }

    #[test]
    fn the_sandboxs_commits_and_what_it_did_not_commit_become_a_branch() {
        let fixture = Fixture::repository(&[("a", "a\n"), ("b", "b\n"), ("c", "c\n")]);
        // What the user had changed is not the sandbox's.
        write(&fixture.work(), "c", "user\n");
        drop(fixture.copy());
        let (work, tree) = (fixture.work(), fixture.tree());
        write(&tree, "a", "one\n");
        git(&tree, &["commit", "-qm", "one", "a"]);
        write(&tree, "back", "committed, then taken back\n");
        git(&tree, &["add", "back"]);
        git(&tree, &["commit", "-qm", "two", "back"]);
        git(&tree, &["repack", "-qad"]);
        fs::remove_file(tree.join("back")).unwrap();
        write(&tree, "b", "two\n");
        let before =
            (contents(&work), git(&work, &["rev-parse", "HEAD"]), git(&work, &["status", "--porcelain"]));
        let made = branch(&fixture, "agent/one", &Protected::default()).unwrap();
        assert_eq!((made.kept, made.dropped), (2, None));
        let log = git(&work, &["log", "--format=%s", "agent/one"]);
        assert_eq!(log, "Changes in the sandbox demo\ntwo\none\nfirst\n");
        assert_eq!(files(&fixture, "agent/one"), "a\nb\nc\n");
        assert_eq!(git(&work, &["show", "agent/one:b"]), "two\n");
        assert_eq!(git(&work, &["show", "agent/one:c"]), "c\n");
        let after =
            (contents(&work), git(&work, &["rev-parse", "HEAD"]), git(&work, &["status", "--porcelain"]));
        assert_eq!(after, before);
        git(&work, &["fsck", "--strict"]);
        assert!(fixture.changed().is_empty());
        // The next one goes on from there.
        write(&tree, "d", "d\n");
        let made = branch(&fixture, "agent/two", &Protected::default()).unwrap();
        assert_eq!(git(&work, &["rev-parse", "agent/two^"]), git(&work, &["rev-parse", "agent/one"]));
        assert!(made.dropped.is_some_and(|reason| reason.contains("do not build on")));
        let error = branch(&fixture, "agent/two", &Protected::default()).unwrap_err();
        assert!(error.to_string().contains("already"), "{error}");
        for name in ["-x", "a b", "a..b", "@{-1}", ""] {
            assert!(branch(&fixture, name, &Protected::default()).is_err(), "{name}");
        }
    }

    #[test]
    fn commits_that_touch_what_is_protected_are_not_kept() {
        let fixture = Fixture::repository(&[("a", "a\n"), ("sandbox.kdl", "image \"x\"\n")]);
        drop(fixture.copy());
        write(&fixture.tree(), "sandbox.kdl", "image \"evil\"\n");
        git(&fixture.tree(), &["commit", "-qam", "evil"]);
        write(&fixture.tree(), "sandbox.kdl", "image \"x\"\n");
        write(&fixture.tree(), "a", "changed\n");
        git(&fixture.tree(), &["commit", "-qam", "hidden"]);
        let protected = Protected::of(&fixture.work(), &fixture.work()).unwrap();
        let made = branch(&fixture, "agent", &protected).unwrap();
        assert_eq!((made.kept, made.dropped.as_deref()), (0, Some("they touch sandbox.kdl")));
        let log = git(&fixture.work(), &["log", "--format=%s", "agent"]);
        assert_eq!(log, "Changes in the sandbox demo\nfirst\n");
    }

    #[test]
    fn nothing_in_a_hostile_repository_runs_or_is_followed() {
        let fixture = Fixture::repository(&[("a", "a\n")]);
        drop(fixture.copy());
        let (tree, elsewhere) = (fixture.tree(), fixture.directory.path().join("elsewhere"));
        write(&tree, "a", "changed\n");
        write(&tree, ".gitattributes", "* filter=evil diff=evil\n");
        git(&tree, &["add", "-A"]);
        git(&tree, &["commit", "-qm", "mine"]);
        let evil = elsewhere.join("evil");
        let run = format!("touch {}", evil.display());
        write(
            &tree,
            ".git/config",
            format!(
                "[core]\n\trepositoryformatversion = 0\n\tfsmonitor = {run}\n\thooksPath = {}\n\tsshCommand = {run}\n\
             [filter \"evil\"]\n\tclean = {run}\n\tsmudge = {run}\n[diff \"evil\"]\n\ttextconv = {run}\n\
             [uploadpack]\n\tpackObjectsHook = {run}\n[gpg]\n\tprogram = {run}\n",
                elsewhere.display()
            ),
        );
        for hook in ["reference-transaction", "post-index-change", "pre-commit"] {
            write(&elsewhere, hook, format!("#!/bin/sh\n{run}\n"));
            write(&tree, format!(".git/hooks/{hook}"), format!("#!/bin/sh\n{run}\n"));
        }
        write(&tree, ".git/objects/info/alternates", "/dev/zero\n");
        symlink("/dev/zero", tree.join(".git/objects/pack/pack-1.pack")).unwrap();
        symlink("/dev/zero", tree.join(".git/packed-refs")).unwrap();
        let made = branch(&fixture, "agent", &Protected::default()).unwrap();
        assert_eq!((made.kept, made.dropped), (1, None));
        assert!(!evil.exists());
        assert_eq!(git(&fixture.work(), &["show", "agent:a"]), "changed\n");
    }

    #[test]
    fn commits_that_git_would_not_take_from_a_stranger_are_made_anew() {
        let fixture = Fixture::repository(&[("a", "a\n")]);
        drop(fixture.copy());
        let tree = fixture.tree();
        write(&tree, "b", "b\n");
        git(&tree, &["add", "b"]);
        let blob = git(&tree, &["rev-parse", ":b"]);
        // A tree with a file in `.git`.
        let entry = format!("100644 blob {}\thooks\n", blob.trim());
        write(&tree, "entry", &entry);
        let script = "inner=$(git mktree < entry) && outer=$(printf '040000 tree %s\\t.git\\n' $inner | git mktree) \
             && git update-ref HEAD $(git -c user.name=A -c user.email=a@e commit-tree -p HEAD -m evil $outer)";
        let status =
            std::process::Command::new("sh").args(["-c", script]).current_dir(&tree).status().unwrap();
        assert!(status.success());
        fs::remove_file(tree.join("entry")).unwrap();
        let made = branch(&fixture, "agent", &Protected::default()).unwrap();
        assert!(made.dropped.is_some() && made.kept == 0, "{made:?}");
        assert_eq!(files(&fixture, "agent"), "a\nb\n");
    }

    #[test]
    fn a_part_of_a_repository_and_one_without_commits_have_branches_too() {
        let fixture = Fixture::repository(&[("a", "a\n"), ("sub/b", "b\n")]);
        let sub = fixture.work().join("sub");
        crate::workspace::clone::prepare(&Ui::new(), &sub, &fixture.sandbox()).unwrap();
        write(&fixture.tree(), "b", "changed\n");
        let home = fixture.directory.path().to_path_buf();
        let context = Context {
            ui: Ui::new(),
            paths: Paths { home: home.clone(), config: home.clone(), user_home: home },
        };
        let mut copy = PrivateCopy::open(&fixture.sandbox()).unwrap().unwrap();
        let changes = copy.changes().unwrap().files;
        let none = Protected::default();
        let wish = Wish { name: "part", history: true, without: &none, sandbox: "demo".to_owned() };
        make(&context, &mut copy, &changes, &wish).unwrap();
        assert_eq!(git(&fixture.work(), &["show", "part:sub/b"]), "changed\n");
        assert_eq!(files(&fixture, "part"), "a\nsub/b\n");

        let empty = Fixture::new();
        git(&empty.work(), &["init", "-q", "--object-format=sha256"]);
        drop(empty.copy());
        write(&empty.tree(), "new", "new\n");
        branch(&empty, "agent", &none).unwrap();
        assert_eq!(git(&empty.work(), &["show", "agent:new"]), "new\n");
        assert!(branch(&Fixture::new(), "agent", &none).is_err());
    }
}
