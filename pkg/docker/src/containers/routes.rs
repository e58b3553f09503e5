//! Requests below `/containers` and `/exec`.

use husk_model::{Signal, WindowSize};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    create::{self, Create},
    execs::{ExecCreate, ExecStart},
    plan,
    store::Store,
    wait,
};
use crate::{
    api::{
        container::{Config, CreateBesides},
        from_value,
    },
    error::{Failure, Result},
    filters::Filters,
    http::{Answer, Call, Query, empty, json},
};

/// Answers a request; `path` has its decoded segments, the first being `containers` or `exec`.
///
/// # Errors
/// Those of what is asked for.
pub(crate) async fn route(store: &Store, mut call: Call, path: &[&str]) -> Result<Answer> {
    match (call.method.clone(), path) {
        (Method::GET, ["containers", "json"]) => json(StatusCode::OK, &store.list(&call).await?),
        (Method::POST, ["containers", "create"]) => created(store, &mut call).await,
        (Method::POST, ["containers", "prune"]) => Box::pin(prune(store, &call)).await,
        (Method::POST, ["commit"]) => store.commit(call).await,
        (Method::DELETE, ["containers", id]) => {
            let query = &call.query;
            if query.flag("link") {
                store.unlink(id).await?;
                return Ok(empty(StatusCode::NO_CONTENT));
            }
            store.remove(&store.find(id)?, query.flag("force"), query.flag("v")).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (Method::DELETE, ["containers", owner, alias]) if call.query.flag("link") => {
            store.unlink(&format!("{owner}/{alias}")).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (method, ["containers", id, rest @ ..]) => Box::pin(container(store, call, method, id, rest)).await,
        (method, ["exec", id, rest @ ..]) => exec(store, call, method, id, rest).await,
        _ => Err(Failure::no_page()),
    }
}

async fn created(store: &Store, call: &mut Call) -> Result<Answer> {
    let name = call.query.get("name").unwrap_or_default().to_owned();
    let body: Value = call.json().await?;
    let wrong = |error| Failure::bad(format!("invalid JSON: {error}"));
    let config: Config = from_value(body.clone()).map_err(wrong)?;
    let besides: CreateBesides = from_value(body).map_err(wrong)?;
    let (container, warnings) = store.make(Create { name, config, besides }).await?;
    json(StatusCode::CREATED, &create::answer(&container, &warnings))
}

async fn container(store: &Store, mut call: Call, method: Method, id: &str, rest: &[&str]) -> Result<Answer> {
    let container = store.find(id)?;
    let done = || Ok(empty(StatusCode::NO_CONTENT));
    match (method, rest) {
        (Method::GET, ["json"]) => {
            json(StatusCode::OK, &store.inspect(&container, call.query.flag("size")).await)
        }
        (Method::GET, ["logs"]) => store.logs(&container, &call),
        (Method::GET, ["top"]) => {
            json(StatusCode::OK, &store.top(&container, call.query.get("ps_args")).await?)
        }
        (Method::GET, ["stats"]) => store.stats(&container, &call).await,
        (Method::POST, ["start"]) => {
            store.start(&container).await?;
            done()
        }
        (Method::POST, ["stop"]) => {
            store.stop(&container, call.query.number("t")?, signal(&call.query)?).await?;
            done()
        }
        (Method::POST, ["restart"]) => {
            store.restart(&container, call.query.number("t")?, signal(&call.query)?).await?;
            done()
        }
        (Method::POST, ["kill"]) => {
            store.kill(&container, signal(&call.query)?.unwrap_or(Signal::KILL)).await?;
            done()
        }
        (Method::POST, ["pause"]) => {
            store.pause(&container).await?;
            done()
        }
        (Method::POST, ["unpause"]) => {
            store.unpause(&container).await?;
            done()
        }
        (Method::POST, ["rename"]) => {
            let name = call.query.need("name")?;
            let old = store.rename(&container, name).await?;
            store.publish(&container.record(), "rename", [("oldName", format!("/{old}"))]);
            done()
        }
        (Method::POST, ["update"]) => {
            let change: Value = call.json().await?;
            store.update(&container, change).await?;
            json(StatusCode::OK, &json!({ "Warnings": [] }))
        }
        (Method::POST, ["resize"]) => {
            store.resize(&container, size(&call.query)?).await?;
            Ok(empty(StatusCode::OK))
        }
        (Method::POST, ["wait"]) => wait::answer(store, &container, &call),
        (Method::POST, ["attach"]) => store.attach(&container, &call),
        (Method::HEAD, ["archive"]) => store.stat_archive(&container, &call).await,
        (Method::GET, ["archive"]) => store.get_archive(&container, &call).await,
        (Method::PUT, ["archive"]) => store.put_archive(&container, call).await,
        (Method::GET, ["export"]) => store.export(&container).await,
        (Method::GET, ["changes"]) => json(StatusCode::OK, &store.changes(&container).await?),
        (Method::POST, ["exec"]) => {
            let wanted: ExecCreate = call.json().await?;
            store.create_exec(&container, wanted)
        }
        _ => Err(Failure::no_page()),
    }
}

async fn exec(store: &Store, mut call: Call, method: Method, id: &str, rest: &[&str]) -> Result<Answer> {
    match (method, rest) {
        (Method::GET, ["json"]) => json(StatusCode::OK, &store.inspect_exec(id)?),
        (Method::POST, ["start"]) => {
            let asked: ExecStart = call.json_if_any().await?.unwrap_or_default();
            store.start_exec(id, asked, &call)
        }
        (Method::POST, ["resize"]) => store.resize_exec(id, size(&call.query)?).await,
        _ => Err(Failure::no_page()),
    }
}

fn signal(query: &Query) -> Result<Option<Signal>> {
    plan::signal(query.get("signal").unwrap_or_default())
}

fn size(query: &Query) -> Result<WindowSize> {
    let side = |key: &str| Ok::<_, Failure>(query.number::<u16>(key)?.unwrap_or(0));
    Ok(WindowSize { columns: side("w")?, rows: side("h")? })
}

async fn prune(store: &Store, call: &Call) -> Result<Answer> {
    let filters = Filters::of(&call.query, &["label", "label!", "until"])?;
    let (mut deleted, mut space) = (Vec::new(), 0);
    for container in store.all() {
        let record = container.record();
        let wanted = !record.state.is_running()
            && record.state.phase != super::record::Phase::Restarting
            && filters.labels_suit(&record.config.labels)
            && super::list::made_before(&record, filters.single("until")?)?;
        if !wanted {
            continue;
        }
        let size = store.written(&container).await;
        // One that was started meanwhile stays.
        if store.remove(&container, false, false).await.is_ok() {
            deleted.push(container.id.clone());
            space += size;
        }
    }
    json(StatusCode::OK, &json!({ "ContainersDeleted": deleted, "SpaceReclaimed": space }))
}
