//! Layers through links: names resolve inside the root that the layers make up, absolute links start at that root, and
//! nothing leaves it. What a container would see is compared, and what an unpacker that applies one layer onto the other
//! would have made (containerd's, where it takes such a layer).

mod common;

use std::fs;

use common::{Tar, assert_untouched, is_root, merged, outside, stack, store, unpack};

/// Files with their content, links with their target.
const LIST: &str = "find . ! -type d | LC_ALL=C sort | while read -r f; do \
    if [ -L \"$f\" ]; then echo \"$f -> $(readlink \"$f\")\"; else echo \"$f=$(cat \"$f\")\"; fi; done";

async fn check(name: &str, layers: Vec<Vec<u8>>, expected: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let paths = stack(&store, root.path(), layers).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    let Some(shown) = merged(root.path(), &paths, LIST) else { return };
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "{name}");
    // The record tells the truth whatever links became of.
    let out = root.path().join("out.tar");
    store.export(&["x:1".to_owned()], &out, |_| {}).await.unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn base() -> Vec<u8> {
    Tar::new()
        .dir("run", 0o755)
        .dir("usr", 0o755)
        .dir("usr/lib", 0o750)
        .file("usr/lib/so", 0o644, b"so")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib")
        .dir("var", 0o755)
        .symlink("var/run", "/../run")
        .symlink("so.link", "lib/so")
        .bytes()
}

#[tokio::test]
async fn members_through_links_of_their_own_layer() {
    if !is_root() {
        return;
    }
    let own = Tar::new().dir("run", 0o755).dir("var", 0o755).symlink("var/run", "/run").file(
        "var/run/x",
        0o644,
        b"x",
    );
    check("absolute", vec![own.bytes()], &["./run/x=x", "./var/run -> /run"]).await;
    let before = Tar::new().symlink("l", "d/e").file("l/x", 0o644, b"x").dir("d", 0o711).dir("d/e", 0o700);
    check("before its target", vec![before.bytes()], &["./d/e/x=x", "./l -> d/e"]).await;
    let dangling = Tar::new().symlink("l", "/no/where").file("l/x", 0o644, b"x");
    check("dangling", vec![dangling.bytes()], &["./l -> /no/where", "./no/where/x=x"]).await;
    let up = Tar::new().symlink("a/l", "../../../../b").file("a/l/x", 0o644, b"x");
    check("above the root", vec![up.bytes()], &["./a/l -> ../../../../b", "./b/x=x"]).await;
    let chain = Tar::new().symlink("a", "/b").symlink("b", "c/../d").dir("c", 0o755).file("a/x", 0o644, b"x");
    check("chain", vec![chain.bytes()], &["./a -> /b", "./b -> c/../d", "./d/x=x"]).await;
    let replaced =
        Tar::new().symlink("l", "one").file("l/x", 0o644, b"x").symlink("l", "two").file("l/y", 0o644, b"y");
    check("replaced link", vec![replaced.bytes()], &["./l -> two", "./one/x=x", "./two/y=y"]).await;
    let twice = Tar::new().symlink("l", "d").file("l/x", 0o644, b"one").file("d/x", 0o644, b"two");
    check("twice", vec![twice.bytes()], &["./d/x=two", "./l -> d"]).await;
}

