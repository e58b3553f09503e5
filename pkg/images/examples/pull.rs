//! Pulls one image into a store of its own and says how long it took: `pull REFERENCE ROOT [CERTS_D]`.
//!
//! For measuring the pipeline alone, without the daemon. The time is that of the call; CPU time covers the process.

use std::{env, error::Error, path::Path, path::PathBuf, time::Instant};

use husk_images::{ImageStore, ImagesConfig, PullRequest};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(reference), Some(root)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pull REFERENCE ROOT [CERTS_D]".into());
    };
    let config = ImagesConfig {
        registry_config_dir: arguments.next().map_or_else(|| "/etc/husk/certs.d".into(), PathBuf::from),
        ..ImagesConfig::default()
    };
    let store = ImageStore::open(Path::new(&root), config)?;
    let started = Instant::now();
    let id = store.pull(PullRequest { reference, auth: None, platform: None }).await?;
    let pulled = started.elapsed();
    store.idle().await;
    let usage = store.usage();
    println!("{id}: {} MiB unpacked, {} files", usage.used_bytes >> 20, usage.inodes_used);
    println!(
        "pulled in {:.2} s, on disk after {:.2} s",
        pulled.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}
