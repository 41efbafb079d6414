//! Pulling: the configuration says which layers there are, their digests whether that is the snapshot that is wanted; then
//! the layers come as those of images do.

use std::path::PathBuf;
use std::sync::Arc;

use oci_distribution::Reference;

use super::{ShareError, SharedSnapshot, SharedStep, Wanted, artifact, tagged};
use crate::layer::TREE_FILE;
use crate::layer::stored::{self, LayerTree, StoredChild};
use crate::progress::{self, Progress, Reporter};
use crate::pull::{Context, PullOptions, fetch_layers};
use crate::registry::Registry;
use crate::source::Origin;
use crate::store::Store;

/// Fetches a snapshot's layers, as far as the store does not have them; `None` if the registry has no such snapshot.
///
/// Needs a tokio runtime with I/O and time, and a rustls crypto provider installed for the process. Whoever needs the layers
/// holds the store ([`Store::hold`]) until it is written down what they are for.
///
/// # Errors
/// When what is there is not the wanted snapshot, before any of it is fetched, or cannot be fetched. Layers that were fetched
/// stay.
pub async fn pull(
    store: &Store,
    repository: &Reference,
    wanted: Wanted<'_>,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Option<SharedSnapshot>, ShareError> {
    progress::delivered(progress, |reporter| async move {
        let reference = tagged(repository, wanted.inputs)?;
        let _lock = store.lock_shared_async().await?;
        store.sweep()?;
        let registry = Registry::new(&reference, options.access(), reporter.clone())?;
        let tag = reference.tag().unwrap_or_default().to_owned();
        let bytes = match registry.manifest(&tag).await {
            Ok((_, bytes)) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (config, blobs) = artifact::parse_manifest(&bytes)?;
        let configuration = registry.blob(&config).await?;
        let (snapshot, layers) = artifact::parse_configuration(&configuration, blobs)?;
        check(&snapshot, wanted)?;
        progress.shared(&reference.whole(), wanted.content, &layers);
        let context = context(store, registry, tag, options, reporter);
        fetch_layers(Arc::new(context), &layers, options.parallel_layers).await?;
        check_directories(store, &snapshot.steps, wanted.workspace)?;
        Ok(Some(snapshot))
    })
    .await
}

fn context(
    store: &Store,
    registry: Registry,
    tag: String,
    options: &PullOptions,
    reporter: Reporter,
) -> Context {
    let origin = Origin::Registry(Box::new(registry), tag);
    Context { store: store.clone(), origin, limits: options.limits.clone(), reporter }
}

/// Refuses what is not the wanted snapshot. The digests that are compared are those that the layers have to have.
fn check(snapshot: &SharedSnapshot, wanted: Wanted<'_>) -> Result<(), ShareError> {
    let actual = snapshot.content(wanted.below);
    if actual == wanted.content {
        return Ok(());
    }
    Err(ShareError::OtherSnapshot { wanted: wanted.content.to_owned(), actual })
}

/// Refuses directories of the workspace that no step has made: they would hide those of the workspace. The layers are known to
/// be the right ones. A step may name one that an earlier step has made, and that it left as it was.
fn check_directories(store: &Store, steps: &[SharedStep], workspace: &str) -> Result<(), ShareError> {
    if steps.iter().all(|step| step.setup_directories.is_empty()) {
        return Ok(());
    }
    let paths: Vec<PathBuf> = steps.iter().map(|step| store.layer_path(&step.layer)).collect();
    let bytes = paths.iter().map(|path| stored::read(path)).collect::<Result<Vec<_>, _>>()?;
    let trees = paths.iter().zip(&bytes).map(|(path, bytes)| stored::decode(bytes, &path.join(TREE_FILE)));
    let trees = trees.collect::<Result<Vec<_>, _>>()?;
    for (index, step) in steps.iter().enumerate() {
        let is_made = |directory: &&String| {
            trees.iter().take(index.saturating_add(1)).any(|tree| has_directory(tree, workspace, directory))
        };
        if let Some(directory) = step.setup_directories.iter().find(|directory| !is_made(directory)) {
            let reason = format!("no step has made a directory `{}`", directory.escape_default());
            return Err(ShareError::Format { reason });
        }
    }
    Ok(())
}

fn has_directory(tree: &LayerTree<'_>, workspace: &str, directory: &str) -> bool {
    let names = std::iter::once(workspace).chain(directory.split('/'));
    let found = names.map(str::as_bytes).try_fold(0, |number, name| {
        let children = &tree.nodes.get(number)?.children;
        let at = children.binary_search_by_key(&name, |(name, _)| *name).ok()?;
        match children.get(at)?.1 {
            StoredChild::Node(number) => Some(number),
            StoredChild::Whiteout => None,
        }
    });
    found.and_then(|number| tree.nodes.get(number)).is_some_and(|stored| stored.node.is_directory())
}