#[tokio::test]
async fn members_through_links_of_a_layer_below() {
    if !is_root() {
        return;
    }
    let files = Tar::new()
        .file("lib/a", 0o644, b"a")
        .file("abs/b", 0o644, b"b")
        .file("var/run/c", 0o644, b"c")
        .dir("lib/sub", 0o755)
        .file("lib/sub/d", 0o644, b"d");
    let unchanged = ["./abs -> /usr/lib", "./lib -> usr/lib", "./so.link -> lib/so"];
    let expect = |more: &[&'static str]| {
        let mut all: Vec<&str> = unchanged.iter().copied().chain(more.iter().copied()).collect();
        all.sort_unstable();
        all
    };
    let run = "./var/run -> /../run";
    check(
        "files",
        vec![base(), files.bytes()],
        &expect(&[
            "./run/c=c",
            "./usr/lib/a=a",
            "./usr/lib/b=b",
            "./usr/lib/so=so",
            "./usr/lib/sub/d=d",
            run,
        ]),
    )
    .await;
    // Its own link leads to a link below.
    let own = Tar::new().symlink("mine", "/lib/inner").file("mine/x", 0o644, b"x");
    check(
        "own link to a link below",
        vec![base(), own.bytes()],
        &expect(&["./mine -> /lib/inner", "./usr/lib/inner/x=x", "./usr/lib/so=so", run]),
    )
    .await;
    // `lib/..` is `usr`, as the layers below have it.
    let dots = Tar::new().symlink("mine", "lib/../share").file("mine/x", 0o644, b"x");
    check(
        "dots through a link below",
        vec![base(), dots.bytes()],
        &expect(&["./mine -> lib/../share", "./usr/lib/so=so", "./usr/share/x=x", run]),
    )
    .await;
    let whiteout = Tar::new().file("lib/.wh.so", 0o644, b"").file("lib/new", 0o644, b"n");
    check("whiteout", vec![base(), whiteout.bytes()], &expect(&["./usr/lib/new=n", run])).await;
    let opaque = Tar::new().file("lib/.wh..wh..opq", 0o644, b"").file("lib/new", 0o644, b"n");
    check("opaque", vec![base(), opaque.bytes()], &expect(&["./usr/lib/new=n", run])).await;
    // The link itself is replaced: later members are in the directory, earlier ones are where it led.
    let replaced = Tar::new().file("lib/early", 0o644, b"e").dir("lib", 0o755).file("lib/late", 0o644, b"l");
    check(
        "replaced",
        vec![base(), replaced.bytes()],
        &[
            "./abs -> /usr/lib",
            "./lib/late=l",
            "./so.link -> lib/so",
            "./usr/lib/early=e",
            "./usr/lib/so=so",
            "./var/run -> /../run",
        ],
    )
    .await;
    let hidden = Tar::new().file(".wh.lib", 0o644, b"").file("lib/x", 0o644, b"x");
    check(
        "hidden",
        vec![base(), hidden.bytes()],
        &["./abs -> /usr/lib", "./lib/x=x", "./so.link -> lib/so", "./usr/lib/so=so", run],
    )
    .await;
    // Three layers, the link in the middle.
    let (bottom, middle) = (Tar::new().dir("data", 0o755).bytes(), Tar::new().symlink("d", "data").bytes());
    let top = Tar::new().file("d/x", 0o644, b"x").bytes();
    check("middle", vec![bottom, middle, top], &["./d -> data", "./data/x=x"]).await;
}

#[tokio::test]
async fn hard_links_to_links_and_through_layers_below() {
    if !is_root() {
        return;
    }
    let own = Tar::new().symlink("s", "/t").hardlink("h", "s");
    check("to a symlink", vec![own.bytes()], &["./h -> /t", "./s -> /t"]).await;
    let through = Tar::new().dir("d", 0o755).file("d/f", 0o644, b"f").symlink("l", "/d").hardlink("h", "l/f");
    check("through a symlink", vec![through.bytes()], &["./d/f=f", "./h=f", "./l -> /d"]).await;
    let below = [
        "./abs -> /usr/lib",
        "./copy=so",
        "./lib -> usr/lib",
        "./link -> lib/so",
        "./so.link -> lib/so",
        "./usr/lib/so=so",
        "./var/run -> /../run",
    ];
    let links = Tar::new().hardlink("copy", "abs/so").hardlink("link", "so.link");
    check("below", vec![base(), links.bytes()], &below).await;
    // The target is what was there when the link was made.
    let old = Tar::new().hardlink("old", "f").file("f", 0o644, b"new");
    let first = Tar::new().file("f", 0o644, b"first").bytes();
    check("before it is replaced", vec![first, old.bytes()], &["./f=new", "./old=first"]).await;
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let gone = Tar::new().file(".wh.f", 0o644, b"").hardlink("h", "f").bytes();
    let first = Tar::new().file("f", 0o644, b"first").bytes();
    let error = stack(&store, root.path(), vec![first, gone]).await.unwrap_err();
    assert!(error.contains("no layer has"), "{error}");
}

