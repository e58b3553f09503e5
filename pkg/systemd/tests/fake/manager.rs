//! A fake of systemd's manager: as much of it as husk uses, with behaviours that a test chooses.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use futures_util::StreamExt;
use tokio::task::JoinHandle;
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, OwnedVariant, connection::Builder};

const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// How the fake answers StartTransientUnit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// The job ends well, after the answer.
    #[default]
    Works,
    /// JobRemoved is sent before the answer.
    EndsEarly,
    /// The job fails.
    Fails,
    /// It is refused.
    Refused,
    /// No answer comes.
    Silent,
    /// The answer comes, the end of the job does not.
    NeverEnds,
}

/// What the fake was asked to do and how it answers.
#[derive(Debug, Default)]
pub struct World {
    pub start: Start,
    /// Where processes are moved, if the fake is to move them: the mount point of a v2 tree.
    pub tree: Option<PathBuf>,
    /// Properties of the units that were started, by name.
    pub started: HashMap<String, HashMap<String, OwnedVariant>>,
    pub stopped: Vec<String>,
    /// Told of every StartTransientUnit.
    pub heard: Option<tokio::sync::mpsc::UnboundedSender<String>>,
}

pub struct Manager {
    pub world: Arc<Mutex<World>>,
    pub connection: Connection,
    task: JoinHandle<()>,
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Manager {
    /// Takes systemd's name on a bus.
    pub async fn on_bus(address: &str, world: Arc<Mutex<World>>) -> Self {
        let connection = Builder::address(address).build().await.unwrap();
        let calls = MessageStream::from(&connection);
        connection.request_name("org.freedesktop.systemd1").await.unwrap();
        let task = tokio::spawn(serve(connection.clone(), calls, Arc::clone(&world)));
        Self { world, connection, task }
    }
}

async fn serve(connection: Connection, mut calls: MessageStream, world: Arc<Mutex<World>>) {
    while let Some(Ok(message)) = calls.next().await {
        if message.message_type() == zbus::message::Type::MethodCall {
            answer(&connection, &message, &world).await;
        }
    }
}

async fn answer(connection: &Connection, message: &Message, world: &Mutex<World>) {
    let header = message.header();
    match header.member().map(|name| name.as_str()) {
        Some("Subscribe") => connection.reply(&header, &()).await.unwrap(),
        Some("StartTransientUnit") => start(connection, message, world).await,
        Some("StopUnit") => {
            let (unit, _mode): (String, String) = message.body().deserialize().unwrap();
            let known = world.lock().unwrap().started.contains_key(&unit);
            if !known {
                let name = "org.freedesktop.systemd1.NoSuchUnit";
                return connection.reply_error(&header, name, &"not loaded").await.unwrap();
            }
            world.lock().unwrap().stopped.push(unit.clone());
            connection.reply(&header, &job(2)).await.unwrap();
            removed(connection, 2, &unit, "done").await;
        }
        _ => {}
    }
}

async fn start(connection: &Connection, message: &Message, world: &Mutex<World>) {
    type Properties = Vec<(String, OwnedVariant)>;
    let header = message.header();
    let (unit, _mode, properties, _aux): (String, String, Properties, Vec<(String, Properties)>) =
        message.body().deserialize().unwrap();
    let (how, tree) = {
        let world = world.lock().unwrap();
        if let Some(heard) = &world.heard {
            heard.send(unit.clone()).unwrap();
        }
        (world.start, world.tree.clone())
    };
    let properties: HashMap<_, _> = properties.into_iter().collect();
    if let Some(tree) = tree {
        // Every slice of these tests is one level deep.
        let slice = String::try_from(properties["Slice"].try_clone().unwrap()).unwrap();
        let cgroup = tree.join(slice).join(&unit);
        fs::create_dir_all(&cgroup).unwrap();
        let pids: Vec<u32> = properties["PIDs"].try_clone().unwrap().try_into().unwrap();
        fs::write(cgroup.join("cgroup.procs"), pids[0].to_string()).unwrap();
    }
    world.lock().unwrap().started.insert(unit.clone(), properties);
    match how {
        Start::Works | Start::Fails => {
            connection.reply(&header, &job(1)).await.unwrap();
            removed(connection, 1, &unit, if how == Start::Works { "done" } else { "failed" }).await;
        }
        Start::EndsEarly => {
            removed(connection, 1, &unit, "done").await;
            connection.reply(&header, &job(1)).await.unwrap();
        }
        Start::Refused => {
            let name = "org.freedesktop.systemd1.UnitExists";
            connection.reply_error(&header, name, &"it is there already").await.unwrap();
        }
        Start::NeverEnds => connection.reply(&header, &job(1)).await.unwrap(),
        Start::Silent => {}
    }
}

fn job(number: u32) -> OwnedObjectPath {
    format!("{PATH}/job/{number}").try_into().unwrap()
}

/// Says that a job ended, as whoever `connection` is.
pub async fn removed(connection: &Connection, number: u32, unit: &str, result: &str) {
    let body = (number, job(number), unit, result);
    connection.emit_signal(None::<&str>, PATH, MANAGER, "JobRemoved", &body).await.unwrap();
}
