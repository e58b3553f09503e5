//! What clients are told of the layers of a pull: for each the lines of the stages that it has come through since the last look.
//!
//! A layer is unpacked as it comes. So when its last byte is here, only the end of the unpacking and the check of its digests are left.

use std::collections::HashMap;

use husk_images::{LayerProgress, LayerState};

use crate::progress::{Detail, Progress};

/// Digits of a layer's digest that its lines are called by.
const SHORT: usize = 12;

/// Short form of a digest, by which lines are called.
pub(super) fn short(digest: &str) -> String {
    digest.rsplit(':').next().unwrap_or_default().chars().take(SHORT).collect()
}

/// A line about a layer.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    layer: String,
    status: &'static str,
    detail: Option<Detail>,
}

/// How far a layer is, in the order in which that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Announced,
    /// So many bytes are here.
    Coming(u64),
    AllHere,
    Done,
    Exists,
}

impl Stage {
    fn of(layer: &LayerProgress) -> Self {
        match layer.state {
            LayerState::Waiting => Self::Announced,
            LayerState::Coming if layer.bytes_done >= layer.bytes => Self::AllHere,
            LayerState::Coming => Self::Coming(layer.bytes_done),
            LayerState::Done => Self::Done,
            LayerState::Exists => Self::Exists,
        }
    }
}

/// What was told of a pull.
#[derive(Debug, Default)]
pub(super) struct Layers {
    told: HashMap<String, Stage>,
}

impl Layers {
    /// Tells what is new.
    pub(super) async fn tell(&mut self, now: &[LayerProgress], progress: &Progress) {
        for Line { layer, status, detail } in self.lines(now) {
            match detail {
                None => progress.of(&layer, status).await,
                Some(detail) => progress.state(&layer, status, detail).await,
            }
        }
    }

    fn lines(&mut self, now: &[LayerProgress]) -> Vec<Line> {
        let mut lines = Vec::new();
        for layer in now {
            let name = short(layer.digest.as_ref());
            let stage = Stage::of(layer);
            // An image may have a layer twice, which is one line.
            let former = self.told.get(&name).copied();
            if former.is_some_and(|former| former == stage || former >= Stage::Done) {
                continue;
            }
            let mut line = |status, detail| lines.push(Line { layer: name.clone(), status, detail });
            if former.is_none() && stage != Stage::Exists {
                line("Pulling fs layer", None);
            }
            match stage {
                Stage::Announced => {}
                Stage::Exists => line("Already exists", None),
                Stage::Coming(current) => {
                    line("Downloading", Some(Detail { current, total: layer.bytes }));
                }
                Stage::AllHere | Stage::Done => {
                    if former != Some(Stage::AllHere) {
                        line("Verifying Checksum", None);
                        line("Download complete", None);
                    }
                    if stage == Stage::Done {
                        line("Pull complete", None);
                    } else {
                        line("Extracting", Some(Detail { current: layer.bytes, total: layer.bytes }));
                    }
                }
            }
            self.told.insert(name, stage);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use husk_model::Digest;

    use super::*;

    fn layer(number: u8, bytes_done: u64, state: LayerState) -> LayerProgress {
        LayerProgress { digest: Digest::from_sha256(&[number; 32]), bytes: 100, bytes_done, state }
    }

    fn told(layers: &mut Layers, now: &[LayerProgress]) -> Vec<String> {
        let shown = |line: Line| {
            let detail = line.detail.map(|detail| format!(" {}/{}", detail.current, detail.total));
            format!("{} {}{}", &line.layer[..2], line.status, detail.unwrap_or_default())
        };
        layers.lines(now).into_iter().map(shown).collect()
    }

    #[test]
    fn each_layer_comes_through_its_stages_once() {
        use LayerState::{Coming, Done, Exists, Waiting};
        let mut layers = Layers::default();
        let begin = [layer(1, 100, Exists), layer(2, 0, Waiting), layer(3, 0, Waiting), layer(2, 0, Waiting)];
        assert_eq!(
            told(&mut layers, &begin),
            ["01 Already exists", "02 Pulling fs layer", "03 Pulling fs layer"]
        );
        assert!(told(&mut layers, &begin).is_empty());
        assert_eq!(told(&mut layers, &[layer(2, 40, Coming)]), ["02 Downloading 40/100"]);
        let all_here = ["02 Verifying Checksum", "02 Download complete", "02 Extracting 100/100"];
        assert_eq!(told(&mut layers, &[layer(2, 100, Coming)]), all_here);
        assert_eq!(told(&mut layers, &[layer(2, 100, Done)]), ["02 Pull complete"]);
        assert!(told(&mut layers, &[layer(2, 100, Exists)]).is_empty(), "it has ended");
        // One that was quicker than a look.
        let quick = ["03 Verifying Checksum", "03 Download complete", "03 Pull complete"];
        assert_eq!(told(&mut layers, &[layer(3, 100, Done)]), quick);
    }

    #[test]
    fn a_layer_that_failed_comes_from_its_beginning() {
        let mut layers = Layers::default();
        told(&mut layers, &[layer(1, 100, LayerState::Coming)]);
        assert!(told(&mut layers, &[layer(1, 0, LayerState::Waiting)]).is_empty());
        assert_eq!(told(&mut layers, &[layer(1, 7, LayerState::Coming)]), ["01 Downloading 7/100"]);
    }
}
