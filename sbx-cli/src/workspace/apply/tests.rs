use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use super::*;
use crate::{
    sandbox::directory::write_atomically,
    workspace::{
        diff::{
            patch::{self, Form},
            rename,
        },
        testing::{Fixture, change_odd_files, contents, git, make_odd_files, write},
    },
};

fn odd() -> Fixture {
    let fixture = Fixture::new();
    make_odd_files(&fixture.work());
    drop(fixture.copy());
    change_odd_files(&fixture.tree());
    fixture
}

#[test]
fn everything_comes_back_and_is_then_no_change_any_more() {
    let fixture = odd();
    let mut copy = fixture.copy();
    let changes = copy.changes().unwrap().files;
    into_workspace(&mut copy, &changes).unwrap();
    assert_eq!(contents(&fixture.work()), contents(&fixture.tree()));
    assert!(!fixture.work().join("deep").exists(), "empty directories go");
    drop(copy);
    assert!(fixture.changed().is_empty());
    write(&fixture.tree(), "text", "again\n");
    assert_eq!(fixture.changed(), ["text"]);
}

#[test]
fn a_patch_is_one_that_git_applies() {
    let fixture = odd();
    let copy = fixture.copy();
    let changes = copy.changes().unwrap().files;
    let deltas = rename::deltas(&changes, &copy.objects).unwrap();
    let renamed: Vec<_> =
        deltas.iter().filter(|delta| delta.similarity.is_some()).map(|delta| delta.path()).collect();
    assert_eq!(renamed, [Path::new("new name")]);
    let form = Form { binary: true, hash_bytes: 20 };
    let lines = deltas.iter().flat_map(|delta| patch::lines(delta, &copy.objects, form).unwrap());
    let patch: Vec<u8> = lines.flat_map(|line| line.bytes).collect();
    let file = fixture.directory.path().join("patch");
    fs::write(&file, patch).unwrap();
    let output = Command::new("git")
        .arg("-C")
        .arg(fixture.work())
        .args(["apply", "--whitespace=nowarn"])
        .arg(&file)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(contents(&fixture.work()), contents(&fixture.tree()));
}

#[test]
fn what_changed_on_both_sides_stops_everything() {
    let fixture = Fixture::new();
    for name in ["a", "b", "c", "d", "e"] {
        write(&fixture.work(), name, "old\n");
    }
    drop(fixture.copy());
    for name in ["a", "b", "c"] {
        write(&fixture.tree(), name, "sandbox\n");
    }
    fs::remove_file(fixture.tree().join("d")).unwrap();
    write(&fixture.tree(), "new/file", "sandbox\n");
    write(&fixture.tree(), "e2", "sandbox\n");
    write(&fixture.work(), "b", "user\n");
    write(&fixture.work(), "d", "user\n");
    write(&fixture.work(), "new", "in the way\n");
    fs::create_dir(fixture.work().join("e2")).unwrap();
    write(&fixture.work(), "e2/ignored", "user\n");
    let before = contents(&fixture.work());
    let mut copy = fixture.copy();
    let changes = copy.changes().unwrap().files;
    let error = into_workspace(&mut copy, &changes).unwrap_err();
    assert_eq!(
        error.details()[0].1,
        [
            "b was changed on both sides",
            "d was changed on both sides",
            "e2 is a directory with other files in the workspace",
            "new/file is below something that is no directory in the workspace",
        ]
    );
    assert_eq!(contents(&fixture.work()), before);
    // The rest can be had, and what is the same on both sides is no conflict.
    write(&fixture.work(), "c", "sandbox\n");
    let some: Vec<_> =
        changes.into_iter().filter(|change| is_wanted(&change.path, &["a".into(), "c".into()])).collect();
    into_workspace(&mut copy, &some).unwrap();
    assert_eq!(fs::read(fixture.work().join("a")).unwrap(), b"sandbox\n");
    drop(copy);
    assert_eq!(fixture.changed(), ["b", "d", "e2", "new/file"]);
}

#[test]
fn a_link_in_the_workspace_is_not_written_through() {
    let fixture = Fixture::new();
    write(&fixture.work(), "dir/file", "old\n");
    drop(fixture.copy());
    write(&fixture.tree(), "dir/file", "sandbox\n");
    write(&fixture.tree(), "dir/new", "sandbox\n");
    let elsewhere = fixture.directory.path().join("elsewhere");
    write(&elsewhere, "file", "old\n");
    fs::remove_dir_all(fixture.work().join("dir")).unwrap();
    symlink(&elsewhere, fixture.work().join("dir")).unwrap();
    let mut copy = fixture.copy();
    let changes = copy.changes().unwrap().files;
    assert!(into_workspace(&mut copy, &changes).is_err());
    // Nor by an apply that is resumed.
    let workspace = Tree::open(&fixture.work()).unwrap();
    for (index, change) in changes.iter().enumerate() {
        assert!(!matches!(journal::write(&copy, &workspace, change, index), Ok(true)));
    }
    assert_eq!(fs::read(elsewhere.join("file")).unwrap(), b"old\n");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
}

