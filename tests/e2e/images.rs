//! Images and the store, as the user meets them.

use std::{fs, path::PathBuf, process::Command};

use sbx_tests::{Environment, ImageBuilder, environment::registry};
use serde_json::Value;

const DEBIAN: &str = "docker.io/library/debian:bookworm-slim";

/// The `data` file of every layer in the store, wherever the store keeps them.
fn layer_data(env: &Environment) -> Vec<PathBuf> {
    let found = Command::new("find").arg(env.home().join("layers")).args(["-name", "data"]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().map(PathBuf::from).collect()
}

#[test]
fn an_image_is_pulled_listed_verified_and_removed() {
    let env = Environment::new().with_registry();
    env.sbx(&["image", "pull", DEBIAN]).success();
    let images: Value = serde_json::from_str(&env.sbx(&["image", "ls", "--json"]).text()).unwrap();
    assert_eq!(images.as_array().unwrap().len(), 1, "{images}");

    // What another client says of the same image.
    let reference = format!("docker://{}/library/debian:bookworm-slim", registry());
    let inspected =
        Command::new("skopeo").args(["inspect", "--tls-verify=false", &reference]).output().unwrap();
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert!(images.to_string().contains(inspected["Digest"].as_str().unwrap()), "{images}\n{inspected}");

    env.sbx(&["image", "verify"]).success();
    env.sbx(&["df"]).success();
    env.sbx(&["image", "rm", DEBIAN]).success();
    env.sbx(&["prune"]).success();
    assert_eq!(layer_data(&env), Vec::<PathBuf>::new(), "a pruned store has no layers");
}

#[test]
fn damage_in_the_store_is_found() {
    let env = Environment::new().with_busybox();
    env.up("true").success();
    env.sbx(&["image", "verify"]).success();
    let data = layer_data(&env).remove(0);
    let mut bytes = fs::read(&data).unwrap();
    bytes[100] ^= 1;
    let _ = fs::remove_file(&data);
    fs::write(&data, bytes).unwrap();
    env.sbx(&["image", "verify"]).exits(1).stderr_has("data");
}

#[test]
fn archives_and_layouts_boot() {
    let env = Environment::new();
    let layout = env.image("busybox", ImageBuilder::busybox());
    let directory = layout.strip_prefix("oci-layout:").unwrap();
    for (kind, target) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
        let archive = env.outside().join(target);
        let copied = Command::new("skopeo")
            .args(["copy", "-q", &format!("oci:{directory}"), &format!("{kind}:{}", archive.display())])
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let inner = Environment::new().manifest(&format!(
            "agent \"shell\"\nimage \"{kind}:{}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n",
            archive.display()
        ));
        assert_eq!(inner.up("echo from $0").text(), "from sh");
    }
}

#[test]
fn a_new_sandbox_costs_next_to_nothing() {
    let env = Environment::new().with_busybox();
    env.up("true").success();
    let used = Command::new("du").args(["-s", "--block-size=1"]).arg(env.sandbox()).output().unwrap();
    let bytes: u64 =
        String::from_utf8_lossy(&used.stdout).split_whitespace().next().unwrap().parse().unwrap();
    assert!(bytes <= 2 << 20, "{bytes} bytes");
}
