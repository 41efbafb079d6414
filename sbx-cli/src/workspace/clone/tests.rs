use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use super::*;
use crate::workspace::testing::{Fixture, contents, git, write};

#[test]
fn a_copy_has_the_files_and_the_history_and_nothing_of_the_original() {
    let fixture = Fixture::repository(&[("a", "a\n"), ("sub/b", "b\n"), (".gitignore", "*.log\n")]);
    let work = fixture.work();
    git(&work, &["branch", "other"]);
    git(&work, &["pack-refs", "--all"]);
    write(&work, ".git/hooks/pre-commit", "#!/bin/sh\ntouch /tmp/evil\n");
    git(&work, &["config", "core.fsmonitor", "/tmp/evil"]);
    write(&work, "a", "changed\n");
    write(&work, "untracked", "new\n");
    write(&work, "x.log", "log\n");
    fs::remove_file(work.join("sub/b")).unwrap();
    let copy = fixture.copy();
    let tree = fixture.tree();
    assert_eq!(copy.about.commit.as_deref(), Some(git(&work, &["rev-parse", "HEAD"]).trim()));
    let mut expected = contents(&work);
    expected.remove(&b"x.log"[..]);
    assert_eq!(contents(&tree), expected);
    git(&work, &["config", "--unset", "core.fsmonitor"]);
    for arguments in [&["status", "--porcelain"][..], &["log", "--format=%H"], &["branch", "--all"]] {
        assert_eq!(git(&tree, arguments), git(&work, arguments), "{arguments:?}");
    }
    git(&tree, &["fsck", "--strict"]);
    git(&tree, &["commit", "-qam", "inside"]);
    assert!(!tree.join(".git/hooks").exists());
    assert!(!fs::read_to_string(tree.join(".git/config")).unwrap().contains("evil"));
    let mut left = vec![tree.join(".git")];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(metadata.nlink(), 1, "{}", path.display());
        }
    }
}

#[test]
fn what_git_knows_is_not_hashed_again() {
    let fixture = Fixture::repository(&[("a", "a\n")]);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    fs::File::options().write(true).open(fixture.work().join("a")).unwrap().set_modified(long_ago).unwrap();
    git(&fixture.work(), &["update-index", "--refresh"]);
    let _ = fixture.copy();
    // Another content of the same size and time is not seen by a git that goes by these.
    let file = fs::File::options().write(true).open(fixture.tree().join("a")).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    fs::write(fixture.tree().join("a"), "b\n").unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(git(&fixture.tree(), &["status", "--porcelain"]), "");
    // Ours does not.
    assert_eq!(fixture.changed(), ["a"]);
}

