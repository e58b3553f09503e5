//! Users and groups as the container's process has them (CRI: run_as_user and its companions).

use husk_model::{GroupSpec, GroupsPolicy, UserRequest, UserSpec};
use husk_runtime::Step;

use crate::{cases, world::World};

cases![
    a_numeric_user_gets_its_group_and_memberships,
    strict_groups_leave_the_images_memberships_out,
    an_unknown_uid_has_group_0,
    a_name_is_looked_up_in_the_container,
    user_and_group_of_the_request_win,
    cve_2026_46680_an_id_that_does_not_fit_is_an_error,
    cve_2026_47262_an_endless_group_file_is_refused,
    cve_2022_4318_no_file_but_a_regular_one_is_read,
    a_passwd_that_links_out_of_the_root_is_the_containers_own,
];

fn id(world: &World, user: UserRequest) -> String {
    let pod = world.pod();
    let mut container = world.container(&pod, &["sh", "-c", "echo $(id -u):$(id -g):$(id -G)"]);
    container.user = user;
    let running = container.create().unwrap();
    let reported = running.ready.account.user.clone();
    let shown = running.start().finish().stdout.trim().to_owned();
    let mut groups: Vec<u32> =
        shown.rsplit(':').next().unwrap().split(' ').map(|id| id.parse().unwrap()).collect();
    groups.sort_unstable();
    assert_eq!(reported.groups, groups, "what is reported is what the process has");
    format!("{}:{}:{groups:?}", reported.uid, reported.gid)
}

fn of(user: UserSpec) -> UserRequest {
    UserRequest { user, ..UserRequest::default() }
}

fn a_numeric_user_gets_its_group_and_memberships(world: &World) {
    let request = UserRequest { supplemental_groups: vec![1234, 5678], ..of(UserSpec::Uid(1000)) };
    assert_eq!(id(world, request), "1000:1000:[1000, 1234, 5678, 50000]");
}

fn strict_groups_leave_the_images_memberships_out(world: &World) {
    let request = UserRequest {
        supplemental_groups: vec![1234],
        groups_policy: GroupsPolicy::Strict,
        ..of(UserSpec::Uid(1000))
    };
    assert_eq!(id(world, request), "1000:1000:[1000, 1234]");
}

fn an_unknown_uid_has_group_0(world: &World) {
    assert_eq!(id(world, of(UserSpec::Uid(1001))), "1001:0:[0]");
}

fn a_name_is_looked_up_in_the_container(world: &World) {
    assert_eq!(id(world, of(UserSpec::Name("user".into()))), "1000:1000:[1000, 50000]");
    let pod = world.pod();
    let mut container = world.container(&pod, &["id"]);
    // A user of the node, not of the image.
    container.user = of(UserSpec::Name("daemon".into()));
    let failure = container.create().err().unwrap();
    assert_eq!(failure.step, Step::ResolveUser);
    assert!(failure.detail.contains("\"daemon\""), "{failure}");
}

fn user_and_group_of_the_request_win(world: &World) {
    let request = UserRequest { group: GroupSpec::Gid(1002), ..of(UserSpec::Uid(1001)) };
    assert_eq!(id(world, request), "1001:1002:[1002]");
    let request = UserRequest { group: GroupSpec::Name("extra".into()), ..of(UserSpec::Root) };
    assert_eq!(id(world, request), "0:50000:[50000]");
}

fn cve_2026_46680_an_id_that_does_not_fit_is_an_error(world: &World) {
    let pod = world.pod();
    for user in [UserSpec::Name("4294967296".into()), UserSpec::Name("-1".into()), UserSpec::Uid(u32::MAX)] {
        let mut container = world.container(&pod, &["id"]);
        container.user = of(user);
        // The image has it all the same, as the name of a root.
        let etc = container.rootfs.upper.join("etc");
        std::fs::create_dir(&etc).unwrap();
        std::fs::write(etc.join("passwd"), "4294967296:x:0:0::/:\n-1:x:0:0::/:\n4294967295:x:0:0::/:\n")
            .unwrap();
        assert_eq!(container.create().err().unwrap().step, Step::ResolveUser);
    }
}

fn cve_2026_47262_an_endless_group_file_is_refused(world: &World) {
    let pod = world.pod();
    let mut container = world.container(&pod, &["id"]);
    container.user = of(UserSpec::Uid(1000));
    let etc = container.rootfs.upper.join("etc");
    std::fs::create_dir(&etc).unwrap();
    let group = std::fs::File::create(etc.join("group")).unwrap();
    group.set_len(1 << 40).unwrap();
    let failure = container.create().err().unwrap();
    assert_eq!((failure.step, failure.object.as_str()), (Step::ResolveUser, "/etc/group"));
    assert_eq!(failure.errno, Some(rustix::io::Errno::FBIG));
}

fn cve_2022_4318_no_file_but_a_regular_one_is_read(world: &World) {
    let pod = world.pod();
    let mut container = world.container(&pod, &["id"]);
    container.user = of(UserSpec::Uid(1000));
    let etc = container.rootfs.upper.join("etc");
    std::fs::create_dir(&etc).unwrap();
    // A pipe nobody writes to would hang whoever opens it.
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, etc.join("passwd"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(container.create().err().unwrap().step, Step::ResolveUser);
}

fn a_passwd_that_links_out_of_the_root_is_the_containers_own(world: &World) {
    let outside = world.scratch("outside").join("passwd");
    std::fs::write(&outside, "outsider:x:4711:4711::/:/bin/sh\n").unwrap();
    let pod = world.pod();
    let mut container = world.container(&pod, &["id"]);
    container.user = of(UserSpec::Name("outsider".into()));
    let etc = container.rootfs.upper.join("etc");
    std::fs::create_dir(&etc).unwrap();
    std::os::unix::fs::symlink(&outside, etc.join("passwd")).unwrap();
    assert_eq!(container.create().err().unwrap().step, Step::ResolveUser);
}
