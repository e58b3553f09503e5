//! Files of layers that no record names, while the store works: a deletion failed, or somebody put them there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use super::{
    ImageStore, Shared, blocking,
    job::Job,
    name_of,
    open::{PARTS, names},
};
use crate::Result;

impl ImageStore {
    /// Finds layers on disk that neither an image nor a pull has, by the path of their directory, and deletes those that `free`
    /// agrees to, in the background. What is not named as a layer is somebody else's.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub async fn examine(&self, free: Arc<dyn Fn(&str) -> bool + Send + Sync>) -> Result<Vec<String>> {
        let shared = Arc::clone(&self.shared);
        blocking("looking for layers without a record", move || shared.examine(free.as_ref())).await
    }
}

impl Shared {
    fn examine(&self, free: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut there: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
        for part in PARTS {
            for name in names(&self.directory.join(part))? {
                if let Some(number) = number_of(&name) {
                    there.entry(number).or_default().push(self.directory.join(part).join(name));
                }
            }
        }
        // In this order: a layer is in the state before it is taken out here.
        let making = self.making().clone();
        let known: BTreeSet<u64> = self.state().layers.values().map(|layer| layer.record.number).collect();
        there.retain(|number, _| !making.contains(number) && !known.contains(number));
        let mut found = Vec::with_capacity(there.len());
        for (number, paths) in there {
            let object = self.destination(number).root.display().to_string();
            if free(&object) {
                self.enqueue(Job::Delete(paths));
            }
            found.push(object);
        }
        Ok(found)
    }
}

/// The number of a layer's directory, if it is one.
fn number_of(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name, 36).ok()?;
    (name_of(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ImagesConfig;

    #[tokio::test]
    async fn layers_of_nobody_are_found_and_deleted_but_not_those_of_a_pull_or_a_stranger() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path(), ImagesConfig::default()).unwrap();
        let layers = dir.path().join("images/layers");
        let (pulled, destination) = store.shared.new_layer().unwrap();
        for name in ["zzz", "not a layer", "0zz"] {
            fs::create_dir(layers.join(name)).unwrap();
        }
        fs::write(dir.path().join("images/records/zzz"), "").unwrap();
        let lost = layers.join("zzz").display().to_string();
        assert_eq!(store.examine(Arc::new(|_| false)).await.unwrap(), std::slice::from_ref(&lost));
        assert!(layers.join("zzz").exists());
        assert_eq!(store.examine(Arc::new(|_| true)).await.unwrap(), [lost]);
        store.idle().await;
        assert!(!layers.join("zzz").exists() && !dir.path().join("images/records/zzz").exists());
        assert!(
            destination.root.exists() && layers.join("not a layer").exists() && layers.join("0zz").exists()
        );
        store.shared.made(pulled);
        assert_eq!(store.examine(Arc::new(|_| true)).await.unwrap().len(), 1);
    }
}