#[test]
fn changes_are_what_git_would_add() {
    let fixture =
        Fixture::repository(&[("a", "a\n"), ("b", "b\n"), ("c", "c\n"), (".gitignore", "*.log\n/out/\n")]);
    let _ = fixture.copy();
    let tree = fixture.tree();
    assert!(fixture.changed().is_empty());
    write(&tree, "x.log", "");
    write(&tree, "out/built", "");
    write(&tree, "new", "");
    fs::remove_file(tree.join("b")).unwrap();
    fs::set_permissions(tree.join("c"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fixture.changed(), ["b", "c", "new"]);
    // Committed, it is a change all the same; added by force, it is one although it is ignored.
    git(&tree, &["add", "-A"]);
    git(&tree, &["add", "-f", "out/built"]);
    git(&tree, &["commit", "-qm", "all"]);
    assert_eq!(fixture.changed(), ["b", "c", "new", "out/built"]);
    // A rule that comes later hides no file that was there.
    write(&tree, ".gitignore", "*\n");
    write(&tree, "a", "changed\n");
    assert!(fixture.changed().contains(&"a".to_owned()));
}

#[test]
fn a_workspace_that_is_a_part_of_a_repository_or_none_has_a_copy_too() {
    let fixture = Fixture::repository(&[("sub/a", "a\n"), ("b", "b\n"), (".gitignore", "*.log\n")]);
    let sub = fixture.work().join("sub");
    write(&sub, "x.log", "");
    prepare(&Ui::new(), &sub, &fixture.sandbox()).unwrap();
    assert_eq!(contents(&fixture.tree()).into_keys().collect::<Vec<_>>(), [b"a"]);
    assert!(!fixture.tree().join(".git").exists());
    write(&fixture.tree(), "y.log", "");
    write(&fixture.tree(), "n", "");
    let changes = PrivateCopy::open(&fixture.sandbox()).unwrap().unwrap().changes().unwrap();
    assert_eq!(changes.files.iter().map(|change| change.path.clone()).collect::<Vec<_>>(), [Path::new("n")]);
    let error = prepare(&Ui::new(), &fixture.work(), &fixture.sandbox()).unwrap_err();
    assert!(error.to_string().contains("not of"), "{error}");

    let plain = Fixture::new();
    write(&plain.work(), "a", "a");
    let copy = plain.copy();
    assert!(copy.about.commit.is_none() && !copy.about.history);
}

#[test]
fn a_copy_of_a_linked_working_tree_stands_alone() {
    let fixture = Fixture::repository(&[("a", "a\n")]);
    let linked = fixture.work().join("../linked");
    git(&fixture.work(), &["worktree", "add", "-q", "-b", "topic", linked.to_str().unwrap()]);
    let linked = linked.canonicalize().unwrap();
    write(&linked, "a", "changed\n");
    prepare(&Ui::new(), &linked, &fixture.sandbox()).unwrap();
    let tree = fixture.tree();
    assert!(tree.join(".git").is_dir());
    assert_eq!(git(&tree, &["branch", "--show-current"]), "topic\n");
    assert_eq!(git(&tree, &["status", "--porcelain"]), " M a\n");
    // A file that names somebody else's repository gives no history.
    let other = Fixture::new();
    write(
        &other.work(),
        ".git",
        format!("gitdir: {}\n", fixture.work().join(".git/worktrees/linked").display()),
    );
    write(&other.work(), "a", "a");
    assert!(!other.copy().about.history);
    assert!(!other.tree().join(".git").exists());
}

#[test]
fn a_hostile_copy_leads_nowhere_and_makes_nobody_wait() {
    let fixture = Fixture::repository(&[("a", "a\n"), ("dir/b", "b\n"), (".gitignore", "*.log\n")]);
    let _ = fixture.copy();
    let (tree, elsewhere) = (fixture.tree(), fixture.directory.path().join("elsewhere"));
    write(&elsewhere, "b", "secret\n");
    write(&elsewhere, "index", "DIRC");
    fs::remove_file(tree.join(".gitignore")).unwrap();
    symlink("/dev/zero", tree.join(".gitignore")).unwrap();
    fs::remove_dir_all(tree.join("dir")).unwrap();
    symlink(&elsewhere, tree.join("dir")).unwrap();
    let fifo = |path: &str| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, tree.join(path), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    fifo("pipe");
    fs::remove_file(tree.join(".git/index")).unwrap();
    let copy = fixture.copy();
    let changes = copy.changes().unwrap();
    let names: Vec<_> = changes.files.iter().map(|change| change.path.to_str().unwrap()).collect();
    assert_eq!(names, [".gitignore", "dir", "dir/b"]);
    assert_eq!(changes.special, [Path::new("pipe")]);
    let link = changes.files[1].to.unwrap();
    assert_eq!(
        copy.objects.read(&link.hash, 4096).unwrap().unwrap(),
        elsewhere.as_os_str().as_encoded_bytes()
    );
    drop(copy);
    // Not even what says what is tracked is followed.
    fs::remove_dir_all(tree.join(".git")).unwrap();
    symlink(&elsewhere, tree.join(".git")).unwrap();
    assert_eq!(fixture.changed().len(), 3);
}

#[test]
fn a_copy_goes_whatever_is_in_it() {
    let fixture = Fixture::repository(&[("a", "a\n")]);
    drop(fixture.copy());
    write(&fixture.tree(), "closed/inside/file", "x");
    for directory in ["closed/inside", "closed"] {
        fs::set_permissions(fixture.tree().join(directory), fs::Permissions::from_mode(0o0)).unwrap();
    }
    discard(&fixture.sandbox()).unwrap();
    assert!(!fixture.sandbox().clone_directory().exists());
    assert!(PrivateCopy::open(&fixture.sandbox()).unwrap().is_none());
}
