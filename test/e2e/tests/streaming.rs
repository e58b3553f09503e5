//! Exec, attach and port-forward as clients see them: crictl over both transports, and raw ones where crictl cannot.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use husk_e2e::{Daemon, Options, Subject, container, eventually, pod, run, tool, v1, with_command};
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket, client::IntoClientRequest, protocol::frame::coding::CloseCode,
};
use tonic::Code;

/// What crictl speaks. It asks for the fifth channel protocol over WebSocket, of which containerd 2.4 knows the fourth.
fn transports(runtime: &Subject) -> &'static [&'static str] {
    if runtime.is_husk() { &["spdy", "websocket"] } else { &["spdy"] }
}

/// The newest channel protocol that the runtime knows.
fn newest(runtime: &Subject) -> &'static str {
    if runtime.is_husk() { "v5.channel.k8s.io" } else { "v4.channel.k8s.io" }
}

const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime with a pod and a container that sleeps; returns both ids.
fn running(runtime: Subject) -> (Subject, String, String) {
    let config = pod("streams", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let id = runtime.cri().run(&pod_id, &config, &container("main"));
    (runtime, pod_id, id)
}

/// husk with this configuration of its streaming server.
fn configured(config: String) -> Subject {
    Subject::Husk(Daemon::with(Options { config, ..Options::default() }))
}

fn crictl(runtime: &Subject) -> Command {
    let endpoint = format!("unix://{}", runtime.address().display());
    let mut command = Command::new(tool("crictl"));
    command.args(["--runtime-endpoint", &endpoint, "--image-endpoint", &endpoint, "--timeout", "30s"]);
    command
}

fn exec_request(id: &str, cmd: &[&str]) -> v1::ExecRequest {
    v1::ExecRequest {
        container_id: id.to_owned(),
        cmd: cmd.iter().map(ToString::to_string).collect(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    }
}

fn exec_url(runtime: &Subject, request: v1::ExecRequest) -> String {
    let mut client = runtime.cri().runtime();
    runtime.cri().block_on(client.exec(request)).expect("a URL").into_inner().url
}

fn forward_url(runtime: &Subject, pod: &str, port: Vec<i32>) -> String {
    let mut client = runtime.cri().runtime();
    let request = v1::PortForwardRequest { pod_sandbox_id: pod.to_owned(), port };
    runtime.cri().block_on(client.port_forward(request)).expect("a URL").into_inner().url
}

// === a WebSocket client ===

struct Channels(WebSocket<TcpStream>);

impl Channels {
    fn open(url: &str, protocol: &str) -> Result<Self, tungstenite::http::StatusCode> {
        let mut request = url.replace("http://", "ws://").into_client_request().unwrap();
        if !protocol.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let address = request.uri().authority().unwrap().to_string();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                Err(response.status())
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn send(&mut self, channel: u8, bytes: &[u8]) {
        self.0.send(Message::binary([&[channel], bytes].concat())).unwrap();
    }

    /// The next message with something in it: channel and bytes, or the code of the close message.
    fn next(&mut self) -> Result<(u8, Vec<u8>), CloseCode> {
        loop {
            match self.0.read().unwrap() {
                Message::Binary(bytes) if bytes.len() > 1 => return Ok((bytes[0], bytes[1..].to_vec())),
                Message::Close(close) => return Err(close.map_or(CloseCode::Status, |close| close.code)),
                _ => {}
            }
        }
    }

    /// Everything until the close message: standard output, errors, status, close code.
    fn rest(&mut self) -> (String, String, String, CloseCode) {
        let mut heard = [const { Vec::new() }; 4];
        loop {
            match self.next() {
                Ok((channel, bytes)) => heard[usize::from(channel)].extend(bytes),
                Err(code) => {
                    let [_, out, err, status] = heard.map(|bytes| String::from_utf8(bytes).unwrap());
                    return (out, err, status, code);
                }
            }
        }
    }

    /// Reads a channel until `text` has come.
    fn until(&mut self, text: &str) -> String {
        let mut heard = String::new();
        while !heard.contains(text) {
            let (_, bytes) = self.next().unwrap_or_else(|code| panic!("{code} after {heard:?}"));
            heard.push_str(&String::from_utf8_lossy(&bytes));
        }
        heard
    }
}

// === exec ===

#[test]
fn megabytes_come_back_whole_and_exit_codes_are_told() {
    let (runtime, _, id) = running(Subject::start());
    let sent: Vec<u8> =
        (0..6u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for transport in transports(&runtime).iter().copied() {
        let mut cat = crictl(&runtime)
            .args(["exec", "-i", "-r", transport, &id, "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = cat.stdin.take().unwrap();
        let writer = {
            let sent = sent.clone();
            std::thread::spawn(move || stdin.write_all(&sent).unwrap())
        };
        let mut heard = Vec::new();
        cat.stdout.take().unwrap().read_to_end(&mut heard).unwrap();
        writer.join().unwrap();
        assert!(cat.wait().unwrap().success(), "{transport}");
        assert!(heard == sent, "{transport}: {} of {} bytes", heard.len(), sent.len());

        let failed = run(crictl(&runtime).args([
            "exec",
            "-r",
            transport,
            &id,
            "sh",
            "-c",
            "echo out; echo err >&2; exit 3",
        ]));
        assert_eq!((failed.stdout.as_str(), failed.stderr.contains("err\n")), ("out\n", true), "{transport}");
        assert!(failed.failure().contains("exit code 3"), "{transport}");
        let missing = run(crictl(&runtime).args(["exec", "-r", transport, &id, "/no/such/command"]));
        assert!(missing.failure().contains("/no/such/command"), "{transport}");
    }
}

#[test]
fn thousands_of_silent_connections_hold_up_no_exec() {
    husk_e2e::raise_open_files();
    let (runtime, _, id) = running(Subject::start());
    let url = exec_url(&runtime, exec_request(&id, &["echo", "served"]));
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let silent: Vec<_> = (0..2000).map(|_| TcpStream::connect(address).unwrap()).collect();
    // Some say half of a request and no more.
    for mut half in silent.iter().step_by(3) {
        let _closed_already = half.write(b"GET /exec/");
    }
    let (out, ..) = Channels::open(&url, newest(&runtime)).unwrap().rest();
    assert_eq!(out, "served\n");
}

/// What containerd 2.4 does not know.
#[test]
fn the_fifth_protocol_ends_input_by_message_and_closes_with_1000() {
    let (husk, _, id) = running(configured(String::new()));
    let request = exec_request(&id, &["sh", "-c", "cat; echo done >&2; exit 7"]);
    let mut client = Channels::open(&exec_url(&husk, request), "v5.channel.k8s.io").unwrap();
    client.send(0, b"hello");
    client.send(255, &[0]);
    client.0.send(Message::Ping("are you there".into())).unwrap();
    let (out, err, status, code) = client.rest();
    assert_eq!((out.as_str(), err.as_str(), code), ("hello", "done\n", CloseCode::Normal));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "7");
}

#[test]
fn a_terminal_has_its_first_size_from_the_start_and_learns_of_others() {
    let (runtime, _, id) = running(Subject::start());
    let script =
        "busybox stty size; trap 'busybox stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let request = v1::ExecRequest { tty: true, stderr: false, ..exec_request(&id, &["sh", "-c", script]) };
    let mut client = Channels::open(&exec_url(&runtime, request), "v4.channel.k8s.io").unwrap();
    client.send(4, br#"{"Width":101,"Height":33}"#);
    let heard = client.until("ready");
    if runtime.is_husk() {
        // On containerd the command may run before the first size is set.
        assert!(heard.contains("33 101"), "{heard:?}");
    }
    client.send(4, br#"{"Width":55,"Height":22}"#);
    client.until("22 55");
    // Ctrl-C.
    client.send(0, b"\x03");
    let (_, _, status, code) = client.rest();
    assert!(status.contains("\"130\""), "{status}");
    assert_eq!(code, CloseCode::Normal);
}

#[test]
fn a_url_works_once_and_only_for_its_purpose() {
    let (runtime, pod_id, id) = running(Subject::start());
    let protocol = newest(&runtime);
    let url = exec_url(&runtime, exec_request(&id, &["true"]));
    // On husk the session that it opens spends a URL, on containerd whoever asks.
    let unspent = |url: String| {
        if runtime.is_husk() { url } else { exec_url(&runtime, exec_request(&id, &["true"])) }
    };
    let crossed = url.replace("/exec/", "/attach/");
    assert_eq!(Channels::open(&crossed, protocol).err().unwrap(), 404);
    // A client whose protocol is unknown may try another.
    let url = unspent(url);
    assert_eq!(Channels::open(&url, "v99.channel.k8s.io").err().unwrap(), 403);
    let url = unspent(url);
    Channels::open(&url, protocol).unwrap().rest();
    assert_eq!(Channels::open(&url, protocol).err().unwrap(), 404);
    // What is no upgrade is looked at before the token on husk, after it on containerd.
    let no_upgrade = if runtime.is_husk() { "400" } else { "404" };
    for (url, code) in [
        (url.as_str(), no_upgrade),
        (&forward_url(&runtime, &pod_id, vec![]), "400"),
        (&url.replace("/exec/", "/nothing/"), "404"),
    ] {
        let answer = run(Command::new("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}", url]));
        assert_eq!(answer.success(), code, "{url}");
    }
}

#[test]
fn requests_that_make_no_sense_are_refused_with_their_field() {
    let (runtime, pod_id, id) = running(Subject::start());
    let mut client = runtime.cri().runtime();
    let mut refused = |request| runtime.cri().block_on(client.exec(request)).unwrap_err();
    let status = refused(v1::ExecRequest { tty: true, ..exec_request(&id, &["sh"]) });
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("stderr"), "{status}");
    let nothing =
        v1::ExecRequest { stdin: false, stdout: false, stderr: false, ..exec_request(&id, &["sh"]) };
    assert_eq!(refused(nothing).code(), Code::InvalidArgument);
    assert_eq!(refused(exec_request("nosuch", &["sh"])).code(), Code::NotFound);
    let mut client = runtime.cri().runtime();
    let mut forward = |pod_sandbox_id: &str, port| {
        let request = v1::PortForwardRequest { pod_sandbox_id: pod_sandbox_id.to_owned(), port };
        runtime.cri().block_on(client.port_forward(request)).unwrap_err().code()
    };
    if runtime.is_husk() {
        // containerd gives a URL for no command and for no port.
        assert_eq!(refused(exec_request(&id, &[])).code(), Code::InvalidArgument);
        assert_eq!(forward(&pod_id, vec![80, 70_000]), Code::InvalidArgument);
    }
    runtime.cri().stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_id.clone() }).unwrap();
    // The CRI names no code; containerd has none for it.
    let ended = if runtime.is_husk() { Code::FailedPrecondition } else { Code::Unknown };
    assert_eq!(forward(&pod_id, vec![80]), ended);
    assert_eq!(refused(exec_request(&id, &["sh"])).code(), ended);
}

fn count(runtime: &Subject, id: &str, what: &str) -> usize {
    let script = format!("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o '{what}' | wc -l");
    runtime.cri().exec(id, &["sh", "-c", &script]).unwrap().1.trim().parse().unwrap()
}

/// husk's promise, not the CRI's: containerd leaves such commands to their container.
#[test]
fn a_command_does_not_outlive_its_client() {
    let (husk, _, id) = running(configured(String::new()));
    // One ends with its input; one that never reads a full pipe and ignores all hints is killed after the grace.
    for script in ["cat; : 77700", "trap '' PIPE HUP; while :; do sleep 77700; done"] {
        let mut client =
            Channels::open(&exec_url(&husk, exec_request(&id, &["sh", "-c", script])), "v4.channel.k8s.io")
                .unwrap();
        eventually("the command runs", PATIENCE, || (count(&husk, &id, "7770[0]") > 0).then_some(()));
        client.0.get_ref().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        for _ in 0..64 {
            if client.0.send(Message::binary(vec![0; 128 << 10])).is_err() {
                break;
            }
        }
        let _ = client.0.get_ref().shutdown(Shutdown::Both);
        drop(client);
        eventually("the command is gone", PATIENCE, || (count(&husk, &id, "7770[0]") == 0).then_some(()));
    }
}

#[test]
fn an_ending_daemon_tells_its_sessions() {
    let (mut husk, _, id) = running(configured(String::new()));
    let url = exec_url(&husk, exec_request(&id, &["sleep", "100000"]));
    let mut client = Channels::open(&url, "v5.channel.k8s.io").unwrap();
    let listener = std::thread::spawn(move || client.rest());
    husk.stop();
    let (_, _, status, code) = listener.join().unwrap();
    assert!(status.contains("huskd is shutting down"), "{status}");
    assert_eq!(code, CloseCode::Normal);
    husk.spawn();
}

// === attach ===

#[test]
fn an_attached_client_talks_to_the_container_until_its_input_ends() {
    let runtime = Subject::start();
    let config = pod("attached", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    for transport in transports(&runtime).iter().copied() {
        let mut shell = with_command(transport, "exec sh");
        (shell.stdin, shell.stdin_once) = (true, true);
        let id = runtime.cri().run(&pod_id, &config, &shell);
        let mut client = crictl(&runtime)
            .args(["attach", "-i", "-r", transport, &id])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = client.stdin.take().unwrap();
        stdin.write_all(b"echo -n hello; echo there >&2\n").unwrap();
        drop(stdin);
        let mut heard = String::new();
        client.stdout.take().unwrap().read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello", "{transport}");
        assert!(client.wait().unwrap().success(), "{transport}");
        assert_eq!(runtime.cri().wait_exit(&id).exit_code, 0, "stdin_once ends the shell");
    }
}

// === port-forward ===

/// A crictl port-forward, its local port, and its output, which must stay open: it writes a line for each connection.
struct Forward(Child, u16, #[allow(dead_code)] BufReader<ChildStdout>);

impl Forward {
    fn start(runtime: &Subject, transport: &str, pod: &str, port: u16) -> Self {
        let mut child = crictl(runtime)
            .args(["port-forward", "-r", transport, pod, &format!(":{port}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let local = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).map(str::parse);
        Self(child, local.unwrap_or_else(|| panic!("{line:?}")).unwrap(), output)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.1)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(mut stream: TcpStream, question: &str) -> String {
    stream.write_all(question.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A pod on the node's network, so that the test itself can be what its ports lead to.
fn node_pod(runtime: &Subject) -> String {
    let mut config = pod("node", &runtime.path("logs"));
    // As a kubelet does: the node's hostname stays, and containerd fails to change it.
    config.hostname.clear();
    let options = v1::NamespaceOption { network: v1::NamespaceMode::Node.into(), ..Default::default() };
    config.linux.as_mut().unwrap().security_context =
        Some(v1::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() });
    runtime.cri().run_pod(&config).unwrap()
}

/// Sends everything back, on a port of `host`.
fn echo(host: &str) -> u16 {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut answers = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut answers);
                let _ = answers.shutdown(Shutdown::Write);
            });
        }
    });
    port
}

#[test]
fn ports_are_reached_over_both_families_and_a_reset_connection_leaves_the_others() {
    let runtime = Subject::start();
    let pod_id = node_pod(&runtime);
    let servers = [echo("127.0.0.1"), echo("::1")];
    for transport in transports(&runtime).iter().copied() {
        // containerd looks for IPv6 where the node's hosts file gives localhost such an address, which not every one does.
        for port in &servers[..if runtime.is_husk() { 2 } else { 1 }] {
            let port = *port;
            let forward = Forward::start(&runtime, transport, &pod_id, port);
            assert_eq!(ask(forward.connect(), "one"), "one", "{transport} {port}");
            let mut open = forward.connect();
            open.write_all(b"first").unwrap();
            let mut heard = [0; 5];
            open.read_exact(&mut heard).unwrap();
            // Broken off with bytes unread, by a reset.
            let mut broken = forward.connect();
            broken.write_all(&vec![1; 1 << 20]).unwrap();
            rustix::net::sockopt::set_socket_linger(&broken, Some(Duration::ZERO)).unwrap();
            drop(broken);
            assert_eq!(ask(forward.connect(), "two"), "two", "{transport} {port}");
            assert_eq!(ask(open, "third"), "third", "{transport} {port}");
        }
    }
}

/// husk's promise, not the CRI's: containerd ends the whole session with the connection.
#[test]
fn a_connection_that_the_pod_resets_does_not_end_the_session() {
    let husk = configured(String::new());
    let pod_id = node_pod(&husk);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for transport in transports(&husk).iter().copied() {
        let forward = Forward::start(&husk, transport, &pod_id, port);
        // Often enough to hit the moment at which the connection is made but huskd has not noticed it.
        for _ in 0..30 {
            let mut broken = forward.connect();
            broken.write_all(b"x").unwrap();
            let (server, _) = listener.accept().unwrap();
            rustix::net::sockopt::set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
            drop(server);
            // An end or a reset, whichever the client's library makes of it.
            let _ = broken.read_to_end(&mut Vec::new());
        }
        let mut next = forward.connect();
        next.write_all(b"still there").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut heard = [0; 11];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"still there", "{transport}");
    }
}

#[test]
fn channels_forward_the_ports_of_the_request() {
    let runtime = Subject::start();
    let pod_id = node_pod(&runtime);
    let port = echo("127.0.0.1");
    let url = forward_url(&runtime, &pod_id, vec![port.into(), 1]);
    let mut client = Channels::open(&url, "v4.channel.k8s.io").unwrap();
    client.send(0, b"hello");
    let mut heard = [const { Vec::new() }; 4];
    while heard[0].len() < 7 || heard[3].len() < 20 {
        let (channel, bytes) = client.next().unwrap();
        heard[usize::from(channel)].extend(bytes);
    }
    assert_eq!(heard[0], [&port.to_le_bytes()[..], b"hello"].concat());
    assert_eq!(heard[1], port.to_le_bytes());
    assert!(String::from_utf8_lossy(&heard[3][2..]).contains("port 1"), "{:?}", heard[3]);
}

// === TLS ===

#[test]
fn certificates_are_read_again_when_they_change() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    let renew = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(path(name), made.cert.pem()).unwrap();
        for (target, text) in [("cert", made.cert.pem()), ("key", made.signing_key.serialize_pem())] {
            fs::write(path("new"), text).unwrap();
            fs::rename(path("new"), path(target)).unwrap();
        }
    };
    renew("first");
    let config = format!("[streaming]\ntls_certificate = {:?}\ntls_key = {:?}\n", path("cert"), path("key"));
    let (husk, _, id) = running(configured(config));
    let url = exec_url(&husk, exec_request(&id, &["true"]));
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let trusted = |name: &str| {
        let code = run(Command::new("curl").args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--cacert",
            &path(name),
            &url,
        ]));
        code.stdout == "400"
    };
    assert!(trusted("first"));
    renew("second");
    assert!(trusted("second") && !trusted("first"));
    for transport in transports(&husk).iter().copied() {
        let said = run(crictl(&husk).args(["exec", "-r", transport, &id, "echo", "over TLS"])).success();
        assert_eq!(said, "over TLS\n", "{transport}");
    }
}

