//! Loads an archive, gives its image a name, pushes it there and tells what became of each layer: `push ROOT ARCHIVE NAME [USER:PASSWORD]`.
#![forbid(unsafe_code)]

use std::{error::Error, fs::File, path::Path};

use husk_images::{Auth, ImageStore, ImagesConfig, PushProgress, PushRequest, PushState};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(root), Some(archive), Some(name)) = (arguments.first(), arguments.get(1), arguments.get(2))
    else {
        return Err("usage: push ROOT ARCHIVE NAME [USER:PASSWORD]".into());
    };
    let auth = arguments.get(3).and_then(|text| text.split_once(':')).map(|(user, password)| Auth {
        username: user.to_owned(),
        password: password.to_owned(),
        ..Auth::default()
    });
    let store = ImageStore::open(Path::new(root), ImagesConfig::default())?;
    let loaded = store.load(File::open(archive)?, |_| {}).await?;
    let first = loaded.first().ok_or("no image in the archive")?;
    store.tag(first.id.as_str(), name).await?;
    let report = |progress: PushProgress| {
        if !matches!(progress.state, PushState::Preparing | PushState::Pushing) {
            println!("{} {:?} {}", progress.layer, progress.state, progress.total);
        }
    };
    let pushed = store.push_image(PushRequest { reference: name.clone(), auth }, report).await?;
    println!("{} {} {} bytes", pushed.reference, pushed.digest, pushed.size);
    Ok(())
}
