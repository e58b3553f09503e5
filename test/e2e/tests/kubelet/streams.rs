//! Exec, attach and port-forward through the kubelet's own server, which hands them on to the runtime's.

use husk_e2e::{NODE, WebSocket};
use serde_json::{Value, json};

use crate::{Day, Gates, manifest, merge, shell};

const V4: &str = "v4.channel.k8s.io";
const V5: &str = "v5.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;

fn talkative() -> Value {
    let serve = "mkdir -p /tmp/www; echo forwarded > /tmp/www/name; exec httpd -f -p 8080 -h /tmp/www";
    let interactive = json!({ "stdin": true, "stdinOnce": true });
    let terminal = "read line; echo got $line; read line; exit 4";
    manifest(
        "talk",
        json!({
            "restartPolicy": "Never",
            "containers": [
                merge(shell("main", serve), json!({ "readinessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 } })),
                merge(shell("reader", "cat; echo the end"), interactive),
                merge(shell("terminal", terminal), json!({ "stdin": true, "tty": true })),
            ],
        }),
    )
}

/// Percent-encodes what a query cannot carry.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

fn open(day: &Day, path: &str, protocol: &str) -> WebSocket {
    let trusted = day.kubelet.dir().join("certs/kubelet.crt");
    WebSocket::open(day.port(), NODE, &trusted, path, protocol)
}

fn exec(day: &Day, options: &str, script: &str, protocol: &str) -> WebSocket {
    let command: String =
        ["sh", "-c", script].iter().map(|word| format!("&command={}", escaped(word))).collect();
    open(day, &format!("/exec/default/talk-{NODE}/main?{options}{command}"), protocol)
}

fn attach(day: &Day, container: &str, options: &str, protocol: &str) -> WebSocket {
    open(day, &format!("/attach/default/talk-{NODE}/{container}?{options}"), protocol)
}

/// The exit code of a metav1.Status.
fn code(status: &str) -> i64 {
    let status: Value = serde_json::from_str(status).unwrap_or_else(|error| panic!("{status:?}: {error}"));
    if status["status"] == "Success" {
        return 0;
    }
    let causes = status["details"]["causes"].as_array().expect("causes");
    let cause = causes.iter().find(|cause| cause["reason"] == "ExitCode").expect("an exit code");
    cause["message"].as_str().expect("text").parse().expect("a number")
}

#[test]
fn exec_attach_and_port_forward_go_through_the_kubelet() {
    let day = Day::start(Gates::Off);
    day.kubelet.apply(&talkative());
    day.wait_container("it serves", "talk", "main", |status| (status["ready"] == true).then_some(()));
    for container in ["reader", "terminal"] {
        day.wait_container("it runs", "talk", container, |status| status["state"].get("running").map(drop));
    }

    for protocol in [V4, V5] {
        let all = "input=1&output=1&error=1";
        let mut stream = exec(&day, all, "read line; echo out $line; echo err >&2; exit 3", protocol);
        stream.send(STDIN, b"hello\n");
        let said = stream.read_all();
        assert_eq!((said.text(STDOUT), said.text(STDERR)), ("out hello\n".to_owned(), "err\n".to_owned()));
        assert_eq!(code(&said.text(STATUS)), 3, "{protocol}");

        let mut stream = exec(
            &day,
            "input=1&output=1&tty=1",
            "until busybox stty size | grep '30 100'; do sleep 0.05; done",
            protocol,
        );
        stream.send(RESIZE, br#"{"Width":100,"Height":30}"#);
        let said = stream.read_all();
        assert!(said.text(STDOUT).contains("30 100") && code(&said.text(STATUS)) == 0, "{said:?}");

        let said = exec(&day, "output=1", "seq 1 20000", protocol).read_all();
        let lines = said.text(STDOUT);
        assert!(
            lines.lines().map(|line| line.parse::<usize>().unwrap()).eq(1..=20_000),
            "every byte in order"
        );
    }
    // Only v5 can end what it sends and go on reading.
    let mut stream = exec(&day, "input=1&output=1", "cat; echo the end", V5);
    stream.send(STDIN, b"all there is\n");
    stream.end(STDIN);
    assert_eq!(stream.read_all().text(STDOUT), "all there is\nthe end\n");

    let mut stream = attach(&day, "reader", "input=1&output=1&error=1", V5);
    stream.send(STDIN, b"typed\n");
    stream.hear(STDOUT, "typed\n");
    stream.end(STDIN);
    stream.hear(STDOUT, "the end\n");
    assert_eq!(day.wait_terminated("talk", "reader")["exitCode"], json!(0));
    assert_eq!(day.logs("talk", "reader", ""), "typed\nthe end\n");

    let mut stream = attach(&day, "terminal", "input=1&output=1&tty=1", V4);
    stream.send(STDIN, b"a word\n");
    stream.hear(STDOUT, "got a word\r\n");
    drop(stream);
    // A terminal that is left is still there for the next.
    let mut stream = attach(&day, "terminal", "input=1&output=1&tty=1", V5);
    stream.send(STDIN, b"another\n");
    assert_eq!(day.wait_terminated("talk", "terminal")["exitCode"], json!(4));
    drop(stream);

    // A port's data and errors are channels 0 and 1; each begins with the port's number.
    let mut stream = open(&day, &format!("/portForward/default/talk-{NODE}?port=8080"), V4);
    stream.send(STDIN, b"GET /name HTTP/1.0\r\n\r\n");
    let said = stream.hear(0, "forwarded");
    assert_eq!(said.channels[&0][..2], 8080u16.to_le_bytes());
    assert!(said.text(0).contains("200 OK"), "{said:?}");
    drop(stream);
    day.end();
}
