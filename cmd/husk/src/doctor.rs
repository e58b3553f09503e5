//! `husk doctor`: what belongs to nobody, as the running huskd finds it.

use clap::Args;
use husk_proto::admin::{ExamineRequest, node_client::NodeClient};

use crate::{
    client::{Result, connect},
    table,
};

/// What is wanted.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Remove what is found
    #[arg(long)]
    repair: bool,
}

/// Prints what was found. Whether anything is left is the answer's second half.
pub(crate) async fn run(address: &str, Doctor { repair }: Doctor) -> Result<bool> {
    let mut client = NodeClient::new(connect(address).await?);
    let findings = client.examine(ExamineRequest { repair }).await?.into_inner().findings;
    if findings.is_empty() {
        println!("nothing on this node belongs to nobody");
        return Ok(true);
    }
    let mut rows = vec![["KIND", "OBJECT", "STATE"].map(str::to_owned)];
    let clean = findings.iter().all(|finding| finding.repaired);
    rows.extend(findings.into_iter().map(|finding| {
        let state = match (finding.repaired, finding.failure.as_str()) {
            (true, _) => "removed".to_owned(),
            (false, "") => "left; --repair removes it".to_owned(),
            (false, failure) => format!("cannot be removed: {failure}"),
        };
        [finding.kind, finding.object, state]
    }));
    table::print(&rows);
    Ok(clean)
}
