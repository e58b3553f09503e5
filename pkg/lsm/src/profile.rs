//! The text of husk's default AppArmor profile.

/// Its name in the kernel.
pub(crate) const NAME: &str = "husk-default";

/// What a container may do is decided by capabilities, namespaces, the device cgroup and seccomp; the profile is the second
/// fence around what none of these covers: the files by which /proc and /sys change the node, mounting, and the processes of
/// others. It grants everything and then denies (in AppArmor a denial always wins), so that images run as they are.
///
/// The sysctls of the pod's own namespaces stay writable for those to whom the kernel gives them: System V shared memory,
/// messages and semaphores, message queues, and the network.
pub(crate) const TEXT: &str = r#"
profile husk-default flags=(attach_disconnected,mediate_deleted) {
  file,
  network,
  capability,
  umount,
  unix,

  # Whoever is allowed to may signal and trace a container; it reaches containers only.
  signal (receive),
  signal (send) peer=husk-default,
  ptrace (readby, tracedby),
  ptrace (read, trace) peer=husk-default,

  deny mount,
  deny remount,
  deny pivot_root,

  # The node's memory, its keyboard combinations, its hardware.
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /proc/kmem rwklx,
  deny /proc/mem rwklx,
  deny /proc/{acpi,bus,fs,irq,scsi,timer_list,tty}/{,**} wklx,

  # Sysctls, but those of the namespaces a pod has for itself.
  deny /proc/sys/{abi,crypto,debug,dev,user,vm}/{,**} wklx,
  deny /proc/sys/fs/[^m]** wklx,
  deny /proc/sys/fs/mount-max wklx,
  deny /proc/sys/kernel/[^ms]** wklx,
  deny /proc/sys/kernel/m[^s]** wklx,
  deny /proc/sys/kernel/s[^eh]** wklx,
  deny /proc/sys/kernel/seccomp/{,**} wklx,

  # The kernel's view of the node; a container's own cgroups lie in /sys/fs/cgroup.
  deny /sys/[^f]*/{,**} wklx,
  deny /sys/f[^s]*/{,**} wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/firmware/{,**} rwklx,
  deny /sys/kernel/security/{,**} rwklx,
  # How much power the processor draws tells what others compute (CVE-2020-8694).
  deny /sys/devices/virtual/powercap/{,**} rwklx,
}
"#;