#[tokio::test]
async fn nothing_leaves_the_root() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let out = outside(root.path());
    let target = out.to_str().unwrap();
    let up = "../".repeat(20);
    let out_up = format!("{up}{}", &target[1..]);
    for (name, layer) in [
        ("dots", Tar::new().file(&format!("{up}tmp/husk-evil"), 0o644, b"x")),
        ("dots inside", Tar::new().file("a/../../x", 0o644, b"x")),
        ("absolute name", Tar::new().file("//tmp/husk-evil", 0o644, b"x")),
        ("absolute link", Tar::new().symlink("l", target).file("l/secret", 0o644, b"x")),
        ("relative link", Tar::new().symlink("l", &out_up).file("l/secret", 0o644, b"x")),
        ("chain", Tar::new().symlink("a", "b").symlink("b", target).file("a/secret", 0o644, b"x")),
        ("directory", Tar::new().symlink("l", target).dir("l/d", 0o777)),
        ("over a link", Tar::new().symlink("f", &format!("{target}/secret")).file("f", 0o644, b"x")),
        ("whiteout", Tar::new().symlink("l", target).file("l/.wh.secret", 0o644, b"")),
        ("opaque", Tar::new().symlink("l", target).file("l/.wh..wh..opq", 0o644, b"")),
        ("to proc", Tar::new().symlink("l", "/proc/self/root/tmp").file("l/husk-evil", 0o644, b"x")),
    ] {
        unpack(&store, root.path(), layer.bytes()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_untouched(&out, name);
    }
    // And through the links of a layer below.
    let below = Tar::new().symlink("l", target).bytes();
    let top = Tar::new().file("l/secret", 0o644, b"x").file("l/.wh.other", 0o644, b"").bytes();
    let paths = stack(&store, root.path(), vec![below, top]).await.unwrap();
    assert_untouched(&out, "through a layer below");
    assert_eq!(fs::read(paths[0].join(&target[1..]).join("secret")).unwrap(), b"x");
}

#[tokio::test]
async fn a_directory_that_replaces_something_does_not_merge_with_what_was_below_that() {
    if !is_root() {
        return;
    }
    let below = || Tar::new().dir("d", 0o755).file("d/below", 0o644, b"b").bytes();
    let file = Tar::new().file("d", 0o644, b"f").dir("d", 0o755).file("d/x", 0o644, b"x").bytes();
    check("file", vec![below(), file], &["./d/x=x"]).await;
    let link = Tar::new().symlink("d", "e").dir("d", 0o755).file("d/x", 0o644, b"x").bytes();
    check("link", vec![below(), link], &["./d/x=x"]).await;
    let merges = Tar::new().dir("d", 0o755).file("d/x", 0o644, b"x").bytes();
    check("nothing", vec![below(), merges], &["./d/below=b", "./d/x=x"]).await;
    let over = Tar::new().dir("d", 0o755).file("d/x", 0o644, b"x").file("d", 0o644, b"f").bytes();
    check("file over directory", vec![below(), over], &["./d=f"]).await;
}

#[tokio::test]
async fn a_layer_that_is_listed_twice_is_mounted_once() {
    if !is_root() {
        return;
    }
    let a = Tar::new().file("f", 0o644, b"a").file("only-a", 0o644, b"a").bytes();
    let b = Tar::new().file("f", 0o644, b"b").file(".wh.only-a", 0o644, b"").bytes();
    let empty = vec![0; 1024];
    let layers = vec![a.clone(), empty.clone(), b, empty.clone(), a, empty];
    check("twice", layers, &["./f=a", "./only-a=a"]).await;
}

#[tokio::test]
async fn names_of_all_kinds() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let layer = Tar::new()
        .dir("./", 0o755)
        .dir("/", 0o755)
        .dir("a//b/./c/", 0o755)
        .pax(&[("path", b"bytes-\xff\xfe")])
        .file("x", 0o644, b"bytes")
        .pax(&[("path", b"first")])
        .pax(&[("path", b"second")])
        .file("x", 0o644, b"last wins")
        .file("line\nbreak", 0o644, b"n")
        .bytes();
    let path = unpack(&store, root.path(), layer).await.unwrap();
    use std::os::unix::ffi::OsStrExt;
    let bytes = std::ffi::OsStr::from_bytes(b"bytes-\xff\xfe");
    assert_eq!(fs::read(path.join(bytes)).unwrap(), b"bytes");
    assert_eq!(fs::read(path.join("second")).unwrap(), b"last wins");
    assert!(path.join("a/b/c").is_dir() && path.join("line\nbreak").is_file());
    // The last member may lack its padding, and all that follows.
    let whole = Tar::new().file("f", 0o644, b"content").bytes();
    let path = unpack(&store, root.path(), whole[..512 + 7].to_vec()).await.unwrap();
    assert_eq!(fs::read(path.join("f")).unwrap(), b"content");
}
