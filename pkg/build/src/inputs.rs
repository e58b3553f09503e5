//! An archive of which files are for the builder alone. BuildKit takes one whole, by its address; so it is told in operations of its own what the
//! build has, and where the Dockerfile is.
//!
//! ```text
//! fetch ─▶ unpack ─▶ dockerfile
//!             └────▶ remove ─▶ context
//! ```

use std::collections::BTreeMap;

use husk_model::Digest;
use husk_proto::buildkit::{
    Definition, FileAction, FileActionCopy, FileActionRm, FileOp, Input, Op, OpMetadata, SourceOp,
    file_action::Action, op::Op as Kind,
};
use prost::Message;
use sha2::{Digest as _, Sha256};

/// What the archive is called where it was fetched to.
const NAME: &str = "context";
/// In place of an input or an output: there is none.
const NOTHING: i64 = -1;

/// What the Dockerfile frontend gets: the archive at `address`, of which the build has all but the paths of `left_out`.
pub(crate) fn of_archive(address: String, left_out: &[String]) -> BTreeMap<String, Definition> {
    let mut made = Definition::default();
    let attrs = [("http.filename".to_owned(), NAME.to_owned())].into();
    let fetched = add(&mut made, None, Kind::Source(SourceOp { identifier: address, attrs }));
    let copy = FileActionCopy {
        src: format!("/{NAME}"),
        dest: "/".to_owned(),
        mode: -1,
        attempt_unpack: true,
        timestamp: -1,
    };
    let copy = FileAction { input: NOTHING, secondary_input: 0, output: 0, action: Some(Action::Copy(copy)) };
    let unpacked = add(&mut made, Some(fetched), Kind::File(FileOp { actions: vec![copy] }));
    let dockerfile = ended(made.clone(), unpacked.clone());
    let last = left_out.len().saturating_sub(1);
    let actions = left_out.iter().enumerate().map(|(number, path)| {
        let rm = FileActionRm { path: format!("/{path}"), allow_not_found: true };
        FileAction {
            // The operation has one input, after which the actions are counted.
            input: number as i64,
            secondary_input: NOTHING,
            output: if number == last { 0 } else { NOTHING },
            action: Some(Action::Rm(rm)),
        }
    });
    let context = add(&mut made, Some(unpacked), Kind::File(FileOp { actions: actions.collect() }));
    [("dockerfile".to_owned(), dockerfile), ("context".to_owned(), ended(made, context))].into()
}

/// Adds an operation; returns what names its result.
fn add(definition: &mut Definition, input: Option<Input>, kind: Kind) -> Input {
    let op = Op { inputs: input.into_iter().collect(), op: Some(kind) }.encode_to_vec();
    let digest = Digest::from_sha256(&Sha256::digest(&op).into());
    definition.def.push(op.into());
    definition.metadata.insert(digest.to_string(), OpMetadata::default());
    Input { digest: digest.to_string(), index: 0 }
}

fn ended(mut definition: Definition, result: Input) -> Definition {
    definition.def.push(Op { inputs: vec![result], op: None }.encode_to_vec().into());
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(definition: &Definition) -> Vec<Op> {
        definition.def.iter().map(|op| Op::decode(&op[..]).unwrap()).collect()
    }

    /// The result of the operation of this number.
    fn result(definition: &Definition, number: usize) -> String {
        Digest::from_sha256(&Sha256::digest(&definition.def[number]).into()).to_string()
    }

    #[test]
    fn the_dockerfile_is_read_where_the_build_has_it_not() {
        let left_out = [".dockerignore".to_owned(), "sub/Dockerfile".to_owned()];
        let inputs = of_archive("http://127.0.0.1:5/context/t".to_owned(), &left_out);
        let (dockerfile, context) = (&inputs["dockerfile"], &inputs["context"]);
        assert!(inputs.values().all(|input| !input.metadata.is_empty()), "else it counts as none");
        assert_eq!(ops(dockerfile).last().unwrap().inputs[0].digest, result(dockerfile, 1));
        let all = ops(context);
        assert_eq!(
            (all[1].inputs[0].digest.clone(), all[2].inputs[0].digest.clone()),
            (result(context, 0), result(context, 1))
        );
        assert_eq!(all[3].inputs[0].digest, result(context, 2));
        let Some(Kind::File(removes)) = &all[2].op else { panic!("{all:?}") };
        let shown: Vec<_> = removes
            .actions
            .iter()
            .map(|action| match &action.action {
                Some(Action::Rm(rm)) => (rm.path.as_str(), action.input, action.output),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, [("/.dockerignore", 0, -1), ("/sub/Dockerfile", 1, 0)]);
    }
}