#[test]
fn an_apply_that_is_killed_anywhere_is_completed_by_the_next() {
    let count = odd().changed().len();
    for stop in 0..=count {
        let fixture = odd();
        let copy = fixture.copy();
        let changes = copy.changes().unwrap().files;
        write_atomically(&copy.journal(), &journal::text(&changes)).unwrap();
        let workspace = Tree::open(&fixture.work()).unwrap();
        let (gone, coming): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.to.is_none());
        for (index, change) in gone.into_iter().chain(coming).enumerate().take(stop) {
            assert!(journal::write(&copy, &workspace, change, index).unwrap());
        }
        // Killed while a file was written.
        write(&fixture.work(), format!(".sbx-apply-{}", changes.len() - 1), "half");
        drop(copy);
        let mut copy = fixture.copy();
        assert_eq!(journal::resume(&mut copy, &workspace).unwrap(), Some(Vec::new()), "stopped after {stop}");
        assert_eq!(contents(&fixture.work()), contents(&fixture.tree()), "stopped after {stop}");
        assert_eq!(journal::resume(&mut copy, &workspace).unwrap(), None);
        drop(copy);
        assert!(fixture.changed().is_empty());
    }
}

#[test]
fn what_the_user_changes_after_a_kill_is_left_alone() {
    let fixture = odd();
    let copy = fixture.copy();
    let changes = copy.changes().unwrap().files;
    write_atomically(&copy.journal(), &journal::text(&changes)).unwrap();
    drop(copy);
    write(&fixture.work(), "text", "user\n");
    let mut copy = fixture.copy();
    let workspace = Tree::open(&fixture.work()).unwrap();
    assert_eq!(journal::resume(&mut copy, &workspace).unwrap(), Some(vec!["text".into()]));
    assert_eq!(fs::read(fixture.work().join("text")).unwrap(), b"user\n");
    drop(copy);
    assert_eq!(fixture.changed(), ["text"]);
}

#[test]
fn permissions_of_the_user_stay() {
    let fixture = Fixture::new();
    write(&fixture.work(), "private", "old\n");
    fs::set_permissions(fixture.work().join("private"), fs::Permissions::from_mode(0o600)).unwrap();
    drop(fixture.copy());
    write(&fixture.tree(), "private", "new\n");
    fs::set_permissions(fixture.tree().join("private"), fs::Permissions::from_mode(0o777)).unwrap();
    let mut copy = fixture.copy();
    let changes = copy.changes().unwrap().files;
    into_workspace(&mut copy, &changes).unwrap();
    let mode = fs::metadata(fixture.work().join("private")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn what_decides_over_the_sandbox_or_is_run_by_git_is_protected() {
    let fixture = Fixture::repository(&[("a", "a\n")]);
    git(&fixture.work(), &["config", "core.hooksPath", ".husky/"]);
    let protected = Protected::of(&fixture.work(), &fixture.work()).unwrap();
    for path in ["sandbox.kdl", "Sandbox.KDL", "sandbox.lock", ".husky/pre-commit", ".husky"] {
        assert!(protected.holds(Path::new(path)), "{path}");
    }
    for path in ["sub/sandbox.kdl", "sandbox.kdl2", ".huskyrc", "a"] {
        assert!(!protected.holds(Path::new(path)), "{path}");
    }
    let sub = Protected::of(&fixture.work().join("sub"), &fixture.work()).unwrap();
    assert!(!sub.holds(Path::new("sandbox.kdl")));
}

#[test]
fn links_that_lead_out_are_refused() {
    let fixture = Fixture::new();
    write(&fixture.work(), "a", "a\n");
    drop(fixture.copy());
    symlink("a", fixture.tree().join("inside")).unwrap();
    let copy = fixture.copy();
    refuse_links_out(&copy, &copy.changes().unwrap().files).unwrap();
    symlink("../../secret", fixture.tree().join("outside")).unwrap();
    let error = refuse_links_out(&copy, &copy.changes().unwrap().files).unwrap_err();
    assert_eq!(error.details()[0].1, ["outside"]);
}