#[test]
fn silence_ends_a_session_and_streams_that_do_not_come_too() {
    let config =
        "[streaming]\nidle_timeout = \"1s\"\ncreation_timeout = \"1s\"\nmax_sessions = 1\n".to_owned();
    let (husk, _, id) = running(configured(config));
    let began = Instant::now();
    let mut idle =
        Channels::open(&exec_url(&husk, exec_request(&id, &["sleep", "100000"])), "v5.channel.k8s.io")
            .unwrap();
    let url = exec_url(&husk, exec_request(&id, &["true"]));
    assert_eq!(Channels::open(&url, "v5.channel.k8s.io").err().unwrap(), 503, "one session at a time");
    let (_, _, status, _) = idle.rest();
    assert!(status.contains("idle timeout"), "{status}");
    drop(idle);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let address = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let path = url.split_once(&address).unwrap().1;
    // A SPDY client that opens no stream.
    let mut answer = Vec::new();
    eventually("the place is free", PATIENCE, || {
        let mut client = TcpStream::connect(&address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: husk\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
        );
        client.write_all(request.as_bytes()).unwrap();
        answer.clear();
        let _ = client.read_to_end(&mut answer);
        answer.starts_with(b"HTTP/1.1 101").then_some(())
    });
}

#[test]
fn the_sessions_of_one_pod_keep_no_other_pod_from_a_shell() {
    let config = "[streaming]\nmax_sessions = 4\n".to_owned();
    let (husk, _, id) = running(configured(config));
    let open =
        |id: &str, cmd: &[&str]| Channels::open(&exec_url(&husk, exec_request(id, cmd)), "v5.channel.k8s.io");
    let greedy: Vec<Channels> =
        std::iter::from_fn(|| open(&id, &["sleep", "100000"]).ok()).take(100).collect();
    assert_eq!(greedy.len(), 2, "half of the places");
    let mut held = Vec::new();
    for name in ["second", "third", "fourth"] {
        let config = pod(name, &husk.path("logs"));
        let pod_id = husk.cri().run_pod(&config).unwrap();
        let id = husk.cri().run(&pod_id, &config, &container("main"));
        let mut shell =
            open(&id, &["sh", "-c", &format!("echo {name}; exec sleep 100000")]).expect("a place");
        shell.until(name);
        held.push(shell);
    }
    assert_eq!(open(&id, &["true"]).err().unwrap(), 503);
}
