//! Builds the guest for the program to carry, and tells it which kernel to look for.
//!
//! The guest is a static program of another profile, so it cannot be an ordinary dependency: it is built by a cargo of
//! its own in a target directory of its own, and packed into the initramfs that [`initramfs`] draws.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[path = "build/initramfs.rs"]
mod initramfs;
#[path = "../kernel/key.rs"]
mod kernel;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for watched in
        ["sbx-guest/src", "sbx-guest/Cargo.toml", "sbx-proto/src", "sbx-proto/Cargo.toml", "Cargo.lock"]
    {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    for watched in ["build.rs", "build/initramfs.rs"] {
        println!("cargo::rerun-if-changed={watched}");
    }

    let recipe = kernel::Recipe::read(&root.join("kernel"))?;
    for file in &recipe.files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    println!("cargo::rerun-if-changed={}", root.join("kernel/patches").display());
    println!("cargo::rustc-env=SBX_KERNEL_KEY={}", recipe.key());

    let guest = build_guest(&root, &out)?;
    let archive = initramfs::with_init(&fs::read(guest)?);
    println!("cargo::rustc-env=SBX_INITRAMFS_HASH={}", &blake3::hash(&archive).to_hex()[..16]);
    fs::write(out.join("initramfs.cpio"), archive)?;
    Ok(())
}

/// Builds sbx-guest and returns the path of the program.
fn build_guest(root: &Path, out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    // Shared by debug, release and clippy builds of the same target directory: OUT_DIR is
    // <target>/<profile>/build/<package>/out.
    let target_directory = out.ancestors().nth(4).unwrap_or(out).join("guest-build");
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .current_dir(root)
        .args(["build", "--package", "sbx-guest", "--profile", "guest", "--target", TARGET, "--quiet"])
        .env("CARGO_TARGET_DIR", &target_directory)
        // Static, so that it runs over any image, whatever its C library.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER");
    let status = cargo.status()?;
    if !status.success() {
        return Err("the guest could not be built: cargo build --package sbx-guest --profile guest".into());
    }
    Ok(target_directory.join(TARGET).join("guest/sbx-guest"))
}
