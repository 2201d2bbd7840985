use std::process::Command;

use super::*;

const STATUS: &str = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t000000c000001000\nCapEff:\t0000000000001000\n\
                      CapBnd:\t000001ffffffffff\nCapAmb:\t8000000000000000\nNoNewPrivs:\t1\n";

#[test]
fn status_of_a_process_is_read() {
    let held = Held::parse(STATUS).unwrap();
    assert_eq!(held.effective, ["CAP_NET_ADMIN"]);
    assert_eq!(held.permitted, ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
    assert_eq!((held.bounding.len(), held.inheritable.len()), (41, 0));
    assert_eq!(held.ambient, ["CAP_63"], "a bit without a name is shown by its number");
    assert!(held.no_new_privs);
    for broken in ["", "CapInh:\tx\n", "Name:\tx\nCapEff:\t0\n"] {
        Held::parse(broken).unwrap_err();
    }
}

/// The reduction is for ever, so a child does it: this test binary, told to run only [`child`].
#[test]
fn a_process_keeps_only_what_is_named() {
    assert!(nix::unistd::geteuid().is_root(), "this test reduces root's capabilities and needs root");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kernel::capabilities::tests::child", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "not a test: run by a_process_keeps_only_what_is_named, in a process of its own"]
fn child() {
    require(&KEPT).unwrap();
    reduce_to(&KEPT).unwrap();
    let wanted = ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"];
    let held = Held::read_thread();
    for (set, names) in [("effective", &held.effective), ("permitted", &held.permitted), ("bounding", &held.bounding)] {
        assert_eq!(*names, wanted, "{set}");
    }
    assert!(held.inheritable.is_empty() && held.ambient.is_empty() && held.no_new_privs, "{held:?}");
    require(&KEPT).unwrap();

    // What was given up does not come back: not by asking, not by executing a program as root, and not for its children.
    caps::raise(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_err();
    let output = Command::new("/bin/cat").arg("/proc/self/status").output().unwrap();
    let executed = Held::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(executed, held, "a program started by root gets what is in the bounding set, and no more");

    reduce_to(&KEPT).expect("reducing again changes nothing");
    reduce_to(&KEPT[..1]).expect_err("the bounding set cannot be reduced any more without CAP_SETPCAP");
    let missing = Need { capability: Capability::CAP_SYS_TIME, reason: "set the clock" };
    assert!(
        require(&[missing])
            .unwrap_err()
            .to_string()
            .starts_with("CAP_SYS_TIME is missing: it is needed to set the clock")
    );
}

impl Held {
    /// Tests run on threads, and capabilities are a thread's.
    fn read_thread() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/thread-self/status").unwrap()).unwrap()
    }
}
